import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2 as kafka_python_murmur2

from headrace.streams.partitioners import (
    Partitioner,
    misrouted,
    murmur2,
    murmur2_of,
    partition_of,
    partitions_of,
)

LONG = b"this is another string with more length to it perhaps"


@pytest.mark.parametrize(
    ("key", "expected"),
    [  # Kafka's UtilsTest.java
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_javas(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected % 2**32


@pytest.mark.parametrize(
    ("key", "crc", "murmur"),
    [  # librdkafka's tests/0048-partitioner.c
        (b"23456", 0xB1B451D7, 0x058D780F),
        (LONG, 0xB0150DF7, 0x4F7703DA),
        (b"hejsan", 0xD077037E, 0x5EC19395),
    ],
)
def test_both_put_keys_where_librdkafka_does(key: bytes, crc: int, murmur: int) -> None:
    for partitions in (1, 7, 17):
        assert partition_of(key, partitions, "crc32") == crc % partitions
        assert partition_of(key, partitions, "murmur2") == murmur % partitions


@given(st.binary(max_size=300))
def test_murmur2_is_kafka_pythons(key: bytes) -> None:
    assert murmur2(key) == kafka_python_murmur2(key)


@given(st.lists(st.binary(max_size=90), max_size=40), st.integers(1, 64), st.sampled_from(["murmur2", "crc32"]))
def test_many_at_once_equal_each(keys: list[bytes], partitions: int, partitioner: Partitioner) -> None:
    assert partitions_of(keys, partitions, partitioner).tolist() == [
        partition_of(key, partitions, partitioner) for key in keys
    ]
    assert murmur2_of(keys).tolist() == [murmur2(key) for key in keys]


def test_a_record_elsewhere_is_misrouted() -> None:
    right = partition_of(b"c1", 8, "murmur2")
    assert misrouted(b"c1", right, 8, "murmur2") is None
    error = misrouted(b"c1", (right + 1) % 8, 8, "murmur2")
    assert error is not None
    assert (error.field, error.reason) == ("key", "misrouted")


def test_the_two_disagree_so_mixed_producers_are_found() -> None:
    keys = [f"client-{one}".encode() for one in range(1000)]
    agree = (partitions_of(keys, 8, "murmur2") == partitions_of(keys, 8, "crc32")).mean()
    assert 0.05 < agree < 0.25

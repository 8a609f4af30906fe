"""Which records of a topic of pairs are due: each pair once, whatever came before and however often it comes."""

from collections import Counter
from itertools import chain, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.ingestion import Record
from headrace.streams.label_queue import Due, LabelQueue
from headrace.streams.pairs import UnlabelledPair, encode, pair_of

PARTITIONS = 3
PAIRS = [pair_of(f"q{number}", "i", "title") for number in range(12)]


def place(key: bytes) -> int:
    return int(key[:8], 16) % PARTITIONS if key else 0


def record(pair: UnlabelledPair, offset: int, partition: int | None = None) -> Record:
    key = pair.pair_id.encode()
    return Record(place(key) if partition is None else partition, offset, key, encode(pair), 1)


def queue(**labelled: set[str]) -> LabelQueue:
    found = LabelQueue(place)
    found.own({partition: labelled.get(f"p{partition}", set()) for partition in range(PARTITIONS)})
    return found


def ids(due: Due) -> list[str]:
    return [pair.pair_id for _, pair in due.pairs]


def test_a_batch_says_what_to_ask_what_to_put_away_and_where_to_commit() -> None:
    desk = queue()
    bad = Record(0, 7, b"k", b"{", 1)
    lost = record(PAIRS[0], 8, (place(PAIRS[0].pair_id.encode()) + 1) % PARTITIONS)
    desk.add([record(PAIRS[0], 4), bad, record(PAIRS[0], 5), lost, record(PAIRS[1], 9)])
    due = desk.take(10)
    assert due is not None
    assert ids(due) == [PAIRS[0].pair_id, PAIRS[1].pair_id]
    assert due.passed == 1
    assert [(one.offset, error.reason) for one, error in due.rejected] == [(7, "not_json"), (8, "misrouted")]
    expected: dict[int, int] = {}
    for one in (record(PAIRS[0], 4), bad, record(PAIRS[0], 5), lost, record(PAIRS[1], 9)):
        expected[one.partition] = one.offset + 1
    assert due.positions == expected
    assert desk.take(10) is None


def test_a_batch_that_came_to_nothing_is_due_again_and_a_settled_one_is_not() -> None:
    desk, labelled = LabelQueue(place), {partition: set[str]() for partition in range(PARTITIONS)}
    for _ in range(2):
        desk.own(labelled)
        desk.add([record(PAIRS[0], 0)])
        due = desk.take(5)
        assert due is not None and ids(due) == [PAIRS[0].pair_id]
        last = due
    desk.settle(last)
    desk.own(labelled)
    desk.add([record(PAIRS[0], 0)])
    due = desk.take(5)
    assert due is not None and (ids(due), due.passed) == ([], 1)


def test_what_a_teacher_cannot_say_is_put_away_with_its_record() -> None:
    desk = queue()
    desk.add([record(PAIRS[0], 0), record(PAIRS[1], 1)])
    due = desk.take(5)
    assert due is not None
    due.refuse({PAIRS[1].pair_id})
    assert ids(due) == [PAIRS[0].pair_id]
    assert [(one.offset, error.reason) for one, error in due.rejected] == [(1, "out_of_range")]


def test_records_of_partitions_that_others_have_are_left_out() -> None:
    desk = LabelQueue(place)
    desk.own({})
    desk.add([record(PAIRS[0], 0)])
    assert len(desk) == 0


def test_a_batch_of_pairs_that_are_labelled_is_bounded_in_records() -> None:
    name = PAIRS[0].pair_id
    desk = queue(**{f"p{place(name.encode())}": {name}})
    desk.add([record(PAIRS[0], offset) for offset in range(1_000)])
    due = desk.take(2)
    assert due is not None
    assert (len(due.pairs), due.passed) == (0, 32)


@given(
    st.lists(st.sampled_from(PAIRS), max_size=40),
    st.integers(1, 5),
    st.lists(st.sampled_from(["settled", "labels only", "lost"]), max_size=20),
)
def test_each_pair_is_labelled_once_wherever_the_worker_dies(
    sent: list[UnlabelledPair], most: int, fates: list[str]
) -> None:
    offsets: Counter[int] = Counter()
    log: list[Record] = []
    for pair in sent:
        where = place(pair.pair_id.encode())
        log.append(record(pair, offsets[where]))
        offsets[where] += 1
    labels: list[str] = []
    committed: dict[int, int] = dict.fromkeys(range(PARTITIONS), 0)
    for fate in chain(fates, repeat("settled")):
        desk = queue(**{f"p{partition}": set(labels) for partition in range(PARTITIONS)})  # a new worker each time
        desk.add([one for one in log if one.offset >= committed[one.partition]])
        due = desk.take(most)
        if due is None:
            break
        if fate != "lost":
            labels += ids(due)
        if fate == "settled":
            committed |= due.positions
    assert sorted(labels) == sorted({pair.pair_id for pair in sent})


def test_an_empty_queue_has_nothing_due() -> None:
    assert queue().take(3) is None


@pytest.mark.parametrize("most", [1, 3])
def test_a_batch_has_at_most_so_many_pairs(most: int) -> None:
    desk = queue()
    desk.add([record(pair, offset) for offset, pair in enumerate(PAIRS)])
    due = desk.take(most)
    assert due is not None and len(due.pairs) == most

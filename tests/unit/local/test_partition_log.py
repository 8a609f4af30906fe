"""A partition's log: what is read is what was written, torn ends are cut, and nobody's batch is in it twice."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kafka.record.memory_records import MemoryRecords

from headrace.local.broker import batches
from headrace.local.broker import partition_log as module
from headrace.local.broker.codes import Code, Refusal
from headrace.local.broker.partition_log import PartitionLog
from record_batches import batch_of

EVERYTHING = 1 << 30
# A log of its own for each example: the folder of the test is shared by all of them.
MANY_LOGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LOGS = st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=4), min_size=1, max_size=6)


def append(log: PartitionLog, records: bytes, append_time_ms: int | None = None) -> int:
    return log.append(records, batches.produced(records), append_time_ms)


def filled(path: Path, values: list[list[bytes]]) -> PartitionLog:
    path.unlink(missing_ok=True)
    log = PartitionLog(path)
    for number, few in enumerate(values):
        append(log, batch_of(few, first_ms=1_000 * number))
    return log


def values_of(records: bytes) -> list[tuple[int, bytes]]:
    return [(record.offset, record.value) for batch in MemoryRecords(records) for record in batch]


def all_of(log: PartitionLog) -> list[tuple[int, bytes]]:
    return values_of(log.read(log.start_offset, EVERYTHING))


@given(LOGS)
@MANY_LOGS
def test_what_is_read_is_what_was_written_also_after_it_was_closed(tmp_path: Path, values: list[list[bytes]]) -> None:
    log = filled(tmp_path / "0.log", values)
    flat = list(enumerate(value for few in values for value in few))
    assert all_of(log) == flat
    log.close()
    again = PartitionLog(tmp_path / "0.log")
    assert (all_of(again), again.next_offset, again.cut_bytes) == (flat, len(flat), 0)
    again.close()


@given(LOGS, st.data())
@MANY_LOGS
def test_a_torn_end_is_cut_and_the_log_goes_on(tmp_path: Path, values: list[list[bytes]], data: st.DataObject) -> None:
    path = tmp_path / "0.log"
    log = filled(path, values)
    ends = [log.bytes_from(0) - log.bytes_from(at) for at in range(log.next_offset + 1)]
    log.close()
    whole = path.read_bytes()
    kept_bytes = data.draw(st.integers(0, len(whole)))
    torn = data.draw(st.binary(max_size=100)) if kept_bytes < len(whole) else b""
    path.write_bytes(whole[:kept_bytes] + torn)
    again = PartitionLog(path)
    left = path.read_bytes()
    assert whole.startswith(left)
    assert len(left) in ends
    assert len(left) >= max(end for end in ends if end <= kept_bytes), "what was whole is still there"
    assert again.read(0, EVERYTHING) == left
    next_offset = again.next_offset
    assert append(again, batch_of([b"new"])) == next_offset
    assert all_of(again)[-1] == (next_offset, b"new")
    again.close()


@given(LOGS, st.data())
@MANY_LOGS
def test_a_changed_byte_is_never_read(tmp_path: Path, values: list[list[bytes]], data: st.DataObject) -> None:
    path = tmp_path / "0.log"
    log = filled(path, values)
    sizes = [log.bytes_from(at) for at in range(log.next_offset)]
    log.close()
    whole = bytearray(path.read_bytes())
    last_bytes = min(sizes)
    # The offset and the leader's epoch are the broker's own and outside the checksum.
    at = data.draw(st.integers(len(whole) - last_bytes + 16, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(whole)
    again = PartitionLog(path)
    assert again.cut_bytes == last_bytes
    assert path.stat().st_size == len(whole) - last_bytes
    again.close()
    for cut in tmp_path.glob("*.cut"):
        cut.unlink()


def test_what_is_cut_lies_beside_the_log(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    log = filled(path, [[b"a", b"b"], [b"c"], [b"d"]])
    first_bytes = log.bytes_from(0) - log.bytes_from(2)
    log.close()
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[first_bytes + 61] ^= 1
    path.write_bytes(damaged)
    again = PartitionLog(path)
    assert (again.next_offset, again.cut_bytes) == (2, len(whole) - first_bytes)
    assert again.cut_path == tmp_path / "0.2.cut"
    assert "checksum" in again.cut_reason
    assert path.read_bytes() + again.cut_path.read_bytes() == bytes(damaged)
    append(again, batch_of([b"new"]))
    again.close()
    path.write_bytes(path.read_bytes()[:-1])
    last = PartitionLog(path)
    assert last.cut_path.read_bytes().startswith(bytes(damaged[first_bytes:])), "what lies there already stays"
    last.close()


def test_nothing_is_cut_when_it_cannot_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    filled(path, [[b"a"], [b"b"]]).close()
    torn = path.read_bytes()[:-1]
    path.write_bytes(torn)
    (tmp_path / "0.1.cut").mkdir()
    with pytest.raises(OSError, match="directory"):
        PartitionLog(path)
    assert path.read_bytes() == torn


def test_a_wrong_length_takes_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "0.log"
    filled(path, [[b"a"]]).close()
    path.write_bytes(path.read_bytes() + (1).to_bytes(8) + (2**31 - 13).to_bytes(4) + bytes(60))
    pread, asked = os.pread, list[int]()

    def read(file: int, size: int, at: int) -> bytes:
        asked.append(size)
        return pread(file, size, at)

    monkeypatch.setattr(os, "pread", read)
    log = PartitionLog(path)
    assert (log.next_offset, log.cut_bytes) == (1, 72)
    assert max(asked) <= 1 << 20
    log.close()


@pytest.mark.parametrize("text", ["", "x", "-1", "9" * 30])
def test_a_damaged_start_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "0.start").write_text(text)
    with pytest.raises(ValueError, match=r"0\.start holds no offset: delete it"):
        PartitionLog(tmp_path / "0.log")


@given(LOGS, st.integers(0, 30), st.integers(0, 400))
@MANY_LOGS
def test_reads_are_whole_batches_within_the_limit_or_one(
    tmp_path: Path, values: list[list[bytes]], offset: int, most_bytes: int
) -> None:
    log = filled(tmp_path / "0.log", values)
    offset = min(offset, log.next_offset)
    found = log.read(offset, most_bytes)
    read = list(MemoryRecords(found))
    assert sum(batch.size_in_bytes for batch in read) == len(found)
    assert len(found) <= most_bytes or len(read) == 1
    assert bool(read) == (offset < log.next_offset)
    if read:
        assert read[0].base_offset <= offset <= read[0].last_offset
        behind = log.bytes_from(offset) - len(found)
        next_bytes = len(log.read(read[-1].next_offset, 0)) if behind else 0
        assert not behind or len(found) + next_bytes > most_bytes, "one more would have fitted"
    assert len(log.read(offset, most_bytes, at_least_one=False)) <= most_bytes
    log.close()


def test_a_duplicate_is_answered_with_its_first_offset_and_a_gap_is_refused(tmp_path: Path) -> None:
    log = PartitionLog(tmp_path / "0.log")
    first, second = batch_of([b"a", b"b"], producer=(7, 0, 0)), batch_of([b"c"], producer=(7, 0, 2))
    assert (append(log, first), append(log, second)) == (0, 2)
    assert (append(log, first), append(log, second)) == (0, 2)
    with pytest.raises(Refusal) as gap:
        append(log, batch_of([b"e"], producer=(7, 0, 4)))
    assert gap.value.code == Code.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert log.next_offset == 3
    log.close()
    again = PartitionLog(tmp_path / "0.log")
    assert append(again, second) == 2, "it is known after a restart too"
    assert append(again, batch_of([b"d"], producer=(7, 0, 3))) == 3
    again.close()


def test_an_older_epoch_is_refused_and_a_newer_begins_with_0(tmp_path: Path) -> None:
    log = PartitionLog(tmp_path / "0.log")
    append(log, batch_of([b"a"], producer=(7, 1, 0)))
    for producer, code in [((7, 0, 1), Code.INVALID_PRODUCER_EPOCH), ((7, 2, 1), Code.OUT_OF_ORDER_SEQUENCE_NUMBER)]:
        with pytest.raises(Refusal) as refused:
            append(log, batch_of([b"b"], producer=producer))
        assert refused.value.code == code
    assert append(log, batch_of([b"b"], producer=(7, 2, 0))) == 1
    log.close()


def test_sequences_go_round(tmp_path: Path) -> None:
    log = PartitionLog(tmp_path / "0.log")
    append(log, batch_of([b"a", b"b"], producer=(7, 0, 2**31 - 2)))
    assert append(log, batch_of([b"c"], producer=(7, 0, 0))) == 2
    log.close()


def test_deleted_records_stay_deleted_and_offsets_go_on(tmp_path: Path) -> None:
    log = filled(tmp_path / "0.log", [[b"a", b"b"], [b"c"]])
    assert log.delete_before(1) == 1
    with pytest.raises(Refusal, match="OFFSET_OUT_OF_RANGE"):
        log.read(0, EVERYTHING)
    assert log.delete_before(0) == 1
    assert log.first_since(0) == (1, 1)
    log.close()
    log = PartitionLog(tmp_path / "0.log")
    assert log.start_offset == 1
    assert log.delete_before(-1) == 3
    assert (tmp_path / "0.log").stat().st_size == 0
    log.close()
    log = PartitionLog(tmp_path / "0.log")
    assert (log.start_offset, log.next_offset, log.newest()) == (3, 3, None)
    assert append(log, batch_of([b"d"])) == 3
    with pytest.raises(Refusal, match="OFFSET_OUT_OF_RANGE"):
        log.delete_before(5)
    log.close()


def test_offsets_by_time(tmp_path: Path) -> None:
    log = PartitionLog(tmp_path / "0.log")
    for first_ms in (5_000, 1_000, 9_000):
        append(log, batch_of([b"x", b"y"], first_ms=first_ms, compression=1))
    asked = {0: (0, 5_000), 5_001: (1, 5_001), 5_002: (4, 9_000), 9_001: (5, 9_001), 9_002: None}
    assert {at_ms: log.first_since(at_ms) for at_ms in asked} == asked
    assert log.newest() == (5, 9_001)
    log.delete_before(2)
    assert log.first_since(0) == (2, 1_000)
    log.close()


def test_a_topic_may_have_the_brokers_time(tmp_path: Path) -> None:
    log = PartitionLog(tmp_path / "0.log")
    append(log, batch_of([b"x", b"y"], first_ms=5), append_time_ms=77)
    (batch,) = MemoryRecords(log.read(0, EVERYTHING))
    assert batch.validate_crc()
    assert [(record.timestamp, record.timestamp_type) for record in batch] == [(77, 1), (77, 1)]
    assert log.newest() == (0, 77)
    log.close()


def test_what_is_no_sound_batch_is_refused() -> None:
    sound = batch_of([b"a"])
    changed = sound[:-1] + bytes([sound[-1] ^ 1])
    old = sound[:16] + b"\x01" + sound[17:]
    cases = {
        b"": Code.INVALID_RECORD,
        changed: Code.CORRUPT_MESSAGE,
        sound[:-1]: Code.CORRUPT_MESSAGE,
        old: Code.UNSUPPORTED_VERSION,
        sound + sound: Code.INVALID_RECORD,
    }
    for records, code in cases.items():
        with pytest.raises(Refusal) as refused:
            batches.produced(records)
        assert refused.value.code == code


def test_whoever_waits_hears_of_news(tmp_path: Path) -> None:
    log, heard = PartitionLog(tmp_path / "0.log"), list[str]()
    log.listeners.add(lambda: heard.append("news"))
    append(log, batch_of([b"a"]))
    log.delete_before(1)
    log.close()
    assert heard == ["news"] * 3


def test_a_full_disk_deletes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = filled(tmp_path / "0.log", [[b"a"]])

    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(module, "replace_text", full)
    with pytest.raises(Refusal, match="cannot be written") as refused:
        log.delete_before(1)
    assert refused.value.code == Code.KAFKA_STORAGE_ERROR
    assert all_of(log) == [(0, b"a")]
    log.close()


def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = filled(tmp_path / "0.log", [[b"a"]])
    write = os.write

    def full(file: int, data: memoryview) -> int:
        if len(data) < 30:
            raise OSError(errno.ENOSPC, "no space left on device")
        return write(file, data[: len(data) // 2])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        for _ in range(3):
            with pytest.raises(Refusal, match="cannot be written"):
                append(log, batch_of([b"b"]))
        assert [one.getMessage().count("no space left") for one in caplog.records] == [1], "said once"
    assert append(log, batch_of([b"c"])) == 1
    assert all_of(log) == [(0, b"a"), (1, b"c")]
    log.close()
    again = PartitionLog(tmp_path / "0.log")
    assert (again.cut_bytes, all_of(again)) == (0, [(0, b"a"), (1, b"c")])
    again.close()

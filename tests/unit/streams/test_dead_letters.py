import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import BadEvent, TooLate
from headrace.streams.dead_letters import (
    NOTE_KEY,
    Content,
    DeadLetter,
    Ledger,
    Letter,
    Note,
    dead_letter,
    escaped,
    escaped_text,
    note_record,
    overtaken,
    read,
    scan_from,
    way_back,
)
from headrace.streams.events import EventLimits
from headrace.streams.ingestion import Record
from headrace.streams.partitioners import partition_of
from ubi_records import AT_MS, click, raw

TOPIC = "search.events.v1"
CLICK = raw(click())


def letter_of(record: Record, error: BadEvent | None = None, at: tuple[int, int] = (0, 0)) -> Letter:
    written = dead_letter(TOPIC, record, error or BadEvent("key", "misrouted"))
    letter = read(Record(*at, written.key, written.value, 5), written.headers)
    assert isinstance(letter, Letter)
    return letter


def test_a_letter_is_the_record_unchanged_with_its_origin_and_why() -> None:
    record = Record(3, 17, b"c1", b"\xff{", AT_MS)
    assert dead_letter(TOPIC, record, BadEvent("a.b", "not_json", "why")) == DeadLetter(
        "search.events.v1.dlq",
        b"c1",
        b"\xff{",
        (
            ("x-origin-topic", b"search.events.v1"),
            ("x-origin-partition", b"3"),
            ("x-origin-offset", b"17"),
            ("x-origin-timestamp", str(AT_MS).encode()),
            ("x-error-class", b"BadEvent"),
            ("x-error-reason", b"not_json"),
            ("x-error-field", b"a.b"),
            ("x-error-detail", b"why"),
        ),
    )


def test_too_late_goes_to_late() -> None:
    written = dead_letter(TOPIC, Record(0, 0, None, None, 0), TooLate("timestamp", "late"))
    assert written.topic == "search.events.v1.late"
    assert (written.key, written.value) == (None, None)


@given(
    st.binary(max_size=30) | st.none(),
    st.binary(max_size=60) | st.none(),
    st.integers(-1, 2**62),
    st.text(max_size=600),
    st.text(max_size=600),
)
def test_what_is_written_is_read(
    key: bytes | None, value: bytes | None, timestamp_ms: int, field: str, detail: str
) -> None:
    letter = letter_of(Record(1, 2, key, value, timestamp_ms), BadEvent(field, "missing", detail), at=(7, 8))
    assert (letter.partition, letter.offset, letter.key, letter.value) == (7, 8, key, value)
    assert (letter.origin_topic, letter.origin_partition, letter.origin_offset) == (TOPIC, 1, 2)
    assert (letter.origin_timestamp_ms, letter.reason) == (timestamp_ms, "missing")


@given(st.binary(max_size=60), st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=20))))
def test_a_record_of_someone_else_is_no_letter(value: bytes, headers: list[tuple[str, bytes]]) -> None:
    assert read(Record(0, 0, None, value, 0), headers) is None
    assert read(Record(0, 0, None, value, 0), [("x-redrive", b"done")]) is None


def test_copies_of_a_letter_have_one_identity_and_other_records_another() -> None:
    record = Record(1, 2, b"k", b"v", 3)
    others = [
        Record(2, 2, b"k", b"v", 3),
        Record(1, 3, b"k", b"v", 3),
        Record(1, 2, b"k", b"w", 3),
        Record(1, 2, b"k", b"v", 4),
    ]
    same = letter_of(record, BadEvent("", "missing"), at=(5, 6)).identity
    assert letter_of(record).identity == same
    assert len({same, *(letter_of(other).identity for other in others)}) == 5


def test_a_misrouted_event_goes_to_its_shoppers_partition_under_its_shoppers_key() -> None:
    letter = letter_of(Record(0, 9, b"some other key", CLICK, AT_MS))
    back = way_back(letter, "events", 8)
    assert (back.partition, back.key, back.value) == (partition_of(b"c1", 8), b"c1", CLICK)
    assert back.timestamp_ms == AT_MS
    assert way_back(letter, "events", 8, "crc32").partition == partition_of(b"c1", 8, "crc32")


def test_what_would_be_refused_again_is_not_put_back() -> None:
    broken = letter_of(Record(0, 0, b"c1", b"{", AT_MS))
    with pytest.raises(BadEvent) as caught:
        way_back(broken, "events", 8)
    assert caught.value.reason == "not_json"
    with pytest.raises(BadEvent):
        way_back(letter_of(Record(0, 0, b"i1", b"{}", AT_MS)), "items", 8)


def test_a_late_one_is_late_again_unless_the_limit_or_its_timestamp_changes() -> None:
    late = letter_of(Record(0, 0, b"c1", CLICK, AT_MS + 25 * 3_600_000), TooLate("timestamp", "late"))
    with pytest.raises(TooLate):
        way_back(late, "events", 8)
    raised = way_back(late, "events", 8, limits=EventLimits(late_ms=26 * 3_600_000))
    assert raised.timestamp_ms == AT_MS + 25 * 3_600_000
    assert way_back(late, "events", 8, at_event_time=True).timestamp_ms == AT_MS


def test_items_keep_key_and_timestamp() -> None:
    value = raw({"title": "Stand", "timestamp": AT_MS})
    letter = letter_of(Record(0, 0, b"i1", value, 77))
    back = way_back(letter, "items", 8)
    assert (back.key, back.timestamp_ms, back.partition) == (b"i1", 77, partition_of(b"i1", 8))
    assert way_back(letter, "items", 8, at_event_time=True).timestamp_ms == AT_MS
    removed = way_back(letter_of(Record(0, 0, b"i1", None, 77)), "items", 8, at_event_time=True)
    assert (removed.value, removed.timestamp_ms) == (None, 77)


@pytest.mark.parametrize(("key", "partition"), [(b"k", partition_of(b"k", 4)), (None, 1)])
def test_of_other_topics_nothing_is_known_but_the_key(key: bytes | None, partition: int) -> None:
    content: Content = "other"
    assert way_back(letter_of(Record(5, 0, key, b"\xff", 7)), content, 4).partition == partition


def test_notes_say_what_is_done_and_what_is_in_doubt() -> None:
    ledger = Ledger()
    ledger.take(Note("intent", "r", ("a", "b"), {0: 5, 1: 7}))
    assert ledger.doubtful == {"a": {0: 5, 1: 7}, "b": {0: 5, 1: 7}}
    ledger.take(Note("intent", "s", ("a",), {0: 9, 1: 9}))  # tried again: it may lie behind the first ends too
    assert scan_from(ledger.doubtful) == {0: 5, 1: 7}
    ledger.take(Note("done", "s", ("a",)))
    assert (ledger.done, set(ledger.doubtful)) == ({"a"}, {"b"})
    ledger.take(Note("intent", "t", ("a",), {0: 0}))
    assert set(ledger.doubtful) == {"b"}


def test_a_note_is_read_as_it_was_written() -> None:
    note = Note("intent", "r", ("a",), {0: 5})
    key, value, headers = note_record(note)
    assert key == NOTE_KEY
    assert read(Record(0, 0, key, value, 0), headers) == note


def test_another_runs_note_overtakes() -> None:
    mine = Note("intent", "mine", ("a",))
    assert not overtaken(mine, [Note("done", "mine", ("b",))])
    assert overtaken(mine, [Note("intent", "other", ("c",))])


@given(st.binary())
def test_bytes_are_shown_without_doing_anything_to_a_terminal(data: bytes) -> None:
    shown = escaped(data)
    assert shown.isascii()
    assert shown.isprintable()
    assert shown.encode().decode("unicode_escape").encode("latin-1") == data


@given(st.text())
def test_texts_are_shown_without_doing_anything_to_a_terminal(text: str) -> None:
    assert escaped_text(text).isprintable()


def test_long_bytes_are_cut() -> None:
    assert escaped(b"x" * 10, 3) == "xxx..."
    assert escaped(None) == "(none)"

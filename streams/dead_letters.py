"""Records that could not be used, as letters: how one is written, read again, and put back where it belongs.

A letter is the record's own key and bytes, unchanged, in ``<topic>.dlq`` (too late: ``<topic>.late``) with headers that
say where it came from and why. A worker that starts again may write the same letter twice: a letter is named by its
origin and its bytes (``Letter.identity``), and counts once.

What was put back is written into the letters' topic itself, as *notes* (header ``x-redrive``): before a batch goes out,
an ``intent`` with the ends of the topic it goes to; after it is safe there, a ``done``. So the topic of the letters
tells, alone, what is still to do, and after a crash in between the records that did go out are found behind the ends
that the intent names. All notes lie in partition 0: of two runs at the same time the first note wins.

Pure: the topics are read and written by ``headrace.streams.letter_box``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, Literal, assert_never

import msgspec

from headrace import BadEvent, TooLate
from headrace.streams.events import Event, EventLimits, ItemRemoved, admit, decode, decode_item
from headrace.streams.ingestion import Record
from headrace.streams.partitioners import Partitioner, partition_of

Headers = tuple[tuple[str, bytes], ...]
Content = Literal["events", "items", "other"]
"""What a topic holds, and so whether a letter can be checked before it is put back."""

DEAD: Final = ".dlq"
LATE: Final = ".late"
NOTE_KEY: Final = b"headrace.redrive"
NOTE_PARTITION: Final = 0
REDRIVEN: Final = "x-redriven"
_NOTE: Final = "x-redrive"
_DETAIL_CHARS: Final = 500


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record to be written to a topic of letters."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter as it lies in its topic, at ``partition`` and ``offset``."""

    partition: int
    offset: int
    written_ms: int
    key: bytes | None
    value: bytes | None
    origin_topic: str
    origin_partition: int
    origin_offset: int
    origin_timestamp_ms: int
    error: str
    reason: str
    field: str
    detail: str

    @property
    def identity(self) -> str:
        """32 hex digits: the same for every copy of this letter, another for every other record.

        The bytes belong to it because a topic that was deleted and made again has the same offsets again.
        """
        origin = f"{self.origin_topic}/{self.origin_partition}/{self.origin_offset}/{self.origin_timestamp_ms}/"
        return blake2b(origin.encode() + (self.value or b""), digest_size=16).hexdigest()


class Note(msgspec.Struct, frozen=True):
    """What a redrive says about letters.

    Attributes:
        step: ``intent`` before they are put back, ``done`` when they are safe.
        run: the redrive that says so.
        letters: their identities.
        ends: of an intent, the next offset of each partition that they may go to.
    """

    step: Literal["intent", "done"]
    run: str
    letters: tuple[str, ...]
    ends: dict[int, int] = {}


@dataclass(slots=True)
class Ledger:
    """What the notes of a topic say, taken in their order.

    Attributes:
        done: identities of letters that were put back.
        doubtful: identity -> the ends before it went out, for those of which it is not known.
    """

    done: set[str] = field(default_factory=set)
    doubtful: dict[str, dict[int, int]] = field(default_factory=dict)

    def take(self, note: Note) -> None:
        """Goes on by one note."""
        for letter in note.letters:
            if note.step == "done":
                self.done.add(letter)
                self.doubtful.pop(letter, None)
            elif letter not in self.done:
                self.doubtful.setdefault(letter, note.ends)


@dataclass(frozen=True, slots=True)
class Redriven:
    """A record as it is put back."""

    partition: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: Headers


def dead_letter(topic: str, record: Record, error: BadEvent, into: str = "") -> DeadLetter:
    """The letter for a record of a topic that could not be used: key and bytes as they were.

    Args:
        topic: where the record lies.
        record: the record.
        error: why it cannot be used; TooLate goes to ``<topic>.late``, all others to ``<topic>.dlq``.
        into: the topic in whose place that of the letters is looked for; that topic itself if not given.
    """
    said = {
        "x-origin-topic": topic,
        "x-origin-partition": str(record.partition),
        "x-origin-offset": str(record.offset),
        "x-origin-timestamp": str(record.timestamp_ms),
        "x-error-class": type(error).__name__,
        "x-error-reason": error.reason,
        "x-error-field": error.field[:_DETAIL_CHARS],
        "x-error-detail": error.detail[:_DETAIL_CHARS],
    }
    headers = tuple((name, text.encode("utf-8", "backslashreplace")) for name, text in said.items())
    return DeadLetter(
        (into or topic) + (LATE if isinstance(error, TooLate) else DEAD), record.key, record.value, headers
    )


def note_record(note: Note) -> tuple[bytes, bytes, Headers]:
    """(key, value, headers) of a note, to be written to ``NOTE_PARTITION``."""
    return NOTE_KEY, msgspec.json.encode(note), ((_NOTE, note.step.encode()),)


def read(record: Record, headers: Sequence[tuple[str, bytes]]) -> Letter | Note | None:
    """What a record of a topic of letters is; None when it is neither a letter nor a note of ours."""
    said = {name: value.decode("utf-8", "backslashreplace") for name, value in headers if value is not None}
    try:
        if _NOTE in said:
            return msgspec.json.decode(record.value or b"", type=Note)
        return Letter(
            record.partition,
            record.offset,
            record.timestamp_ms,
            record.key,
            record.value,
            said["x-origin-topic"],
            int(said["x-origin-partition"]),
            int(said["x-origin-offset"]),
            int(said["x-origin-timestamp"]),
            said["x-error-class"],
            said["x-error-reason"],
            said.get("x-error-field", ""),
            said.get("x-error-detail", ""),
        )
    except (KeyError, ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None


def way_back(
    letter: Letter,
    content: Content,
    partitions: int,
    partitioner: Partitioner = "murmur2",
    limits: EventLimits | None = None,
    at_event_time: bool = False,
) -> Redriven:
    """The record that puts a letter back: its bytes, at the place where its key belongs, with its timestamp.

    The key of an event is its shopper, whatever key it came with: that is how misrouted ones are repaired.

    Args:
        letter: the letter.
        content: what its topic holds.
        partitions: how many that topic has.
        partitioner: of its producers.
        limits: what that topic accepts.
        at_event_time: give it its event time as Kafka timestamp, as an import does; then it is not late any more.

    Raises:
        BadEvent: it would be refused again, and why.
    """
    limits = limits or EventLimits()
    key, timestamp_ms = letter.key, letter.origin_timestamp_ms
    event: Event
    if content == "events":
        event = decode(letter.value, limits)
        key = event.client_id.encode()
        if at_event_time:
            timestamp_ms = event.at_ms
        admit(event, timestamp_ms, limits)
    elif content == "items":
        event = decode_item(letter.key, letter.value, timestamp_ms, limits)
        if at_event_time and not isinstance(event, ItemRemoved):
            timestamp_ms = event.at_ms
    elif content != "other":
        assert_never(content)
    partition = letter.origin_partition if key is None else partition_of(key, partitions, partitioner)
    headers = ((REDRIVEN, letter.identity.encode()),)
    return Redriven(partition % partitions, key, letter.value, timestamp_ms, headers)


def overtaken(note: Note, others: Sequence[Note]) -> bool:
    """Whether another run wrote a note in the meantime: then this one must stop before it sends anything."""
    return any(other.run != note.run for other in others)


def scan_from(doubtful: Mapping[str, Mapping[int, int]]) -> dict[int, int]:
    """For each partition the offset behind which doubtful letters would lie, had they gone out."""
    starts: dict[int, int] = {}
    for ends in doubtful.values():
        for partition, end in ends.items():
            starts[partition] = min(end, starts.get(partition, end))
    return starts


def escaped(data: bytes | None, most_bytes: int | None = None) -> str:
    """Bytes that anyone may have sent, fit for a terminal: printable ASCII as it is, all else as escapes."""
    if data is None:
        return "(none)"
    cut = data if most_bytes is None else data[:most_bytes]
    text = "".join(
        chr(byte) if 32 <= byte < 127 and byte != 0x5C else "\\\\" if byte == 0x5C else f"\\x{byte:02x}" for byte in cut
    )
    return text + ("..." if len(cut) < len(data) else "")


def escaped_text(text: str) -> str:
    """A text that anyone may have sent, fit for a terminal: control characters and the like as escapes."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)

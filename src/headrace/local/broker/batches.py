"""Record batches of Kafka's message format 2: what their header says, whether they are whole, how they are stamped.

The records inside stay bytes; only a question about times looks into them. Pure.
"""

import struct
from dataclasses import dataclass

from kafka.errors import UnsupportedCodecError
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.util import calc_crc32c

from headrace.local.broker.codes import Code, Refusal

# base offset, length, leader epoch, magic, crc, attributes, last offset delta, first and last timestamp, producer id,
# producer epoch, base sequence, number of records
_HEADER = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES = _HEADER.size
_BEFORE_LENGTH_BYTES = 12  # the length field counts what comes behind it
_CRC_AT, _CHECKED_FROM = 17, 21
_LAST_TIMESTAMP_AT = 35
_LOG_APPEND_TIME, _TRANSACTIONAL, _CONTROL, _COMPRESSION = 0x08, 0x10, 0x20, 0x07


class Torn(ValueError):
    """These bytes do not begin with a whole batch."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a batch's header says.

    Attributes:
        base_offset: the offset of its first record.
        size_bytes: of the whole batch.
        count: how many offsets it takes.
        last_timestamp_ms: the newest of its records' timestamps.
        producer_id: of an idempotent producer; -1 for others.
        sequence: of its first record, when the producer is idempotent.
    """

    base_offset: int
    size_bytes: int
    count: int
    last_timestamp_ms: int
    producer_id: int
    producer_epoch: int
    sequence: int
    attributes: int

    @property
    def next_offset(self) -> int:
        """The offset behind its last record."""
        return self.base_offset + self.count


def read(data: bytes | memoryview, at: int = 0) -> Batch:
    """The whole and sound batch that begins there.

    Raises:
        Torn: its end is missing, it is of another format, or its checksum does not fit.
    """
    if len(data) - at < HEADER_BYTES:
        raise Torn("a batch's header is cut off")
    head = _HEADER.unpack_from(data, at)
    base, length, _, magic, crc, attributes, last_delta, _, last_ms, producer, epoch, sequence, records = head
    size = length + _BEFORE_LENGTH_BYTES
    if size < HEADER_BYTES or len(data) - at < size:
        raise Torn("a batch is cut off")
    if magic != 2:
        raise Torn(f"a batch has format {magic}; only 2 is read")
    if last_delta < 0 or records < 0 or base < 0:
        raise Torn("a batch's header has negative counts")
    if calc_crc32c(memoryview(data)[at + _CHECKED_FROM : at + size]) != crc:
        raise Torn("a batch's checksum does not fit")
    return Batch(base, size, last_delta + 1, last_ms, producer, epoch, sequence, attributes)


def size_of(header: bytes) -> int:
    """The bytes of the batch with that header (its first 61 bytes), as it says itself.

    Raises:
        Torn: the header is cut off, or the size cannot be.
    """
    if len(header) < HEADER_BYTES:
        raise Torn("a batch's header is cut off")
    size: int = _HEADER.unpack_from(header)[1] + _BEFORE_LENGTH_BYTES
    if size < HEADER_BYTES:
        raise Torn("a batch's header has an impossible length")
    return size


def produced(records: bytes | None) -> Batch:
    """The one batch that a producer sent for a partition.

    Raises:
        Refusal: it is not one sound batch of plain records.
    """
    if not records:
        raise Refusal(Code.INVALID_RECORD, "there is no record batch")
    if len(records) > _CRC_AT and records[16] != 2:
        raise Refusal(Code.UNSUPPORTED_VERSION, "only record batches of message format 2 are taken")
    try:
        batch = read(records)
    except Torn as torn:
        raise Refusal(Code.CORRUPT_MESSAGE, str(torn)) from torn
    if batch.size_bytes != len(records):
        raise Refusal(Code.INVALID_RECORD, "a request may carry one record batch for a partition")
    if _HEADER.unpack_from(records)[-1] != batch.count:
        raise Refusal(Code.INVALID_RECORD, "a batch's number of records and its offsets differ")
    if batch.attributes & (_TRANSACTIONAL | _CONTROL):
        raise Refusal(Code.INVALID_RECORD, "this broker has no transactions")
    if batch.attributes & _COMPRESSION > 4:
        raise Refusal(Code.UNSUPPORTED_COMPRESSION_TYPE, "unknown compression")
    return batch


def stamped(records: bytes, base_offset: int, append_time_ms: int | None) -> bytearray:
    """The batch with its place in the log.

    Args:
        records: one batch.
        base_offset: of its first record.
        append_time_ms: the timestamp of all its records where the topic has LogAppendTime; None keeps their own.
    """
    data = bytearray(records)
    struct.pack_into(">q", data, 0, base_offset)
    struct.pack_into(">i", data, 8 + 4, 0)  # the leader epoch; like the offset it is outside the checksum
    if append_time_ms is not None:
        attributes = struct.unpack_from(">h", data, _CHECKED_FROM)[0]
        struct.pack_into(">h", data, _CHECKED_FROM, attributes | _LOG_APPEND_TIME)
        struct.pack_into(">q", data, _LAST_TIMESTAMP_AT, append_time_ms)
        struct.pack_into(">I", data, _CRC_AT, calc_crc32c(memoryview(data)[_CHECKED_FROM:]))
    return data


def times(records: bytes) -> list[tuple[int, int]]:
    """(offset, timestamp in ms) of each record of one batch.

    Raises:
        Refusal: the package that decompresses it is not installed, or what is in it are no records.
    """
    try:
        return [(record.offset, record.timestamp) for record in DefaultRecordBatch(records)]
    except UnsupportedCodecError as error:
        raise Refusal(Code.UNSUPPORTED_COMPRESSION_TYPE, str(error)) from error
    except Exception as error:  # a producer may compress what it likes, and each library fails in its own way
        raise Refusal(Code.CORRUPT_MESSAGE, f"a batch's records cannot be read: {error!r}") from error

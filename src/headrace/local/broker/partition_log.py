"""One partition's records: an append-only file of record batches, and a small file with the first offset that counts.

A write is done when the page cache has it: it survives the end of this process, not that of the machine.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path

from headrace.local.broker import batches
from headrace.local.broker.batch_index import BatchIndex, Place
from headrace.local.broker.batches import Batch, Torn
from headrace.local.broker.codes import Code, Refusal
from headrace.local.broker.files import replace_text
from headrace.local.broker.producers import Producers

log = logging.getLogger(__name__)

_COPIED_BYTES = 1 << 20


class PartitionLog:
    """The records of one partition.

    Attributes:
        start_offset: the first offset that can be read; only DeleteRecords moves it.
        cut_bytes: what recovery cut off, because it was not whole, with all behind it.
        cut_reason: why; "" when nothing was cut.
        cut_path: the file beside the log that has what was cut, named by the offset that it begins with.
        listeners: are called when something was appended, deleted, or the log is gone.
    """

    def __init__(self, path: Path) -> None:
        """Opens the log, makes it where there is none, and puts what is not whole aside, with all behind it.

        Raises:
            ValueError: the small file beside it holds no offset.
            OSError: a file cannot be opened, or there is no room to put something aside.
        """
        self._path = path
        self._start_path = path.with_suffix(".start")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._index = BatchIndex()
        self._producers = Producers()
        self.start_offset = _offset_in(self._start_path) if self._start_path.exists() else 0
        self.cut_bytes, self.cut_reason, self.cut_path = 0, "", path
        self._full = False
        self.listeners: set[Callable[[], None]] = set()
        self._recover()

    @property
    def next_offset(self) -> int:
        """The offset that the next record gets."""
        return self._index.next_offset

    def append(self, records: bytes, batch: Batch, append_time_ms: int | None) -> int:
        """Appends a producer's batch.

        Args:
            records: the batch's bytes.
            batch: its header, as ``batches.produced`` has checked it.
            append_time_ms: the timestamp of all its records; None keeps the producer's own.

        Returns:
            The offset of its first record; that of the first time where the log has the batch already.

        Raises:
            Refusal: a batch of an idempotent producer is missing before it, or the file cannot be written.
        """
        had = self._producers.duplicate(batch)
        if had is not None:
            return had
        base_offset = self.next_offset
        self._write(batches.stamped(records, base_offset, append_time_ms))
        self._index.add(base_offset, batch, batch.last_timestamp_ms if append_time_ms is None else append_time_ms)
        self._producers.appended(batch, base_offset)
        self._tell()
        return base_offset

    def read(self, offset: int, most_bytes: int, at_least_one: bool = True) -> bytes:
        """Whole batches from the one with that offset on: as many as fit, and one even when it does not.

        Raises:
            Refusal: the offset is not in the log.
        """
        return self._bytes(self._index.read(self._checked(offset), most_bytes, at_least_one))

    def bytes_from(self, offset: int) -> int:
        """How many bytes there are to read from that offset on.

        Raises:
            Refusal: the offset is not in the log.
        """
        return self._index.bytes_from(self._checked(offset))

    def first_since(self, timestamp_ms: int) -> tuple[int, int] | None:
        """(offset, timestamp) of the first record of that time or later."""
        for place in self._index.since(timestamp_ms, self.start_offset):
            for offset, at_ms in batches.times(self._bytes(place)):
                if offset >= self.start_offset and at_ms >= timestamp_ms:
                    return offset, at_ms
        return None

    def newest(self) -> tuple[int, int] | None:
        """(offset, timestamp) of the first of the newest records."""
        newest_ms = self._index.newest_ms(self.start_offset)
        return None if self.start_offset >= self.next_offset or newest_ms is None else self.first_since(newest_ms)

    def delete_before(self, offset: int) -> int:
        """Deletes what lies before an offset; -1 stands for the end. Returns the first offset that can be read.

        Raises:
            Refusal: the offset is behind the end, or the file cannot be written.
        """
        offset = self.next_offset if offset == -1 else offset
        if not 0 <= offset <= self.next_offset:
            raise Refusal(Code.OFFSET_OUT_OF_RANGE)
        if offset > self.start_offset:
            try:
                replace_text(self._start_path, str(offset))
            except OSError as error:
                raise self._unwritable(error) from error
            self.start_offset = offset
            if offset == self.next_offset:
                self._empty(offset)
            self._tell()
        return self.start_offset

    def close(self) -> None:
        """Closes the file; whoever waits for records is woken."""
        os.close(self._file)
        self._tell()

    def _tell(self) -> None:
        for listener in list(self.listeners):
            listener()

    def _checked(self, offset: int) -> int:
        if not self.start_offset <= offset <= self.next_offset:
            raise Refusal(Code.OFFSET_OUT_OF_RANGE)
        return offset

    def _bytes(self, place: Place) -> bytes:
        return os.pread(self._file, place.size_bytes, place.position) if place.size_bytes else b""

    def _write(self, data: bytearray) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            os.ftruncate(self._file, self._index.size_bytes)
            raise self._unwritable(error) from error
        self._full = False

    def _unwritable(self, error: OSError) -> Refusal:
        if not self._full:  # a producer tries again and again
            log.error("%s cannot be written: %s; producers are refused until it can", self._path, error)
        self._full = True
        return Refusal(Code.KAFKA_STORAGE_ERROR, f"{self._path} cannot be written: {error}")

    def _empty(self, next_offset: int) -> None:
        os.ftruncate(self._file, 0)
        self._index = BatchIndex(next_offset)

    def _recover(self) -> None:
        """Reads all batches once, for the index and the producers, and cuts the file behind the last sound one."""
        size_bytes = os.fstat(self._file).st_size
        while self._index.size_bytes < size_bytes:
            try:
                batch = self._batch_at(self._index.size_bytes, size_bytes)
            except Torn as torn:
                self.cut_reason = str(torn)
                break
            if not len(self._index):
                self.start_offset = max(self.start_offset, batch.base_offset)
            elif batch.base_offset != self.next_offset:
                self.cut_reason = f"a batch says offset {batch.base_offset} where {self.next_offset} comes next"
                break
            self._index.add(batch.base_offset, batch, batch.last_timestamp_ms)
            self._producers.appended(batch, batch.base_offset)
        self.cut_bytes = size_bytes - self._index.size_bytes
        if self.cut_bytes:
            self._put_aside()
            os.ftruncate(self._file, self._index.size_bytes)
        if self.start_offset > self.next_offset or not len(self._index):
            self._empty(self.start_offset)  # all was deleted, or what lay behind the deletion was lost

    def _put_aside(self) -> None:
        """Copies what is cut: one changed byte in the middle may have thousands of sound records behind it."""
        position = self._index.size_bytes
        self.cut_path = self._path.with_suffix(f".{self.next_offset}.cut")
        with self.cut_path.open("ab") as aside:
            while data := os.pread(self._file, _COPIED_BYTES, position):
                aside.write(data)
                position += len(data)
            aside.flush()
            os.fsync(aside.fileno())

    def _batch_at(self, position: int, file_bytes: int) -> Batch:
        size_bytes = batches.size_of(os.pread(self._file, batches.HEADER_BYTES, position))
        if size_bytes > file_bytes - position:  # a wrong length may be 2 GB
            raise Torn("a batch is cut off")
        return batches.read(os.pread(self._file, size_bytes, position))


def _offset_in(path: Path) -> int:
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    if not (text.isascii() and text.isdigit() and int(text) < 2**63):
        raise ValueError(f"{path} holds no offset: delete it, and the partition begins with what its log has")
    return int(text)

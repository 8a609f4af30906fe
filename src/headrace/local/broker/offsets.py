"""What groups have committed: in memory, and in an append-only file of JSON lines that is rewritten when it is long."""

import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from headrace.local.broker.codes import Code, Refusal
from headrace.local.broker.files import replace_text

log = logging.getLogger(__name__)

Partition = tuple[str, int]

_REWRITTEN_FROM_LINES = 20_000


@dataclass(frozen=True)
class Committed:
    """Where a group goes on reading a partition, and a note of its own."""

    offset: int
    leader_epoch: int = -1
    note: str = ""


class Offsets:
    """The committed offsets of all groups."""

    def __init__(self, path: Path) -> None:
        """Reads what there is; a line that cannot be read is left out, the others count: each says all by itself.

        Raises:
            OSError: the file cannot be read, or not be rewritten.
        """
        self._path = path
        self._groups: dict[str, dict[Partition, Committed]] = {}
        self._lines = 0
        for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
            try:
                self._take(*_read(line))
            except (ValueError, TypeError):  # the last one: what a broker that was killed did not finish
                log.warning("%s: left out a line that cannot be read: %.200r", path, line)
        self._file = -1
        self._rewrite()

    def groups(self) -> Iterable[str]:
        """The groups that have committed something."""
        return list(self._groups)

    def of(self, group: str) -> Mapping[Partition, Committed]:
        """What a group has committed."""
        return self._groups.get(group, {})

    def put(self, group: str, committed: Mapping[Partition, Committed | None]) -> None:
        """Writes down what a group commits; None forgets what it had committed for a partition.

        Raises:
            Refusal: the file cannot be written.
        """
        if not committed:
            return
        data = "".join(_line(group, partition, value) for partition, value in committed.items()).encode()
        size_bytes = os.fstat(self._file).st_size
        try:
            if os.write(self._file, data) != len(data):
                raise OSError("the disk is full")
        except OSError as error:
            os.ftruncate(self._file, size_bytes)
            raise Refusal(Code.KAFKA_STORAGE_ERROR, f"{self._path} cannot be written: {error}") from error
        for partition, value in committed.items():
            self._take(group, partition, value)
        self._lines += len(committed)
        if self._lines > _REWRITTEN_FROM_LINES + 4 * sum(map(len, self._groups.values())):
            try:
                self._rewrite()
            except OSError as error:  # what is committed is in the long one
                log.error("%s is long and cannot be rewritten: %s", self._path, error)
                self._lines = 0  # not at every commit again

    def forget(self, group: str) -> None:
        """Forgets all that a group has committed."""
        self.put(group, dict.fromkeys(self.of(group)))

    def forget_topic(self, topic: str) -> None:
        """Forgets what all groups have committed for a topic."""
        for group in self.groups():
            self.put(group, {partition: None for partition in self.of(group) if partition[0] == topic})

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)

    def _take(self, group: str, partition: Partition, value: Committed | None) -> None:
        if value is not None:
            self._groups.setdefault(group, {})[partition] = value
            return
        had = self._groups.get(group, {})
        had.pop(partition, None)
        if not had:
            self._groups.pop(group, None)

    def _rewrite(self) -> None:
        """Replaces the file by one with what counts only."""
        lines = [
            _line(group, partition, value) for group, had in self._groups.items() for partition, value in had.items()
        ]
        replace_text(self._path, "".join(lines))
        before, self._file = self._file, os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        if before >= 0:
            os.close(before)
        self._lines = len(lines)


def _read(line: bytes) -> tuple[str, Partition, Committed | None]:
    if not line.endswith(b"\n"):
        raise ValueError("its end is missing")
    group, topic, partition, offset, epoch, note = json.loads(line)
    numbers = (partition, epoch, 0 if offset is None else offset)
    if not all(type(text) is str for text in (group, topic, note)) or not all(type(one) is int for one in numbers):
        raise ValueError("it holds something else")
    return group, (topic, partition), None if offset is None else Committed(offset, epoch, note)


def _line(group: str, partition: Partition, value: Committed | None) -> str:
    kept = (None, -1, "") if value is None else (value.offset, value.leader_epoch, value.note)
    return json.dumps([group, *partition, *kept]) + "\n"

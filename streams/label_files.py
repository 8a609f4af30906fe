"""Labels in a file, without Kafka: lines of JSON that grow by whole batches, so that labelling can go on after a kill.

What is written is what counts. The next run reads which pairs have this teacher's label, cuts off the half line that a
kill may have left, and asks about the others.
"""

import fcntl
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from os import fsync
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from headrace import BadEvent
from headrace.streams.files import lines_of
from headrace.streams.pairs import (
    RECORD_BYTES,
    LabelledPair,
    UnlabelledPair,
    decode_label,
    decode_pair,
    encode,
    prompt_pair,
)
from headrace.streams.teachers import Teacher, label_of

_TAIL_BYTES: Final = 1 << 16
_SHOWN: Final = 10
_BEGIN: Final = b'{"pair_id":'


@dataclass(slots=True)
class FileCounts:
    """What became of the lines of a file of pairs.

    Attributes:
        lines: how many the file has.
        labelled: asked now.
        passed: their pair had its label.
        rejected: that are no pairs, or of which the teacher could say nothing.
        faults: (number of the line, why) of the first of those.
    """

    lines: int = 0
    labelled: int = 0
    passed: int = 0
    rejected: int = 0
    faults: list[tuple[int, BadEvent]] = field(default_factory=list)

    def reject(self, number: int, error: BadEvent) -> None:
        """Counts a line that has no label to get."""
        self.rejected += 1
        if len(self.faults) < _SHOWN:
            self.faults.append((number, error))

    @property
    def done(self) -> int:
        """Lines that were dealt with."""
        return self.labelled + self.passed + self.rejected


class LabelFile:
    """A file that one process at a time adds labels to; made where it is not there. Closed at the end of a ``with``.

    Args:
        path: the file.
        teacher: who is asked; ``labelled`` are the pairs that have its label.

    Raises:
        ValueError: another process is at it, or a line of it is no label.
        OSError: it cannot be read or written.
    """

    def __init__(self, path: Path, teacher: Teacher) -> None:
        self.labelled: set[str] = set()
        self._file: BinaryIO = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _cut_half_line(self._file)
            for label in labels_of(path):
                if (label.teacher, label.prompt) == (teacher.id, teacher.prompt):
                    self.labelled.add(label.pair_id)
        except BlockingIOError:
            self._file.close()
            raise ValueError(f"another process is labelling into {path}") from None
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        """The file itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it."""
        self._file.close()

    def add(self, labels: Sequence[LabelledPair]) -> None:
        """Adds labels; they are on the disk when this returns."""
        self._file.write(b"".join(encode(label) + b"\n" for label in labels))
        self._file.flush()
        fsync(self._file.fileno())


def labels_of(path: Path) -> Iterator[LabelledPair]:
    """The labels of a file.

    Raises:
        ValueError: a line is none.
        OSError: it cannot be read.
    """
    for line in lines_of(path, RECORD_BYTES):
        try:
            yield decode_label(line.data if line.size == len(line.data) else b"")
        except BadEvent as error:
            raise ValueError(f"{path}, line {line.number} is no label ({error})") from None


def pairs_of(path: Path) -> Iterator[tuple[int, UnlabelledPair | BadEvent]]:
    """Number and pair of each line of a file, or why it is none.

    Raises:
        OSError: it cannot be read.
    """
    for line in lines_of(path, RECORD_BYTES):
        try:
            if line.size > len(line.data):
                raise BadEvent("", "too_large", f"{line.size} bytes, at most {RECORD_BYTES}")
            yield line.number, decode_pair(None, line.data)
        except BadEvent as error:
            yield line.number, error


def label_file(
    pairs: Path,
    into: LabelFile,
    teacher: Teacher,
    batch: int,
    stop: Callable[[], bool],
    progress: Callable[[int, int], None],
) -> FileCounts:
    """Labels the pairs of a file that have no label yet, each once.

    Args:
        pairs: the file, one pair a line.
        into: where labels go.
        teacher: who is asked.
        batch: pairs it is asked about at a time: what a kill costs.
        stop: asked between two batches.
        progress: told how many lines of how many are done.

    Raises:
        OSError: a file cannot be read or written.
    """
    counts = FileCounts(sum(1 for _ in lines_of(pairs, RECORD_BYTES)))
    for numbered in _batches(_due(pairs, into.labelled, counts), batch):
        if stop():
            break
        logits = teacher.logits([prompt_pair(pair) for _, pair in numbered])
        now_ms = time.time_ns() // 1_000_000
        fine = []
        for (number, pair), logit in zip(numbered, logits.tolist(), strict=True):
            if logit - logit == 0:  # neither infinite nor NaN
                fine.append(label_of(pair, logit, teacher, now_ms))
            else:
                counts.reject(number, BadEvent("", "out_of_range", "the teacher gave no number"))
        into.add(fine)
        counts.labelled += len(fine)
        progress(counts.done, counts.lines)
    return counts


def _due(path: Path, labelled: set[str], counts: FileCounts) -> Iterator[tuple[int, UnlabelledPair]]:
    """The pairs that have no label yet, each once; they count as labelled from then on."""
    for number, pair in pairs_of(path):
        if isinstance(pair, BadEvent):
            counts.reject(number, pair)
        elif pair.pair_id in labelled:
            counts.passed += 1
        else:
            labelled.add(pair.pair_id)
            yield number, pair


def _batches(pairs: Iterable[tuple[int, UnlabelledPair]], size: int) -> Iterator[list[tuple[int, UnlabelledPair]]]:
    batch: list[tuple[int, UnlabelledPair]] = []
    for pair in pairs:
        batch.append(pair)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _cut_half_line(file: BinaryIO) -> None:
    """Cuts what stands behind the last end of a line: a kill came in the middle of it.

    Raises:
        ValueError: it is not the beginning of a label, so somebody else wrote it.
    """
    end = file.seek(0, 2)
    keep = end
    while keep > 0:
        begin = max(0, keep - _TAIL_BYTES)
        file.seek(begin)
        found = file.read(keep - begin).rfind(b"\n")
        keep = begin + found + 1 if found >= 0 else begin
        if found >= 0:
            break
    if keep == end:
        return
    file.seek(keep)
    if not file.read(len(_BEGIN)).startswith(_BEGIN[: end - keep]):
        raise ValueError(f"{file.name} ends with something that is no label: name another file")
    file.truncate(keep)

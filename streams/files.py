"""Rows of files on disk, one after the other, in bounded memory: JSON lines (also gzipped) and Parquet."""

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

_BATCH_ROWS: Final = 4096


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file.

    Attributes:
        number: from 1.
        data: its bytes without the end of line, cut when it is longer than allowed.
        size: how long it is, bytes.
        at: how far into the file it ends, bytes on disk (of gzip: of what was unpacked so far).
    """

    number: int
    data: bytes
    size: int
    at: int


def lines_of(path: Path, most_bytes: int) -> Iterator[Line]:
    """The lines of a file that are not blank; one of more than most_bytes is cut, so ``size`` is larger than its data.

    Raises:
        OSError: the file cannot be read, or is no gzip although its name says so.
    """
    packed = path.suffix == ".gz"
    with path.open("rb") as disk, cast(BinaryIO, gzip.open(disk)) if packed else disk as file:
        number = 0
        while piece := file.readline(most_bytes + 2):
            number += 1
            size, data = len(piece), piece
            while not piece.endswith(b"\n") and (piece := file.readline(most_bytes + 2)):
                size += len(piece)
            data = data.rstrip(b"\r\n")
            size = len(data) if size <= most_bytes + 2 else size
            if data.strip():
                yield Line(number, data[:most_bytes], size, disk.tell())


def parquet_columns(path: Path) -> tuple[list[str], int]:
    """(names of the columns, number of rows) of a Parquet file.

    Raises:
        ValueError: it is no Parquet file.
        OSError: it cannot be read.
        ModuleNotFoundError: pyarrow is not installed.
    """
    from pyarrow import parquet  # only who imports Parquet needs it

    with parquet.ParquetFile(path) as file:
        return list(file.schema_arrow.names), int(file.metadata.num_rows)


def parquet_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, values by column) of each row, a few thousand at a time in memory.

    Args:
        path: the file.
        columns: those to read; None: all.

    Raises:
        ValueError: it is no Parquet file, or a part of it is broken.
        OSError: it cannot be read.
        ModuleNotFoundError: pyarrow is not installed.
    """
    from pyarrow import parquet

    number = 0
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=None if columns is None else list(columns)):
            for row in batch.to_pylist():
                number += 1
                yield number, row

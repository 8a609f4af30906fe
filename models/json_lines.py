"""Lines of a file, read within bounds: what ``training_pairs`` and ``judged_pairs`` are written in."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

LINE_BYTES: Final = 1 << 20


def numbered_lines(
    path: Path, refusal: type[ValueError], most_lines: int, most_bytes: int = LINE_BYTES
) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, with their numbers from 1; unpacked where its name ends in ``.gz``.

    Raises:
        refusal: a line has more than ``most_bytes`` or the file more than ``most_lines``, or it cannot be unpacked; the
            text names file and line.
        OSError: the file cannot be opened.
    """
    with path.open("rb") as raw:
        file: gzip.GzipFile | BinaryIO = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
        number = 0
        try:
            while line := file.readline(most_bytes + 1):
                number += 1
                if number > most_lines:
                    raise refusal(f"{path} has more than {most_lines:,} lines")
                if len(line) > most_bytes:
                    raise refusal(f"{path}, line {number}: longer than {most_bytes:,} bytes")
                if line.strip():
                    yield number, line
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise refusal(f"{path} is damaged behind line {number}: {error}") from error

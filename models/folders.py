"""Folders that are whole or absent: written aside, flushed, renamed; read within bounds.

Nothing here knows what a model is. A name that comes from a file is never used as a path before ``plain_name`` has seen
it, links are never followed, and a reader says beforehand how much it is willing to read.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from headrace import BundleCorrupt

_CHUNK_BYTES = 1 << 20
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
ASIDE = ".aside-"
"""What the name of a folder or file begins with while it is being written."""


def plain_name(name: str) -> bool:
    """Whether a name is a file name and nothing else: no separator, no leading dot, ASCII, 100 characters at most."""
    return _PLAIN.fullmatch(name) is not None


def _open_regular(path: Path) -> int:
    # O_NONBLOCK: opening a pipe that somebody put there must fail the check below, not wait for a writer.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise BundleCorrupt(f"{path} is missing: copy or publish the bundle again") from None
    except OSError as error:
        raise BundleCorrupt(f"{path} cannot be read ({error.strerror}): copy or publish the bundle again") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BundleCorrupt(f"{path} is not a regular file: remove it and copy the bundle again")
    return descriptor


def read_file(path: Path, limit_bytes: int) -> bytes:
    """The content of a regular file.

    Raises:
        BundleCorrupt: it is missing, a link or no regular file, or larger than limit_bytes.
    """
    with os.fdopen(_open_regular(path), "rb") as file:
        content = file.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise BundleCorrupt(f"{path} is larger than the {limit_bytes} bytes it may have")
    return content


def hash_file(path: Path, size_bytes: int) -> str:
    """The SHA-256 of a regular file of exactly this size, in hexadecimal.

    Raises:
        BundleCorrupt: it is missing, a link or no regular file, or of another size.
    """
    with os.fdopen(_open_regular(path), "rb") as file:
        found_bytes = os.fstat(file.fileno()).st_size
        if found_bytes != size_bytes:
            raise BundleCorrupt(f"{path} has {found_bytes} of {size_bytes} bytes: copy or publish the bundle again")
        digest = hashlib.sha256()
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def names_in(folder: Path, limit: int) -> list[str]:
    """The sorted names in a folder.

    Raises:
        BundleCorrupt: it is missing, a link or no folder, or holds more than limit names.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise BundleCorrupt(f"{folder} is missing: copy or publish the bundle again")
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if len(names) == limit:
                raise BundleCorrupt(f"{folder} holds more than the {limit} files it may have")
            names.append(entry.name)
    return sorted(names)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_flushed(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def place_file(path: Path, content: bytes) -> None:
    """The file holds this content, durably; a reader sees the old or the new content, never a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, aside = tempfile.mkstemp(prefix=ASIDE, dir=path.parent)
    os.close(descriptor)
    try:
        _write_flushed(Path(aside), content)
        Path(aside).chmod(0o644)
        Path(aside).rename(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def place_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """The folder holds exactly these files, durably; whatever stood there is replaced in one step of two renames.

    Two writers must not do this to one folder at a time: hold ``exclusive`` around it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=ASIDE, dir=folder.parent))
    try:
        for name, content in files.items():
            _write_flushed(aside / name, content)
            (aside / name).chmod(0o644)
        aside.chmod(0o755)
        _flush_folder(aside)
        if folder.is_symlink() or folder.is_file():
            folder.unlink()
        elif folder.exists():
            # The old one was found broken by the caller, so nobody can be served by it while it is gone.
            folder.rename(Path(tempfile.mkdtemp(prefix=ASIDE, dir=folder.parent)) / "replaced")
        aside.rename(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    _flush_folder(folder.parent)


def sweep(folder: Path, older_than_s: float) -> list[str]:
    """Removes what a writer that died left aside before this time (seconds since 1970); gives the names removed."""
    removed: list[str] = []
    for path in sorted(folder.glob(ASIDE + "*")) if folder.is_dir() else []:
        with contextlib.suppress(FileNotFoundError):
            if path.lstat().st_mtime < older_than_s:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                removed.append(path.name)
    return removed


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """While it is held, no other process or thread that asks for the same folder is inside.

    A lock of the operating system on ``<folder>/.lock``: it goes with the process, so a crash leaves none behind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def remove_folder(folder: Path) -> None:
    """The folder is gone; a reader sees it whole or not at all, since it is renamed before it is emptied."""
    aside = Path(tempfile.mkdtemp(prefix=ASIDE, dir=folder.parent))
    folder.rename(aside / folder.name)
    shutil.rmtree(aside)

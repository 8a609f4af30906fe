"""Small files that are replaced at once, and the lock that keeps a folder to one broker."""

import fcntl
import os
from pathlib import Path


class FolderInUse(RuntimeError):
    """Another broker runs on the folder."""


def replace_text(path: Path, text: str) -> None:
    """Writes a file so that a reader, a broker killed meanwhile, or a machine without power finds the old or the new.

    Raises:
        OSError: it cannot be written; the old one is there.
    """
    beside = path.with_name(path.name + ".new")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # else the new name may be on the disk before the text is
    os.replace(beside, path)


def locked(folder: Path) -> int:
    """Takes the folder for this process, until it ends or closes the descriptor that comes back.

    Raises:
        FolderInUse: another process has it.
    """
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise FolderInUse(f"another broker runs on {folder}: stop it, or give this one a folder of its own") from error
    return lock

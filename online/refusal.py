"""Why a bundle does not serve, and when it is tried again."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

FIRST_RETRY_S: Final = 1.0
LAST_RETRY_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a version does not serve, and when it is tried again.

    Attributes:
        files: what its files looked like; another look is a reason to try at once.
        retry_s: monotonic time of the next try. wait_s: how long that was from the last one.
    """

    version: str
    reason: str
    files: int
    retry_s: float
    wait_s: float


def refusal_after(before: Refusal | None, version: str, reason: str, files: int, now_s: float) -> Refusal:
    """The refusal of a version; each one after another of the same version waits twice as long, up to a minute.

    Args:
        before: the refusal of the same version, None for the first.
        version: which bundle.
        reason: for people.
        files: what its files look like, see ``looks_of``.
        now_s: monotonic time.
    """
    wait_s = FIRST_RETRY_S if before is None else min(2 * before.wait_s, LAST_RETRY_S)
    return Refusal(version, reason, files, now_s + wait_s, wait_s)


def looks_of(repository: Path, version: str) -> int:
    """A number that changes when the files of a version do: names, sizes and times of its manifest and every part."""
    seen: list[tuple[str, int, int]] = []
    folders = [repository / "bundles" / version]
    with contextlib.suppress(Exception):  # a manifest that cannot be read names no parts; its own look still counts
        manifest = _parts_named(repository, version)
        folders += [repository / "parts" / digest for digest in manifest]
    for folder in folders:
        with contextlib.suppress(OSError):
            for entry in os.scandir(folder):
                found = entry.stat(follow_symlinks=False)
                seen.append((entry.path, found.st_size, found.st_mtime_ns))
    return hash(tuple(sorted(seen)))


def _parts_named(repository: Path, version: str) -> list[str]:
    """The digests that a manifest names, read without verifying: only for looking at files."""
    raw = (repository / "bundles" / version / "manifest.json").read_bytes()[: 1 << 20]
    manifest = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    parts = msgspec.json.decode(manifest["parts"], type=dict[str, str])
    golden = msgspec.json.decode(manifest.get("golden", msgspec.Raw(b"null")), type=str | None)
    return [digest for digest in [*parts.values(), golden or ""] if digest.isalnum()]

"""The pointer to the bundle that should answer, and the fencing numbers of those who may move it.

Two small sealed files at the top of a repository: ``champion.json`` (a version and the epoch of its publisher) and
``epoch.json`` (the newest epoch handed out). Only ``bundle.publish`` and ``claim_epoch`` write them, under the lock.
"""

import hashlib
from pathlib import Path

import msgspec

from headrace import BundleCorrupt
from headrace.models import folders
from headrace.models.parts import is_digest

_LIMIT_BYTES = 4096


class Champion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The bundle that should answer, and the epoch of the publisher that said so."""

    version: str
    epoch: int


class _Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    content: Champion
    sha256: str


def champion(repository: Path) -> Champion | None:
    """The bundle that should answer, or None where nothing was published.

    Raises:
        BundleCorrupt: the pointer is not what was written.
    """
    path = repository / "champion.json"
    found = _unseal(path)
    if found is not None and not is_digest(found.version):
        raise BundleCorrupt(f"{path} names no version: publish the bundle again")
    return found


def place_champion(repository: Path, found: Champion) -> None:
    """The pointer says this, durably; only for ``bundle.publish``, which verifies first and holds the lock."""
    folders.place_file(repository / "champion.json", _seal(found))


def claim_epoch(repository: Path) -> int:
    """A new fencing number, above all before; every publisher with an older one is refused from now on.

    Raises:
        BundleCorrupt: the numbers so far cannot be read.
    """
    with folders.exclusive(repository):
        claimed = newest_epoch(repository) + 1
        folders.place_file(repository / "epoch.json", _seal(Champion(version="", epoch=claimed)))
    return claimed


def newest_epoch(repository: Path) -> int:
    """The newest epoch that was claimed or has published, 0 where none was.

    One broken file of the two is passed over, so that publishing again can mend it.

    Raises:
        BundleCorrupt: nothing is left to tell the number from.
    """
    epochs: list[int] = []
    broken: list[BundleCorrupt] = []
    for name in ("champion.json", "epoch.json"):
        try:
            found = _unseal(repository / name)
        except BundleCorrupt as error:
            broken.append(error)
        else:
            epochs += [found.epoch] if found else []
    if broken and not epochs:
        raise BundleCorrupt(f"{broken[0]}; if no other learner runs, remove that file first")
    return max(epochs, default=0)


def _seal(content: Champion) -> bytes:
    # A pointer has no name that could be its hash, so it carries it.
    digest = hashlib.sha256(msgspec.json.encode(content)).hexdigest()
    return msgspec.json.encode(_Sealed(content=content, sha256=digest))


def _unseal(path: Path) -> Champion | None:
    if not path.exists() and not path.is_symlink():
        return None
    raw = folders.read_file(path, _LIMIT_BYTES)
    try:
        sealed = msgspec.json.decode(raw, type=_Sealed)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleCorrupt(f"{path} is not what was written ({error}): publish the bundle again") from error
    if raw != _seal(sealed.content):
        raise BundleCorrupt(f"{path} differs from its hash: publish the bundle again")
    return sealed.content

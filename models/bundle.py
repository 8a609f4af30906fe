"""Bundles: which parts answer together, what they must score, and which bundle is the champion.

A repository is one folder, local or shared::

    <repository>/parts/<digest>/             immutable sets of files (``parts``)
    <repository>/bundles/<version>/manifest.json   which parts; the version is the SHA-256 of this file
    <repository>/champion.json               the version that should answer, and the epoch of who said so
    <repository>/epoch.json                  the newest epoch handed out

Everything is written aside, flushed and renamed, so a reader sees a whole thing or none, and everything is compared
with its hash before it is used. A part that both bundles name is one folder: a refreshed head ships kilobytes.

Epochs are fencing numbers: a learner claims one when it starts, and from then on every publisher with an older one is
refused, so at most one learner moves the champion.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headrace import BundleCorrupt, BundleError, BundleMismatch
from headrace.models import folders
from headrace.models.champion import Champion, champion, claim_epoch, newest_epoch, place_champion
from headrace.models.golden import GoldenRequest, read_golden, replay, write_golden
from headrace.models.parts import Part, check_format, is_digest, is_kind, open_part, read_part, write_part

__all__ = [
    "Bundle",
    "Champion",
    "GoldenRequest",
    "Manifest",
    "Part",
    "champion",
    "claim_epoch",
    "newest_epoch",
    "open_part",
    "prune",
    "publish",
    "read_bundle",
    "read_part",
    "replay",
    "versions",
    "write_bundle",
    "write_part",
]

FORMAT = 1
MANIFEST_BYTES = 1 << 20
PARTS = 16
"""A bundle names at most so many parts."""

Metadata = Mapping[str, str | int | float | bool | None]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a bundle is made of: the digest of each part by kind, the part with the golden requests, free remarks."""

    format: int
    parts: dict[str, str]
    golden: str | None
    metadata: dict[str, str | int | float | bool | None]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose every byte was compared with its hash.

    Attributes:
        version: its name, 64 hexadecimal digits.
        manifest: as it was published.
        parts: by kind, without the golden requests.
        golden: what it must score.
    """

    version: str
    manifest: Manifest
    parts: Mapping[str, Part]
    golden: tuple[GoldenRequest, ...] = ()


def write_bundle(
    repository: Path, parts: Mapping[str, str], golden: Sequence[GoldenRequest], metadata: Metadata | None = None
) -> str:
    """The version of a bundle of these parts; it is in the repository, durably and verified, when this returns.

    Args:
        repository: where its parts already are.
        parts: the digest of each part by kind. Without a ``student`` there is no score from text.
        golden: what each part must score; none are legal, and then only hashes and the warm-up protect the worker.
        metadata: remarks, e.g. what it was trained on. They count into the version.

    Raises:
        BundleCorrupt: a part is not in the repository or is broken.
        BundleMismatch: a part is of another kind than it is named for, or a golden score is not finite.
    """
    manifest = Manifest(
        format=FORMAT,
        parts=dict(parts),
        golden=write_golden(repository, golden) if golden else None,
        metadata=dict(metadata or {}),
    )
    content = msgspec.json.encode(manifest, order="sorted")
    if len(content) > MANIFEST_BYTES:
        raise BundleMismatch(f"the metadata of a bundle may have {MANIFEST_BYTES} bytes: shorten it")
    version = hashlib.sha256(content).hexdigest()
    folder = repository / "bundles" / version
    _read_parts(repository, manifest, f"the new bundle {version}", {})
    with folders.exclusive(repository):
        try:
            _read_manifest(repository, version)
            os.utime(folder)
        except BundleError:
            folders.place_folder(folder, {"manifest.json": content})
    return version


def read_bundle(repository: Path, version: str, known: Mapping[str, Part] | None = None) -> Bundle:
    """The bundle of this version, after every byte of it was compared with its hash.

    Args:
        repository: where it lies.
        version: as ``champion`` or ``write_bundle`` gave it.
        known: parts by digest that were verified before and are still open: they are not read again.

    Raises:
        BundleCorrupt: bytes are missing, are too many or differ from their hash.
        BundleMismatch: it is of another format, or does not say what a bundle must say.
    """
    manifest = _read_manifest(repository, version)
    where = f"bundle {version}"
    parts = _read_parts(repository, manifest, where, known or {})
    if manifest.golden is None:
        return Bundle(version=version, manifest=manifest, parts=parts)
    golden = (known or {}).get(manifest.golden) or read_part(repository, manifest.golden)
    return Bundle(version=version, manifest=manifest, parts=parts, golden=read_golden(golden, parts.keys()))


def publish(repository: Path, version: str, epoch: int) -> None:
    """The bundle is the champion, in one step; asking for the same again changes nothing.

    Args:
        repository: where the bundle lies.
        version: which bundle; it is verified first.
        epoch: the fencing number of this publisher, from ``claim_epoch``.

    Raises:
        BundleError: a newer epoch was claimed or has published (neither of the two below), so somebody else took over.
        BundleCorrupt, BundleMismatch: as ``read_bundle``; the champion stays what it was.
    """
    read_bundle(repository, version)
    with folders.exclusive(repository):
        newest = newest_epoch(repository)
        if epoch < newest:
            raise BundleError(
                f"epoch {epoch} may not publish since epoch {newest} exists: another publisher took over, stop this one"
            )
        wanted = Champion(version=version, epoch=epoch)
        try:
            done = champion(repository) == wanted
        except BundleCorrupt:
            done = False
        if not done:
            place_champion(repository, wanted)


def versions(repository: Path) -> list[tuple[str, float]]:
    """(version, when it was written in seconds since 1970) of every bundle that lies there, newest first; not read."""
    return _newest_first(repository / "bundles")


def prune(repository: Path, keep: int, now_s: float, grace_s: float = 3600.0) -> tuple[str, ...]:
    """The names of the bundles and parts that were removed.

    The champion, the newest ``keep`` bundles by the time they were written, their parts, and everything younger than
    the grace stay: a publisher writes its parts before the bundle that names them. A broken bundle has no parts to
    protect and goes when its time comes.

    Args:
        repository: what is cleaned.
        keep: at least so many bundles stay.
        now_s: the time, seconds since 1970.
        grace_s: what was written or asked for within so many seconds stays.
    """
    with folders.exclusive(repository):
        current = champion(repository)
        bundles = versions(repository)
        young = {name for name, written_s in bundles if written_s > now_s - grace_s}
        kept = {name for name, _ in bundles[:keep]} | young | ({current.version} if current else set())
        needed: set[str] = set()
        for version in kept:
            try:
                manifest = _read_manifest(repository, version)
            except BundleError:
                continue
            needed.update(manifest.parts.values(), [manifest.golden] if manifest.golden else [])
        gone = [repository / "bundles" / name for name, _ in bundles if name not in kept]
        gone += [
            repository / "parts" / name
            for name, written_s in _newest_first(repository / "parts")
            if name not in needed and written_s <= now_s - grace_s
        ]
        for folder in gone:
            folders.remove_folder(folder)
        for folder in (repository, repository / "bundles", repository / "parts"):
            folders.sweep(folder, now_s - grace_s)
    return tuple(folder.name for folder in gone)


def _newest_first(folder: Path) -> list[tuple[str, float]]:
    found = [(path.name, path.stat().st_mtime) for path in folder.glob("*") if is_digest(path.name) and path.is_dir()]
    return sorted(found, key=lambda entry: (-entry[1], entry[0]))


def _read_manifest(repository: Path, version: str) -> Manifest:
    if not is_digest(version):
        raise BundleMismatch(f"{version!r:.100} is not the version of a bundle (64 hexadecimal digits)")
    folder = repository / "bundles" / version
    path = folder / "manifest.json"
    if extra := [name for name in folders.names_in(folder, PARTS) if name != "manifest.json"]:
        raise BundleCorrupt(f"{folder / extra[0]} does not belong to the bundle: remove it or copy the bundle again")
    content = folders.read_file(path, MANIFEST_BYTES)
    if hashlib.sha256(content).hexdigest() != version:
        raise BundleCorrupt(f"{path} differs from the version it lies under: copy or publish the bundle again")
    check_format(content, path, FORMAT)
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleMismatch(f"{path} is not a manifest ({error}): publish the bundle again") from error
    return manifest


def _read_parts(repository: Path, manifest: Manifest, where: str, known: Mapping[str, Part]) -> dict[str, Part]:
    if not 1 <= len(manifest.parts) <= PARTS:
        raise BundleMismatch(f"{where} names {len(manifest.parts)} parts (1 to {PARTS}): publish it again")
    parts: dict[str, Part] = {}
    for kind, digest in manifest.parts.items():
        if not is_kind(kind):
            raise BundleMismatch(f"{where} names a part of kind {kind!r:.100}: publish it again")
        part = known.get(digest) or read_part(repository, digest)
        if part.kind != kind:
            raise BundleMismatch(f"{where} names part {digest} its {kind}, but it is a {part.kind}: publish it again")
        parts[kind] = part
    return parts

"""Parts: immutable sets of files, named by what they hold.

A part lies in ``<repository>/parts/<digest>/`` with a ``part.json`` that lists its kind and the size and SHA-256 of
every file; the digest is the SHA-256 of that ``part.json``. So one digest fixes every byte, two bundles with the same
student share one folder, and a worker that has a digest open need not read it again.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headrace import BundleCorrupt, BundleError, BundleMismatch
from headrace.models import folders

FORMAT = 1
FILES = 64
"""A part has at most so many files."""
FILE_BYTES = 8 << 30
"""A file of a part is at most this large."""
_LIST = "part.json"
_LIST_BYTES = 64 << 10
_KIND = re.compile(r"[a-z][a-z0-9-]{0,39}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a part: its SHA-256 in hexadecimal and its size."""

    sha256: str
    size_bytes: int


class _List(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    kind: str
    files: dict[str, FileEntry]


class _Format(msgspec.Struct, frozen=True):
    format: int


@dataclass(frozen=True, slots=True)
class Part:
    """A part whose bytes were compared with their hashes.

    Attributes:
        kind: what it is, e.g. ``student``, ``head``, ``golden``.
        digest: its name, 64 hexadecimal digits.
        folder: where it lies.
        files: what it holds, by name.
    """

    kind: str
    digest: str
    folder: Path
    files: Mapping[str, FileEntry]

    def read(self, name: str, limit_bytes: int = FILE_BYTES) -> bytes:
        """The content of one file, hashed again, so that what is used is what was verified.

        Raises:
            BundleCorrupt: the file was changed or removed since, or is larger than limit_bytes.
            BundleMismatch: this part has no such file.
        """
        entry = self.files.get(name)
        if entry is None:
            raise BundleMismatch(f"part {self.digest} ({self.kind}) has no file {name}: build the part again")
        content = folders.read_file(self.folder / name, min(limit_bytes, entry.size_bytes))
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise BundleCorrupt(f"{self.folder / name} differs from its hash: copy or publish the bundle again")
        return content


def is_digest(text: str) -> bool:
    """Whether a text can name a part: 64 lower-case hexadecimal digits, so it is safe in a path."""
    return _DIGEST.fullmatch(text) is not None


def is_kind(text: str) -> bool:
    """Whether a text can name a kind of part: lower-case letters, digits and hyphens, 40 at most."""
    return _KIND.fullmatch(text) is not None


def check_format(content: bytes, path: Path, expected: int) -> None:
    """Nothing, when a JSON file names the format that this program reads.

    Raises:
        BundleMismatch: it names none, or another one.
    """
    try:
        found = msgspec.json.decode(content, type=_Format).format
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleMismatch(f"{path} is not a list of this program ({error}): publish the bundle again") from error
    if found != expected:
        raise BundleMismatch(
            f"{path} has format {found}, this program reads {expected}: "
            "publish the bundle with the version of headrace that runs the worker"
        )


def _list_of(kind: str, files: Mapping[str, bytes]) -> bytes:
    entries = {
        name: FileEntry(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
        for name, content in files.items()
    }
    # Sorted, so that equal content has an equal name.
    return msgspec.json.encode(_List(format=FORMAT, kind=kind, files=entries), order="sorted")


def _refusal(kind: str, files: Mapping[str, object]) -> str:
    if not is_kind(kind):
        return f"kind {kind!r:.100}"
    for name in files:
        if not folders.plain_name(name) or name == _LIST:
            return f"file name {name!r:.200}"
    return "" if 1 <= len(files) <= FILES else f"number of files {len(files)} (1 to {FILES})"


def write_part(repository: Path, kind: str, files: Mapping[str, bytes]) -> str:
    """The digest of a part with these files; it is in the repository, durably, when this returns.

    The same content gives the same digest and is written once; a broken folder of that name is replaced.

    Raises:
        ValueError: the kind or a file name may not be used, or there are no files or too many.
    """
    if refused := _refusal(kind, files):
        raise ValueError(f"a part cannot have this {refused}")
    listed = _list_of(kind, files)
    digest = hashlib.sha256(listed).hexdigest()
    folder = repository / "parts" / digest
    with folders.exclusive(repository):
        try:
            read_part(repository, digest)
            os.utime(folder)  # a prune that runs now must see that it was just asked for
        except BundleError:
            folders.place_folder(folder, {**files, _LIST: listed})
    return digest


def read_part(repository: Path, digest: str) -> Part:
    """The part of this name, after every byte of it was compared with its hash.

    Raises:
        BundleCorrupt: a file is missing, too many, of another size or differs from its hash.
        BundleMismatch: the name is none, or the part is of another format.
    """
    if not is_digest(digest):
        raise BundleMismatch(f"{digest!r:.100} is not the name of a part (64 hexadecimal digits)")
    return open_part(repository / "parts" / digest)


def open_part(folder: Path) -> Part:
    """The part that lies in a folder named by its digest, verified as by ``read_part``."""
    if not is_digest(folder.name):
        raise BundleMismatch(f"{folder} is not the folder of a part: its name is not 64 hexadecimal digits")
    found = folders.names_in(folder, FILES + 1)
    listed = folders.read_file(folder / _LIST, _LIST_BYTES)
    if hashlib.sha256(listed).hexdigest() != folder.name:
        raise BundleCorrupt(f"{folder / _LIST} differs from the name of its folder: copy or publish the bundle again")
    check_format(listed, folder / _LIST, FORMAT)
    try:
        content = msgspec.json.decode(listed, type=_List)
    except msgspec.DecodeError as error:
        raise BundleMismatch(f"{folder / _LIST} is not a list of files ({error}): build the part again") from error
    if refused := _refusal(content.kind, content.files):
        raise BundleMismatch(f"{folder / _LIST} names a {refused}, which a part cannot have: build the part again")
    if extra := sorted(set(found) - set(content.files) - {_LIST}):
        raise BundleCorrupt(f"{folder / extra[0]} does not belong to the part: remove it or copy the bundle again")
    for name, entry in content.files.items():
        if not 0 <= entry.size_bytes <= FILE_BYTES:
            raise BundleMismatch(f"{folder / _LIST} gives {name} {entry.size_bytes} bytes: build the part again")
        if folders.hash_file(folder / name, entry.size_bytes) != entry.sha256:
            raise BundleCorrupt(f"{folder / name} differs from its hash: copy or publish the bundle again")
    return Part(kind=content.kind, digest=folder.name, folder=folder, files=content.files)

"""The bundles of the tour: the first one, one with a flipped bit, and those that were learned on the way."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from headrace import BundleCorrupt
from headrace.models.bundle import GoldenRequest, champion, newest_epoch, publish, read_bundle, write_bundle, write_part
from headrace.models.champion import Champion, place_champion
from headrace.models.features import FEATURES
from headrace.models.head import Head
from headrace.online.pairs import PairScorer, golden_neighbours
from headrace.online.pairs import golden_requests as student_requests
from headrace.online.publisher import HEAD_BYTES, HEAD_FILE, golden_requests

GOLDEN_QUERY: Final = "a light for my bike"
GOLDEN_TEXTS: Final = ("Rear light for bicycles, red", "Desk lamp with two arms", "Rain coat for children")


def first_bundle(repository: Path, student: Path, head: Head) -> str:
    """The version of a bundle of the student and of a first head; it is the champion then.

    Args:
        repository: of the tour; made here.
        student: the folder of the student part.
        head: the first one.
    """
    place = repository / "parts" / student.name
    place.parent.mkdir(parents=True)
    shutil.copytree(student, place)
    scorer = PairScorer(place)
    told = golden_neighbours(scorer, GOLDEN_QUERY, GOLDEN_TEXTS)
    golden = [*student_requests(scorer, GOLDEN_QUERY, GOLDEN_TEXTS, told), *_golden(head)]
    named = {"student": student.name, "head": write_part(repository, "head", {HEAD_FILE: head.to_bytes()})}
    version = write_bundle(repository, named, golden, {"examples": 0})
    publish(repository, version, newest_epoch(repository))
    return version


def flipped_bundle(repository: Path) -> tuple[str, str]:
    """The version of a bundle in whose head one bit is wrong, and which one; it is not published.

    The head is the champion's with one weight moved a little, so that the bundle is a new one.
    """
    current = champion(repository)
    if current is None:
        raise ValueError(f"{repository} has no champion")
    bundle = read_bundle(repository, current.version)
    head = read_head(repository, current.version)
    head = replace(head, weights=head.weights + 1e-3)
    digest = write_part(repository, "head", {HEAD_FILE: head.to_bytes()})
    golden = [request for request in bundle.golden if request.part != "head"] + _golden(head)
    version = write_bundle(repository, {**bundle.manifest.parts, "head": digest}, golden, {"remark": "one bit"})
    file = repository / "parts" / digest / HEAD_FILE
    content = bytearray(file.read_bytes())
    place = len(content) // 2
    content[place] ^= 1 << 3
    file.write_bytes(content)
    return version, f"bit 3 of byte {place:,} of {HEAD_FILE}"


def point_at(repository: Path, version: str) -> None:
    """Moves the pointer without looking, as a broken copy or a careless hand would; ``publish`` would refuse."""
    place_champion(repository, Champion(version, newest_epoch(repository)))


def republish(repository: Path, version: str) -> None:
    """Makes a bundle the champion again, under the newest epoch: the learner that runs stays the one who may write."""
    publish(repository, version, newest_epoch(repository))


def learned(repository: Path) -> tuple[str, ...]:
    """The versions that the learner published, in the order in which they were learned."""
    found = []
    for folder in (repository / "bundles").iterdir():
        try:
            metadata = read_bundle(repository, folder.name).manifest.metadata
        except BundleCorrupt:  # the flipped one
            continue
        if metadata.get("made_by") == "refresh":
            found.append((int(metadata["examples"] or 0), folder.name))
    return tuple(version for _, version in sorted(found))


def read_head(repository: Path, version: str) -> Head:
    """The head of a bundle."""
    part = read_bundle(repository, version).parts["head"]
    return Head.from_bytes(part.read(HEAD_FILE, HEAD_BYTES))


def _golden(head: Head) -> list[GoldenRequest]:
    rows = np.linspace(-1, 2, 4 * len(FEATURES), dtype=np.float32).reshape(4, len(FEATURES))
    return golden_requests(head, (rows,))

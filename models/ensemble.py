"""Several teachers as one: each asked, their logits put together on one calibrated scale.

A folder holds ``ensemble.json``: where each teacher lies, the weights of their logits, a level; and what the
calibration was worth on queries that nobody was trained on.

Shapes: N pairs, K teachers.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.models import aggregation, fitting, teacher
from headrace.models.aggregation import Aggregation, placed
from headrace.models.calibration import Ensemble as Weights
from headrace.models.calibration import calibration_error, fit_ensemble
from headrace.models.margins import sigmoid
from headrace.models.prompts import PROMPT_HASH, Pair, present
from headrace.models.training_pairs import TrainingPairs

Doubles = NDArray[np.float64]

FILE: Final = "ensemble.json"
LIMIT_BYTES: Final = 1 << 20
Say = Callable[[str, int, int], None]


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One teacher of an ensemble.

    Attributes:
        folder: of the teacher, seen from the ensemble's.
        digest: of its weights.
        aggregation: how its stages become one logit: level, weights [3], presence [2].
    """

    folder: str
    digest: str
    aggregation: tuple[float, tuple[float, float, float], tuple[float, float]] = (0.0, (0.2, 0.3, 0.5), (0.0, 0.0))


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``ensemble.json`` says.

    Attributes:
        members: the teachers.
        weights: of their logits.
        level: is added.
        absent: instead of a member that did not score.
        prompt: hash of the wording.
        calibration_error: expected, on held-out queries.
    """

    members: tuple[Member, ...]
    weights: tuple[float, ...]
    level: float
    absent: tuple[float, ...]
    prompt: str
    calibration_error: float


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Teachers, open."""

    manifest: Manifest
    teachers: tuple[teacher.Teacher, ...]
    readers: tuple[teacher.Reader, ...]
    batch_rows: int = 64
    id: str = field(default="", compare=False)

    @property
    def prompt(self) -> str:
        """Hash of the wording that the teachers are asked with."""
        return self.manifest.prompt

    def logits(self, pairs: Sequence[Pair], say: Say | None = None) -> Doubles:
        """Logits of the calibrated probability that each item is relevant, float64 [N]."""
        weights = Weights(self.manifest.weights, self.manifest.level, self.manifest.absent)
        return weights.logits(self.each(pairs, say))

    def probabilities(self, pairs: Sequence[Pair], say: Say | None = None) -> Doubles:
        """The calibrated probabilities, float64 [N]."""
        return sigmoid(self.logits(pairs, say))

    def each(self, pairs: Sequence[Pair], say: Say | None = None) -> Doubles:
        """Every teacher's logit, float64 [N, K]."""
        found = []
        for member, one, reader in zip(self.manifest.members, self.teachers, self.readers, strict=True):
            told = None if say is None else (lambda done, total, name=member.folder: say(name, done, total))
            read = teacher.predict(one, reader.rows(pairs), self.batch_rows, told)
            found.append(one_logit(one, read, pairs, member))
        return np.stack(found, axis=1) if len(pairs) else np.empty((0, len(found)))


def one_logit(one: teacher.Teacher, read: Doubles, pairs: Sequence[Pair], member: Member) -> Doubles:
    """A teacher's read-outs [N, up to 3] as one logit a pair [N]."""
    if one.config.kind == "encoder":
        return read[:, 0]
    level, weights, presence = member.aggregation
    return Aggregation(level, weights, presence).logits(placed(read, [present(pair) for pair in pairs]))


def member_of(folder: str, digest: str, one: teacher.Teacher, read: Doubles, held: TrainingPairs) -> Member:
    """A teacher as a member, its stages put together as pairs with neighbours among those held apart say.

    Args:
        folder: of the teacher, seen from the ensemble's.
        digest: of its weights.
        one: the teacher.
        read: its read-outs of the pairs [N, up to 3].
        held: pairs that it has not learned from.
    """
    if one.config.kind == "encoder":
        return Member(folder, digest)
    found = aggregation.fit(placed(read, [present(pair) for pair in held.pairs]), held.targets)
    weights, levels = found.weights, found.presence
    return Member(folder, digest, (found.level, (weights[0], weights[1], weights[2]), (levels[0], levels[1])))


def held_error(logits: Doubles, targets: Doubles, lists: NDArray[np.int64]) -> float:
    """The calibration error [N, K] logits have where they were not fitted: on each half of the queries by the other.

    Of a single query it is that of the fit itself.
    """
    said = np.empty(len(targets))
    odd = lists % 2 == 1
    for half in (odd, ~odd):
        others = ~half if (~half).any() else half
        if half.any():
            said[half] = fit_ensemble(logits[others], targets[others]).probabilities(logits[half])
    return calibration_error(said, targets)


def open_ensemble(folder: Path, weights: Path | None = None, device: str | None = None) -> Ensemble:
    """The ensemble of a folder, ready to be asked.

    Args:
        folder: holds ``ensemble.json``.
        weights: where the teachers' backbones lie now, by their folder's name; None: where they lay in training.
        device: as ``fitting.device_of`` takes it.

    Raises:
        FileNotFoundError: the folder or a teacher's is not there.
        ValueError: the manifest cannot be read, or a teacher's weights are other ones than those it was fitted with.
    """
    manifest = read(folder)
    teachers, readers = [], []
    for member in manifest.members:
        place = folder / member.folder
        if digest_of(place) != member.digest:
            raise ValueError(
                f"{place} holds other weights than {folder / FILE} was fitted with: fit the ensemble again"
            )
        one = teacher.load(place, weights)
        teachers.append(one.to(fitting.device_of(device)))
        readers.append(teacher.Reader(one.config))
    return Ensemble(manifest, tuple(teachers), tuple(readers), id=name_of(folder))


def read(folder: Path) -> Manifest:
    """What ``ensemble.json`` of a folder says.

    Raises:
        FileNotFoundError: it is not there. ValueError: it cannot be read.
    """
    try:
        return msgspec.json.decode((folder / FILE).read_bytes()[: LIMIT_BYTES + 1], type=Manifest)
    except msgspec.DecodeError as error:
        raise ValueError(f"{folder / FILE} cannot be read ({error}): fit the ensemble again") from error


def name_of(folder: Path) -> str:
    """Names an ensemble: its teachers' weights, how they are put together, the wording."""
    return hashlib.blake2b((folder / FILE).read_bytes(), digest_size=8).hexdigest()


def digest_of(folder: Path) -> str:
    """Names the weights that a teacher learned: 16 hex digits of their hash."""
    with (folder / teacher.WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def write(folder: Path, members: Sequence[Member], weights: Weights, calibration_error: float) -> None:
    """Writes the manifest of an ensemble."""
    manifest = Manifest(tuple(members), weights.weights, weights.level, weights.absent, PROMPT_HASH, calibration_error)
    folder.mkdir(parents=True, exist_ok=True)
    with fitting.aside(folder / FILE) as path:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")

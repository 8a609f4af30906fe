"""Teaches a student what a teacher thinks of pairs: whole lists of a query at a time, so that their margins count.

A batch is some lists. Its rows are read in chunks of like length, each trimmed to its longest row, and the losses are
those of the whole batch: little padding, whatever the lists.

Shapes: N pairs, B pairs of a batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headrace.models import fitting, losses
from headrace.models.calibration import clipped_logit
from headrace.models.neighbour_gate import Batch
from headrace.models.student import Rows, Student, tensors_of

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

AIM_BOUND: Final = 8.0
"""A teacher's logit counts up to here: beyond, a margin would only be about how sure it is of what is clear."""


@dataclass(frozen=True, slots=True)
class Adversary:
    """Training on embeddings that are pushed where the loss rises most.

    Attributes:
        size: length of the push.
        disturbed: weight of the loss on pushed embeddings.
        agreement: weight of the divergence of their scores.
        warmup: share of the steps without it.
    """

    size: float = 1.0
    disturbed: float = 0.5
    agreement: float = 0.5
    warmup: float = 0.1


@dataclass(frozen=True, slots=True)
class DistillCourse:
    """How a student is taught.

    Attributes:
        learning_rate: at its highest.
        rows: of a batch, about: lists stay whole.
        chunk: rows read at once.
        epochs: passes over the lists.
        margin: weight of the margin loss within lists.
        anchor: weight of the point loss.
        adversary: None: without.
    """

    learning_rate: float = 1e-4
    rows: int = 96
    chunk: int = 32
    epochs: int = 1
    seed: int = 0
    margin: float = 1.0
    anchor: float = 0.1
    warmup: float = 0.1
    head_rate: float = 1.0
    adversary: Adversary | None = None


def aims_of(probabilities: Doubles) -> Doubles:
    """The logits [N] of a teacher's calibrated probabilities [N], within +-8."""
    return clipped_logit(probabilities, AIM_BOUND)


def batches(lists: Sequence[int] | Ints, rows: int, random: np.random.Generator) -> list[list[Ints]]:
    """All lists once, whole, in random order, cut into batches of about so many rows.

    Args:
        lists: [N], which list each pair belongs to.
        rows: a batch ends with the list that reaches so many.
        random: decides the order.

    Returns:
        Batches, each the places of its lists' pairs.
    """
    owners = np.asarray(lists, dtype=np.int64)
    order = np.argsort(owners, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(owners[order])) + 1) if len(order) else []
    found: list[list[Ints]] = []
    taken = rows
    for place in random.permutation(len(groups)):
        if taken >= rows:
            found.append([])
            taken = 0
        found[-1].append(groups[place])
        taken += len(groups[place])
    return found


def train(  # noqa: PLR0913 -- what is learned, how, and where to, each by its name
    student: Student,
    rows: Rows,
    probabilities: Doubles,
    lists: Sequence[int] | Ints,
    course: DistillCourse,
    folder: Path,
    say: fitting.Say,
    about: Mapping[str, str | int | float] | None = None,
) -> None:
    """Teaches a student, from the checkpoint in ``folder`` where there is one.

    Args:
        student: on its device.
        rows: the pairs.
        probabilities: [N], the teacher's, calibrated; or soft labels, with ``margin`` 0.
        lists: [N], which query each pair belongs to.
        course: how.
        folder: keeps the checkpoint.
        say: is told of each step.
        about: more that names this training.

    Raises:
        fitting.WrongCheckpoint: as ``fitting.fit`` says.
    """
    aims = aims_of(probabilities)
    plan = [
        batch
        for epoch in range(course.epochs)
        for batch in batches(lists, course.rows, np.random.default_rng([course.seed, epoch]))
    ]
    lesson = _Lesson(student, rows, rows.lengths(), probabilities, aims, course, round(_warmup(course) * len(plan)))
    student.train()
    steps = fitting.Course(len(plan), course.learning_rate, course.warmup, seed=course.seed, head_rate=course.head_rate)
    known = {"pairs": len(rows), **{name: str(value) for name, value in asdict(course).items()}, **(about or {})}
    fitting.fit(student, steps, lambda step: lesson.loss(step, plan[step]), folder, say, known)


def _warmup(course: DistillCourse) -> float:
    return course.adversary.warmup if course.adversary else 1.0


@dataclass(frozen=True, slots=True)
class _Lesson:
    student: Student
    rows: Rows
    lengths: Ints
    probabilities: Doubles
    aims: Doubles
    course: DistillCourse
    begins: int

    def loss(self, step: int, batch: Sequence[Ints]) -> Tensor:
        """This process's share of the loss of a batch: of the lists that fall to it."""
        mine = [batch[place] for place in fitting.own_share(np.arange(len(batch)))]
        device = next(self.student.parameters()).device
        if not mine:
            return fitting.nothing(device)
        places = np.concatenate(mine)
        owners = np.repeat(np.arange(len(mine)), [len(one) for one in mine])
        order = np.argsort(self.lengths[places], kind="stable")
        places, owners = places[order], owners[order]
        totals = (len(batch), sum(map(len, batch)))
        base = _Base(
            torch.from_numpy(self.aims[places]).float().to(device),
            torch.from_numpy(self.probabilities[places]).float().to(device),
            torch.from_numpy(owners).to(device),
            self.course,
            totals,
        )
        given = self._given(places, device)
        with fitting.low_precision(device):
            embedded = [self.student.embed(one) for one in given]
            scores = self._read(embedded, given)
        loss = base.of(scores)
        if self.course.adversary is None or step < self.begins:
            return loss
        return loss + self._disturbed(loss, base, scores, embedded, given)

    def _given(self, places: Ints, device: torch.device) -> list[Batch]:
        size = self.course.chunk
        chunks = [places[begin : begin + size] for begin in range(0, len(places), size)]
        return [tensors_of(self.rows.arrays(chunk), device) for chunk in chunks]

    def _read(self, embedded: Sequence[Tensor], given: Sequence[Batch]) -> Tensor:
        return torch.cat([self.student.read(one, batch) for one, batch in zip(embedded, given, strict=True)])

    def _disturbed(
        self, loss: Tensor, base: "_Base", scores: Tensor, embedded: list[Tensor], given: Sequence[Batch]
    ) -> Tensor:
        """What the pushed embeddings add to the loss."""
        adversary = self.course.adversary
        assert adversary is not None
        gradients = torch.autograd.grad(loss, embedded, retain_graph=True)
        pushed = [
            one + losses.disturbance(gradient, batch["attention_mask"], adversary.size)
            for one, gradient, batch in zip(embedded, gradients, given, strict=True)
        ]
        with fitting.low_precision(scores.device):
            theirs = self._read(pushed, given)
        apart = losses.divergence(scores, theirs) / base.totals[1]
        return adversary.disturbed * base.of(theirs) + adversary.agreement * apart


@dataclass(frozen=True, slots=True)
class _Base:
    aims: Tensor
    probabilities: Tensor
    owners: Tensor
    course: DistillCourse
    totals: tuple[int, int]

    def of(self, scores: Tensor) -> Tensor:
        lists, pairs = self.totals
        loss = self.course.anchor * losses.point_loss(scores, self.probabilities) / pairs
        if self.course.margin:
            loss = loss + self.course.margin * losses.margin_loss(scores, self.aims, self.owners) / lists
        return loss

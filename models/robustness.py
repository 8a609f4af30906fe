"""How much scores suffer when the same is asked otherwise: AUC lost, and how far items move within their lists.

Each perturbation is measured on the rows whose query it changed, before and after; a query changes with all its rows,
so lists stay whole. What is said of all perturbations is the mean over those that keep the meaning, each as heavy as
the rows that it changed.

Shapes: N rows, M rows whose query changed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.models import row_statistics
from headrace.models.evaluation import Judged, Scale, arms_of, check_arm
from headrace.models.intervals import Estimate, Resampling, mean_of
from headrace.models.perturbations import Perturbation, perturbed

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

ALL: Final = "all that keep the meaning"


@dataclass(frozen=True, slots=True)
class Asked:
    """The rows whose query a perturbation changes, int64 [M], and what it becomes, [M]."""

    perturbation: Perturbation
    rows: Ints
    queries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """One perturbation and what models say under it.

    Attributes:
        name: of the perturbation. keeps_meaning: whether it does.
        rows: int64 [M], whose query it changed.
        scores: name of a model -> float64 [M].
    """

    name: str
    keeps_meaning: bool
    rows: Ints
    scores: Mapping[str, Doubles]


@dataclass(frozen=True, slots=True)
class Harm:
    """What a perturbation does to one arm.

    Attributes:
        before: AUC of the rows as they were. drop: AUC lost; below 0 when it rose.
        moved: mean number of places that an item moves within its list; equal scores share their mean place.
    """

    before: Estimate
    drop: Estimate
    moved: Estimate


@dataclass(frozen=True, slots=True)
class Robustness:
    """What came out.

    Attributes:
        rows: perturbation -> share of rows whose query it changed.
        arms: name -> perturbation -> what it does, ``ALL`` among them.
        against: the arm that others are compared with; "" for none.
        saved: name -> perturbation -> drop of the arm minus drop of ``against``, paired; below 0 is better.
        relative: name -> the drop over ``ALL`` as a share of that of ``against``, minus 1; NaN where there was none.
    """

    rows: Mapping[str, float]
    arms: Mapping[str, Mapping[str, Harm]]
    against: str
    saved: Mapping[str, Mapping[str, Estimate]]
    relative: Mapping[str, Estimate]


def asked_otherwise(judged: Judged, perturbation: Perturbation, seed: int = 0) -> Asked:
    """What becomes of the queries of some pairs; the same query becomes the same in all its rows."""
    queries = list(dict.fromkeys(judged.queries))
    became = dict(zip(queries, perturbed(queries, perturbation, seed), strict=True))
    found = [(row, new) for row, query in enumerate(judged.queries) if (new := became[query]) is not None]
    return Asked(perturbation, np.array([row for row, _ in found], dtype=np.int64), tuple(new for _, new in found))


def changed(asked: Sequence[Asked], scores: Mapping[str, Doubles]) -> list[Changed]:
    """What models say of changed queries: their scores of all rows of ``asked``, one behind the other, taken apart."""
    ends = np.cumsum([len(one.rows) for one in asked])[:-1]
    parted = {name: np.split(values, ends) for name, values in scores.items()}
    return [
        Changed(
            one.perturbation.name,
            one.perturbation.keeps_meaning,
            one.rows,
            {name: values[place] for name, values in parted.items()},
        )
        for place, one in enumerate(asked)
    ]


def robustness(
    judged: Judged,
    changes: Sequence[Changed],
    scale: Scale,
    against: str = "",
    seed: int = 0,
    resamples: int = 1000,
    say: Callable[[int, int], None] = lambda done, total: None,
) -> Robustness:
    """What perturbations do to each arm.

    Args:
        judged: the pairs, and the scores of the queries as they are.
        changes: by perturbation, the scores of the changed queries; those that changed no row are left out.
        scale: what labels mean.
        against: an arm that others are compared with.
        seed: of the resampling of queries.
        resamples: how many.
        say: is told how much is done, of how much.

    Raises:
        ValueError: there is no such arm.
    """
    arms = arms_of(judged.scores)
    check_arm(against, arms)
    draws = Resampling(judged.queries, seed, resamples)
    changes = [change for change in changes if len(change.rows)]
    total, done = len(changes) * len(judged.scores), 0
    found: dict[str, dict[str, Harm]] = {arm: {} for arm in arms}
    for change in changes:
        for arm, names in arms.items():
            found[arm][change.name] = _mean([_harm(judged, change, name, scale, draws) for name in names])
            say(done := done + len(names), total)
    kept = [change for change in changes if change.keeps_meaning]
    for harms in found.values():
        if kept:
            harms[ALL] = _mean([harms[one.name] for one in kept], [len(one.rows) for one in kept])
    shares = {change.name: len(change.rows) / len(judged) for change in changes}
    return Robustness(shares, found, against, *_compared(found, against))


def moves(before: Doubles, after: Doubles) -> float:
    """How many places the items of a list [B] move on average."""
    return float(np.abs(_places(before) - _places(after)).mean())


def _compared(
    found: Mapping[str, Mapping[str, Harm]], against: str
) -> tuple[dict[str, dict[str, Estimate]], dict[str, Estimate]]:
    """``Robustness.saved`` and ``Robustness.relative``."""
    saved: dict[str, dict[str, Estimate]] = {}
    relative: dict[str, Estimate] = {}
    for arm, harms in found.items():
        if against and arm != against:
            theirs = found[against]
            saved[arm] = {name: harm.drop - theirs[name].drop for name, harm in harms.items()}
            if ALL in harms:
                relative[arm] = harms[ALL].drop.relative_to(theirs[ALL].drop)
    return saved, relative


def _harm(judged: Judged, change: Changed, name: str, scale: Scale, draws: Resampling) -> Harm:
    positive = judged.labels[change.rows] >= scale.positive
    before, after = judged.scores[name][change.rows], change.scores[name]
    aucs = [
        draws.estimate(row_statistics.among(row_statistics.auc(scores, positive), change.rows))
        for scores in (before, after)
    ]
    own = Judged(tuple(judged.queries[row] for row in change.rows), (), judged.labels[change.rows], {})
    lists = [rows for rows in own.lists() if len(rows) > 1]
    moved = np.array([moves(before[rows], after[rows]) for rows in lists])
    firsts = np.array([change.rows[rows[0]] for rows in lists], dtype=np.int64)
    return Harm(aucs[0], aucs[0] - aucs[1], draws.estimate(row_statistics.mean(moved, firsts)))


def _mean(harms: Sequence[Harm], weights: Sequence[float] | None = None) -> Harm:
    return Harm(
        mean_of([harm.before for harm in harms], weights),
        mean_of([harm.drop for harm in harms], weights),
        mean_of([harm.moved for harm in harms], weights),
    )


def _places(scores: Doubles) -> Doubles:
    """The place of each item [B], 1 = first, equals share their mean place."""
    values, places, sizes = np.unique(-scores, return_inverse=True, return_counts=True)
    firsts = np.cumsum(sizes) - sizes
    found: Doubles = (firsts + (sizes + 1) / 2)[places]
    return found

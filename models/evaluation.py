"""How good scores of judged pairs are, with intervals over queries, and how far one model is ahead of another.

Rows are (query, title) pairs with a label from 0 to 1; a list is all rows of one query. Several models score the same
rows, so every difference is a paired one. A model that was trained several times is one *arm*: its scores are named
``arm/seed``, its numbers are means over seeds (of the numbers, not of the scores).

Shapes: N rows, L lists.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.models import calibration, metrics, row_statistics
from headrace.models.calibration import Reliability
from headrace.models.intervals import Estimate, Resampling, mean_of
from headrace.models.row_statistics import Statistic

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Say = Callable[[int, int], None]

TERCILES: Final = ("tail", "torso", "head")
SMALLER_IS_BETTER: Final = frozenset({"RMSE", "ECE"})
BINS: Final = 10


@dataclass(frozen=True, slots=True)
class Judged:
    """Judged pairs and what models say of them.

    Attributes:
        queries: [N], as they were typed. titles: [N].
        labels: float64 [N], 0 (irrelevant) to 1.
        scores: name of a model -> float64 [N]; what lies within 0 to 1 throughout is taken for a probability.
        exposures: float64 [N], how often the query was asked, or the pair was shown; None where it is not known.
    """

    queries: tuple[str, ...]
    titles: tuple[str, ...]
    labels: Doubles
    scores: Mapping[str, Doubles]
    exposures: Doubles | None = None

    def __len__(self) -> int:
        return len(self.queries)

    def scored(self, scores: Mapping[str, Doubles]) -> "Judged":
        """The same pairs with other scores."""
        return replace(self, scores=scores)

    def some(self, rows: int, seed: int = 0) -> "Judged":
        """At least so many pairs of whole queries, drawn at random, in their order; all where there are not so many."""
        lists = self.lists()
        drawn = [lists[place] for place in np.random.default_rng(seed).permutation(len(lists))]
        enough = int(np.searchsorted(np.cumsum([len(one) for one in drawn]), rows)) + 1
        return self.at(np.sort(np.concatenate(drawn[:enough])))

    def at(self, rows: Ints) -> "Judged":
        """The pairs at some rows."""
        return Judged(
            tuple(self.queries[row] for row in rows),
            tuple(self.titles[row] for row in rows),
            self.labels[rows],
            {name: scores[rows] for name, scores in self.scores.items()},
            None if self.exposures is None else self.exposures[rows],
        )

    def lists(self) -> list[Ints]:
        """The rows of each query, in the order in which queries come."""
        found: dict[str, list[int]] = {}
        for place, query in enumerate(self.queries):
            found.setdefault(query, []).append(place)
        return [np.array(rows, dtype=np.int64) for rows in found.values()]


@dataclass(frozen=True, slots=True)
class Scale:
    """What labels mean.

    Attributes:
        span: so many points of the original rating lie between label 0 and label 1; RMSE is given in them, and an item
            is worth 2^(span x label) - 1 in a list.
        positive: labels of at least this are positives of the AUC; a little below 2/3, since ratings are rounded.
        cut: places that nDCG counts.
        absolute: whether a probability should equal the label; else there is neither RMSE nor calibration.
    """

    span: float = 1.0
    positive: float = 0.66
    cut: int = 10
    absolute: bool = True


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came out.

    Attributes:
        rows: N. queries: L. positives: rows that are positive. ranked: lists that nDCG counts, those with any gain.
        arms: name -> metric -> its number.
        seeds: name -> metric -> the number of each seed, where an arm has several.
        against: the arm that others are compared with; "" for none.
        ahead: name -> metric -> arm minus ``against``, paired.
        reliability: name -> by bin, of arms that give probabilities; seeds together.
    """

    rows: int
    queries: int
    positives: int
    ranked: int
    arms: Mapping[str, Mapping[str, Estimate]]
    seeds: Mapping[str, Mapping[str, tuple[float, ...]]]
    against: str
    ahead: Mapping[str, Mapping[str, Estimate]]
    reliability: Mapping[str, Reliability]


def evaluate(
    judged: Judged,
    scale: Scale,
    against: str = "",
    seed: int = 0,
    resamples: int = 1000,
    say: Say = lambda done, total: None,
) -> Evaluation:
    """All numbers of all models of some judged pairs.

    Args:
        judged: the pairs, at least one, and the scores.
        scale: what labels mean.
        against: an arm that all others are compared with.
        seed: of the resampling of queries.
        resamples: how many.
        say: is told how many numbers are done, of how many.

    Raises:
        ValueError: there is no such arm.
    """
    arms = arms_of(judged.scores)
    check_arm(against, arms)
    draws = Resampling(judged.queries, seed, resamples)
    found = _estimates(judged, scale, draws, say)
    means = {arm: _means([found[name] for name in names]) for arm, names in arms.items()}
    return Evaluation(
        rows=len(judged),
        queries=draws.groups,
        positives=int(np.count_nonzero(judged.labels >= scale.positive)),
        ranked=len(_ranked(judged, scale)),
        arms=means,
        seeds={arm: _values([found[name] for name in names]) for arm, names in arms.items() if len(names) > 1},
        against=against,
        ahead={arm: minus(own, means[against]) for arm, own in means.items() if against and arm != against},
        reliability=_reliabilities(judged, arms) if scale.absolute else {},
    )


def _estimates(judged: Judged, scale: Scale, draws: Resampling, say: Say) -> dict[str, dict[str, Estimate]]:
    """Model -> metric -> its number."""
    prepared = {name: statistics(judged, scores, scale) for name, scores in judged.scores.items()}
    total, done = sum(map(len, prepared.values())), 0
    found: dict[str, dict[str, Estimate]] = {}
    for name, given in prepared.items():
        found[name] = {}
        for metric, statistic in given.items():
            found[name][metric] = draws.estimate(statistic)
            say(done := done + 1, total)
    return found


def statistics(judged: Judged, scores: Doubles, scale: Scale) -> dict[str, Statistic]:
    """The metrics of one model's scores [N], by name, as functions of how often each row counts."""
    positive = judged.labels >= scale.positive
    ranked = _ranked(judged, scale)
    found: dict[str, Statistic] = {}
    absolute = scale.absolute and probabilities(scores)
    if absolute:
        found["RMSE"] = row_statistics.rmse(scale.span * scores, scale.span * judged.labels)
    found["Spearman"] = row_statistics.spearman(scores, judged.labels)
    quality = [metrics.ndcg(scores[rows], gains(judged.labels[rows], scale), scale.cut) for rows in ranked]
    firsts = np.array([rows[0] for rows in ranked], dtype=np.int64)
    found[f"nDCG@{scale.cut}"] = row_statistics.mean(np.array(quality), firsts)
    found["AUC"] = row_statistics.auc(scores, positive)
    for name, rows in terciles(judged.exposures).items():
        found[f"AUC {name}"] = row_statistics.among(row_statistics.auc(scores[rows], positive[rows]), rows)
    if absolute:
        found["ECE"] = row_statistics.calibration_error(scores, judged.labels, calibration.bins_of(scores, BINS))
    return found


def terciles(exposures: Doubles | None) -> dict[str, Ints]:
    """Rows by how often their query was asked, about a third each; equals are never apart, so a third may be empty."""
    if exposures is None or not len(exposures):
        return {}
    low, high = np.quantile(exposures, [1 / 3, 2 / 3], method="inverted_cdf")
    third = (exposures > low).astype(np.int64) + (exposures > high)
    return {name: np.flatnonzero(third == place) for place, name in enumerate(TERCILES)}


def gains(labels: Doubles, scale: Scale) -> Doubles:
    """What items are worth in a list, [B] of labels [B]."""
    return np.exp2(scale.span * labels) - 1


def probabilities(scores: Doubles) -> bool:
    """Whether scores can be probabilities: all within 0 to 1."""
    return bool(((scores >= 0) & (scores <= 1)).all())


def arms_of(names: Sequence[str] | Mapping[str, object]) -> dict[str, list[str]]:
    """Arm -> the models that belong to it: ``name/0`` and ``name/1`` are the seeds of ``name``."""
    found: dict[str, list[str]] = {}
    for name in names:
        arm, slash, seed = name.rpartition("/")
        found.setdefault(arm if slash and arm and seed.isdigit() else name, []).append(name)
    return found


def check_arm(name: str, arms: Mapping[str, object]) -> None:
    """Nothing, when there is such an arm or the name is empty.

    Raises:
        ValueError: there is none; the text names those that there are.
    """
    if name and name not in arms:
        raise ValueError(f"there is no model {name!r} to compare with, there are {', '.join(arms)}")


def minus(ours: Mapping[str, Estimate], theirs: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """The paired differences of the numbers that both have."""
    return {name: one - theirs[name] for name, one in ours.items() if name in theirs}


def _means(seeds: Sequence[Mapping[str, Estimate]]) -> dict[str, Estimate]:
    shared = [name for name in seeds[0] if all(name in seed for seed in seeds)]
    return {name: mean_of([seed[name] for seed in seeds]) for name in shared}


def _values(seeds: Sequence[Mapping[str, Estimate]]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(seed[name].value for seed in seeds) for name in _means(seeds)}


def _ranked(judged: Judged, scale: Scale) -> list[Ints]:
    return [rows for rows in judged.lists() if gains(judged.labels[rows], scale).max() > 0]


def _reliabilities(judged: Judged, arms: Mapping[str, Sequence[str]]) -> dict[str, Reliability]:
    found = {}
    for arm, names in arms.items():
        scores = np.concatenate([judged.scores[name] for name in names])
        if probabilities(scores):
            found[arm] = calibration.reliability(scores, np.tile(judged.labels, len(names)), BINS)
    return found

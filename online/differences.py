"""What a comparison of served lists with the log found: sums over lists, as numbers for each feature; pure.

Shapes: B items of a list, F features, L and M records.
"""

from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.models.feature_names import FEATURES

Floats = NDArray[np.float32]
Standing = Literal["recomputed", "as logged", "not recomputable"]

AS_LOGGED: Final = ("student", "student_known")
UNLOGGED: Final = {
    "price": "prices stand in the request only",
    "item": "an item's copies carry no fence",
}
"""First word of a feature's name -> why it cannot be had again."""

OTHER_FEATURES: Final = "other_features"
OTHER_SOURCE: Final = "other_source"
NO_SHOPPER_FENCE: Final = "shopper_fence_not_in_log"
NO_QUERY_FENCE: Final = "query_fence_not_in_log"
NOT_FROM_THIS_LOG: Final = (NO_SHOPPER_FENCE, NO_QUERY_FENCE)
QUERY_CAPPED: Final = "query_capped"
ASKED_TWICE: Final = "item_asked_twice"


def standing_of(name: str) -> tuple[Standing, str]:
    """How a feature's value is had again, and why it is not recomputed, "" when it is."""
    if name in AS_LOGGED:
        return "as logged", "it depends on the bundle that served"
    why = UNLOGGED.get(name.partition("_")[0], "")
    return ("not recomputable", why) if why else ("recomputed", "")


class FeatureSkew(msgspec.Struct, frozen=True):
    """One feature over all lists.

    Attributes:
        name: of the feature.
        standing: how its recomputed value came about; only ``recomputed`` ones are compared.
        why: it cannot be recomputed, "" when it can.
        rows: that were compared.
        differing: of those, rows whose two values are not the same float16.
        share: differing / rows, 0 without rows.
        mean_abs, max_abs: of the difference, over all compared rows.
    """

    name: str
    standing: Standing
    why: str
    rows: int
    differing: int
    share: float
    mean_abs: float
    max_abs: float


class SequenceSkew(msgspec.Struct, frozen=True):
    """How far behind the sequences were that were read, against what had happened (event time) when they were.

    Attributes:
        lists: compared.
        stale: of those, how many missed at least one record.
        missing_mean, missing_max: records that had happened and were not there.
        distance_mean, distance_max: edits (insert, delete, replace one record) from what was read to what had happened;
            more than what was missing where a full sequence lost old records, or none where they would not have stayed.
    """

    lists: int
    stale: int
    missing_mean: float
    missing_max: int
    distance_mean: float
    distance_max: int


class SkewReport(msgspec.Struct, frozen=True):
    """What the comparison found.

    Attributes:
        lists: served lists that were compared. rows: their items.
        skipped: why -> lists that could not be compared at all.
        partly: why -> lists that were left out for some features.
        features: in the order of the matrix. sequence: staleness.
    """

    lists: int
    rows: int
    skipped: dict[str, int]
    partly: dict[str, int]
    features: tuple[FeatureSkew, ...]
    sequence: SequenceSkew

    def exceeding(self, tolerance: float) -> list[str]:
        """What differs in more than this share: features by name, and lists that this log cannot have led to."""
        found = [feature.name for feature in self.features if feature.share > tolerance]
        strange = sum(self.skipped.get(why, 0) for why in NOT_FROM_THIS_LOG)
        if strange > tolerance * (self.lists + strange):
            found += [why for why in NOT_FROM_THIS_LOG if self.skipped.get(why)]
        return found


def edit_distance(one: NDArray[np.void], other: NDArray[np.void]) -> int:
    """The least number of inserted, deleted and replaced records that turns one sequence into another.

    Common beginnings and ends cost nothing to skip, which is nearly all of two states of one sequence.

    Args:
        one: any dtype [L].
        other: the same dtype [M].

    Source: Levenshtein 1966, by rows (Wagner and Fischer 1974).
    """
    shorter = min(len(one), len(other))
    differing = np.flatnonzero(one[:shorter] != other[:shorter])
    begin = int(differing[0]) if len(differing) else shorter
    one, other = one[begin:], other[begin:]
    shorter = min(len(one), len(other))
    differing = np.flatnonzero(one[::-1][:shorter] != other[::-1][:shorter])
    end = int(differing[0]) if len(differing) else shorter
    one, other = one[: len(one) - end], other[: len(other) - end]
    steps = np.arange(len(other) + 1)
    row = steps.copy()
    for record in one:
        cheapest = np.minimum(row[1:] + 1, row[:-1] + (other != record))
        # The best of all inserts to the left: the running minimum of (cost - place), put back in place.
        row = np.minimum.accumulate(np.concatenate([row[:1] + 1, cheapest]) - steps) + steps
    return int(row[-1])


class Table:
    """Sums over lists, [F] each."""

    def __init__(self) -> None:
        count = len(FEATURES)
        self.lists = self.rows = 0
        self._rows, self._differing = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self._sum, self._max = np.zeros(count), np.zeros(count)

    def add(self, logged: Floats, again: Floats, compared: NDArray[np.bool_]) -> None:
        """One list: both matrices [B, F], and which features count [F]."""
        self.lists, self.rows = self.lists + 1, self.rows + len(logged)
        off = np.abs(logged.astype(np.float64) - again) * compared
        self._rows += len(logged) * compared
        self._differing += (off > 0).sum(axis=0)
        self._sum += off.sum(axis=0)
        self._max = np.maximum(self._max, off.max(axis=0))

    def features(self) -> tuple[FeatureSkew, ...]:
        """A line for each feature."""
        shares, means = self._differing / np.maximum(self._rows, 1), self._sum / np.maximum(self._rows, 1)
        return tuple(
            FeatureSkew(
                name, *standing_of(name), int(rows), int(differing), float(share), float(mean_abs), float(max_abs)
            )
            for name, rows, differing, share, mean_abs, max_abs in zip(
                FEATURES, self._rows, self._differing, shares, means, self._max, strict=True
            )
        )


class Behind:
    """Staleness, list by list."""

    def __init__(self) -> None:
        self._missing: list[int] = []
        self._distances: list[int] = []

    def add(self, missing: int, distance: int) -> None:
        """One list: records that were missing, and the edit distance."""
        self._missing.append(missing)
        self._distances.append(distance)

    def skew(self) -> SequenceSkew:
        """The sums."""
        lists = len(self._missing)
        return SequenceSkew(
            lists=lists,
            stale=sum(missing > 0 for missing in self._missing),
            missing_mean=sum(self._missing) / max(lists, 1),
            missing_max=max(self._missing, default=0),
            distance_mean=sum(self._distances) / max(lists, 1),
            distance_max=max(self._distances, default=0),
        )

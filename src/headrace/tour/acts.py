"""What each act of the tour found, as values, and the claims that the tour makes of them.

Pure: the runner fills these values, the screen shows them, and whether a claim holds is decided here.

Shapes: B items of a list, F features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.models.feature_names import INDEX
from headrace.models.head import Head
from headrace.tour.quality import Quality

Floats = NDArray[np.float32]

COUNTS: Final = ("query_rate", "query_shown", "query_share", "item_rate", "item_shown")
"""The features that stand for what shoppers did with the items, whoever asks."""
BEATEN: Final = ("given order", "popularity", "frozen student")
"""What the served order is claimed to be better than. The query's clicks are shown, not claimed: see docs/tour.md."""
LATER: Final = frozenset({"frozen student"})
"""Of these only what comes after the drift is claimed: before it, a good student alone is about as good."""
SWAPS: Final = 10
HEADS: Final = 3
"""At least so many learned heads must have served."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """One answer: the items as they were asked for, best first as served, and what the head saw of each.

    Attributes:
        items: [B], in the order of the first stage.
        scores: [B].
        order: places, best first.
        features: float32 [B, F].
        version: of the bundle.
    """

    items: tuple[str, ...]
    scores: tuple[float, ...]
    order: tuple[int, ...]
    features: Floats
    version: str

    def rank(self, item: str) -> int:
        """The item's place in what was served, 1 = first."""
        return self.order.index(self.items.index(item)) + 1


@dataclass(frozen=True, slots=True)
class Moved:
    """The item that its counts lifted most.

    Attributes:
        item: its id.
        before: its rank before any event, 1 = first.
        after: its rank now.
        without: its rank now if nobody had been seen to do anything: same head, no counts.
    """

    item: str
    before: int
    after: int
    without: int


@dataclass(frozen=True, slots=True)
class Why:
    """What the state holds of the moved item.

    Attributes:
        exposures: times it was seen for the query.
        clicks: times it was clicked there.
    """

    exposures: int
    clicks: int


@dataclass(frozen=True, slots=True)
class Events:
    """The second act.

    Attributes:
        after: the list as it is served now.
        moved: the item to look at; None when its counts lifted none.
        why: its counts.
        searches: simulated so far.
        heads: learned and served so far.
        fresh_ms: from sending an event to the first score that knew it, each of several.
    """

    after: Ranked
    moved: Moved | None
    why: Why
    searches: int
    heads: int
    fresh_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Killed:
    """The third act.

    Attributes:
        pid: of the process that was killed.
        at_search: how many searches there had been.
        alone: lists that were served while nobody consumed.
        back_s: from the kill until the state had caught up.
        events: in the log.
        redis: digest of the state.
        memory: digest of the same log folded again in memory.
    """

    pid: int
    at_search: int
    alone: int
    back_s: float
    events: int
    redis: str
    memory: str


@dataclass(frozen=True, slots=True)
class Requests:
    """What requests saw at a steady rate.

    Attributes:
        sent: how many.
        failed: what those that were no success were answered.
    """

    sent: int
    failed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The fourth act.

    Attributes:
        flipped: which byte of which file.
        reason: why the worker refuses, "" when it does not.
        kept: only the model before answered.
        requests: meanwhile.
    """

    flipped: str
    reason: str
    kept: bool
    requests: Requests


@dataclass(frozen=True, slots=True)
class Swaps:
    """The fifth act.

    Attributes:
        swaps: models that were seen to answer, one after the other.
        requests: meanwhile.
        near_ms: of requests due while a model was exchanged or shortly after.
        away_ms: of all others.
    """

    swaps: int
    requests: Requests
    near_ms: tuple[float, ...]
    away_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Tour:
    """All of it."""

    events: Events
    killed: Killed
    refused: Refused
    swaps: Swaps
    quality: Quality
    heads: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Something the tour says, and whether it was so."""

    text: str
    holds: bool


def moved(before: Ranked, after: Ranked, head: Head) -> Moved | None:
    """The item that counts lifted most between two answers to the same request; None when they lifted none.

    What the counts did is told apart from what the head learned otherwise: the head that serves now is asked again
    with no counts at all.

    Args:
        before: the first answer.
        after: the second one, about the same items.
        head: which gave the second one.
    """
    bare = after.features.copy()
    bare[:, [INDEX[name] for name in COUNTS]] = 0.0
    bare_order = np.argsort(-head.margin(bare), kind="stable").tolist()
    found = [
        Moved(item, before.rank(item), after.rank(item), bare_order.index(place) + 1)
        for place, item in enumerate(after.items)
    ]
    clicked = after.features[:, INDEX["query_share"]] > 0
    lifted = [
        one for one, any_ in zip(found, clicked, strict=True) if any_ and one.after < min(one.before, one.without)
    ]
    return max(lifted, key=lambda one: (min(one.before, one.without) - one.after, -one.after), default=None)


def claims(tour: Tour) -> tuple[Claim, ...]:
    """What the tour asserts, in the order of its acts."""
    killed, refused, swaps = tour.killed, tour.refused, tour.swaps
    found = [
        Claim("an item moved up because of its counts", tour.events.moved is not None and tour.events.why.clicks > 0),
        Claim("every event reached a score", len(tour.events.fresh_ms) > 0),
        Claim(f"{HEADS} or more learned heads served", tour.heads >= HEADS),
        Claim("after kill -9 the state equals batch recomputation", killed.redis == killed.memory != ""),
        Claim("a bundle with a flipped bit is refused with the reason", bool(refused.reason) and refused.kept),
        Claim("no request failed meanwhile", _all_served(refused.requests)),
        Claim(f"{SWAPS} swaps, and no request failed", swaps.swaps >= SWAPS and _all_served(swaps.requests)),
    ]
    for name in BEATEN:
        later = tour.quality.later if name in LATER else None
        ahead, when = (later, " after the drift") if later is not None else (tour.quality.whole, "")
        found.append(Claim(f"served better than {name}{when}, interval above 0", ahead.ahead[name].low > 0))
    return tuple(found)


def numbers(tour: Tour, made: Sequence[Claim]) -> dict[str, object]:
    """The tour as plain values for JSON; times in milliseconds."""
    events, killed, refused, swaps = tour.events, tour.killed, tour.refused, tour.swaps
    return {
        "simulated": True,
        "moved": _moved(events),
        "event_to_score_ms": quantiles(events.fresh_ms),
        "heads": tour.heads,
        "killed": {
            "at_search": killed.at_search,
            "lists_meanwhile": killed.alone,
            "back_s": round(killed.back_s, 2),
            "events": killed.events,
            "redis": killed.redis,
            "memory": killed.memory,
        },
        "refused": {"reason": refused.reason, **_requests(refused.requests)},
        "swaps": {
            "swaps": swaps.swaps,
            **_requests(swaps.requests),
            "near_ms": quantiles(swaps.near_ms),
            "away_ms": quantiles(swaps.away_ms),
        },
        "quality": _quality(tour.quality),
        "claims": {claim.text: claim.holds for claim in made},
    }


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Count, p50, p99 and largest of these values; {} of none."""
    if not values:
        return {}
    p50, p99 = np.quantile(np.array(values), [0.5, 0.99])
    return {"count": len(values), "p50": float(p50), "p99": float(p99), "max": max(values)}


def _all_served(requests: Requests) -> bool:
    return requests.sent > 0 and not requests.failed


def _requests(requests: Requests) -> dict[str, object]:
    return {"requests": requests.sent, "failed": len(requests.failed), "failures": list(requests.failed[:5])}


def _moved(events: Events) -> Mapping[str, object] | None:
    if events.moved is None:
        return None
    one, why = events.moved, events.why
    return {
        "item": one.item,
        "before": one.before,
        "after": one.after,
        "without_counts": one.without,
        "exposures": why.exposures,
        "clicks": why.clicks,
    }


def _quality(found: Quality) -> dict[str, object]:
    stretches = {"all": found.whole, "after the drift": found.later}
    return {
        name: {
            "lists": one.lists,
            "shoppers": one.shoppers,
            "ndcg": {key: [value.mean, value.low, value.high] for key, value in one.mean.items()},
            "served_minus": {key: [value.mean, value.low, value.high] for key, value in one.ahead.items()},
        }
        for name, one in stretches.items()
        if one is not None
    }

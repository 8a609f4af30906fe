"""Every rule of laws 1 and 2 broken on purpose, one at a time: what the simulator must notice.

A mutation exchanges one class or function of the real code; ``rule`` is what then does not hold any more.
``tests/laws/simulate.py --mutation all`` says how many schedules each takes to show.
"""

from dataclasses import dataclass, field, replace

from broken_rules import (
    AcknowledgedAtOnce,
    CutForgets,
    FencePerCall,
    GreaterFence,
    KeepsOldSession,
    KnownTexts,
    LateCounts,
    LateDetection,
    MarkWhereWritten,
    NoCondition,
    NoFences,
    NoMark,
    OnlyChangedEdges,
    Outliving,
    RefusedIsDone,
    RejectsLater,
    ReversedOrder,
    RunningFence,
    ShopperFirst,
    SilentReconnect,
    TrimmedByQuery,
    WaitsElsewhere,
    cut_by_arrival,
    fold_evicting_once,
    fold_keeping_nothing,
    fold_trimming,
    open_by_arrival,
    patched,
    version_without_clicks,
    version_without_day,
)
from faulty_cluster import Faults
from headrace.streams.searches import StateBounds
from schedules import Pressure, System
from shopping_logs import SMALL, LogShape


@dataclass(frozen=True)
class Mutation:
    """One broken rule.

    Attributes:
        name: as the command line takes it.
        rule: what is broken.
        system: the code with it broken.
        pressure: what schedules press on, where the default shows it too seldom.
        seed: where the search for a schedule that shows it begins.
    """

    name: str
    rule: str
    system: System
    pressure: Pressure = field(default_factory=Pressure)
    seed: int = 0


FEWER_SEARCHES = replace(SMALL, searches=2)


def bounds_by_worker(number: int) -> StateBounds:
    """Two versions of the fold at once."""
    return FEWER_SEARCHES if number % 2 else SMALL


EVERYTHING = Pressure()

NODES = Pressure("several nodes", nodes=(2, 3))

ONE_NODE = Pressure("one node", nodes=(1,))

WINDOWS = Pressure("windows", shape=LogShape(events=60, queries=1, items=2, days=9, pause=0.15, late=0.25))
"""Few edges, many days: windows move, late days come behind them."""

LEFT_BEHIND = Pressure(
    "calls left behind",
    nodes=(1, 2),
    faults=Faults(partial=0.2, in_flight=1.0),
    weights={"run": 70, "sync": 1, "crash": 5, "rebalance": 2, "kill": 1, "arrive": 10, "deafen": 1},
)
"""Calls are left behind, nodes restart, and then the calls arrive."""

TAKEOVERS = Pressure(
    "takeovers",
    shape=LogShape(events=8, shoppers=2, bad=0.0),
    nodes=(3,),
    steps=40,
    weights={"run": 80, "sync": 0.5, "crash": 0, "rebalance": 8, "kill": 4, "arrive": 1, "deafen": 4},
)
"""Workers that find everything done by another, nothing of it durable."""

DEAD = Pressure(
    "dead letters",
    shape=LogShape(events=20, bad=0.3),
    weights={"run": 80, "sync": 6, "crash": 1, "rebalance": 1, "kill": 8, "arrive": 1, "deafen": 1},
)

MUTATIONS: tuple[Mutation, ...] = (
    Mutation("no-fences", "a query counts an offset once", System(store=NoFences)),
    Mutation("fence-per-call", "each offset is compared with the fence, not the call", System(store=FencePerCall)),
    Mutation("reversed-order", "increments of a call are in offset order", System(store=ReversedOrder)),
    Mutation("late-counts", "a batch waits for all replies of the one before", System(connection=LateCounts)),
    Mutation(
        "shopper-first-nothing-kept",
        "what is derived goes out before the shopper, or is kept (both broken, on one node)",
        System(ingestion=ShopperFirst, patch=patched(ingestion__fold=fold_keeping_nothing)),
        ONE_NODE,
    ),
    Mutation(
        "nothing-kept",
        "increments are kept, or the shopper waits (several nodes)",
        System(patch=patched(ingestion__fold=fold_keeping_nothing)),
        NODES,
    ),
    Mutation(
        "trimmed-early",
        "increments are kept until acknowledged (several nodes)",
        System(patch=patched(ingestion__fold=fold_trimming)),
        NODES,
    ),
    Mutation("acknowledged-at-once", "durable before acknowledged", System(connection=AcknowledgedAtOnce)),
    Mutation("waits-elsewhere", "WAITAOF is asked where the mark was written", System(connection=WaitsElsewhere)),
    Mutation("no-mark", "a mark is written before WAITAOF is asked", System(connection=NoMark)),
    Mutation(
        "mark-where-written",
        "the mark goes to nodes that were only read, too",
        System(connection=MarkWhereWritten),
        TAKEOVERS,
        seed=83,
    ),
    Mutation("silent-reconnect", "a new connection is a new store", System(connection=SilentReconnect)),
    Mutation("late-detection", "a batch ends on the connection it began with", System(connection=LateDetection)),
    Mutation(
        "calls-outlive-a-rollback", "no call is sent again by itself", System(node=Outliving), LEFT_BEHIND, seed=148
    ),
    Mutation("old-session", "everything unacknowledged is applied again", System(ingestion=KeepsOldSession)),
    Mutation("known-texts", "what is known of a store ends with its session", System(ingestion=KnownTexts)),
    Mutation("no-condition", "a shopper is written only as it was read", System(store=NoCondition)),
    Mutation("greater-fence", "the fence must be equal, not smaller", System(store=GreaterFence), seed=91),
    Mutation("refused-is-done", "refused means read and fold again", System(ingestion=RefusedIsDone), seed=91),
    Mutation("cut-forgets", "a cut sequence holds what the batch adds", System(ingestion=CutForgets)),
    Mutation(
        "cut-by-arrival", "a cut keeps the newest by event time", System(patch=patched(ingestion__cut=cut_by_arrival))
    ),
    Mutation("only-changed-edges", "a repeated call answers its edges, too", System(store=OnlyChangedEdges)),
    Mutation(
        "version-without-clicks",
        "a copy's version is (last day, E + C)",
        System(patch=patched(neighbours__version=version_without_clicks)),
        WINDOWS,
        seed=41,
    ),
    Mutation(
        "version-without-day",
        "a copy's version is (last day, E + C)",
        System(patch=patched(neighbours__version=version_without_day)),
        WINDOWS,
    ),
    Mutation(
        "trimmed-by-query", "an edge is trimmed by its own newest day", System(store=TrimmedByQuery), WINDOWS, seed=433
    ),
    Mutation(
        "evicted-per-batch", "bounds apply after every event", System(patch=patched(ingestion__fold=fold_evicting_once))
    ),
    Mutation(
        "evicted-by-arrival",
        "the oldest search by (time, id) leaves first",
        System(patch=patched(searches___open=open_by_arrival)),
    ),
    Mutation("dumped-before-newest", "a dump is of the newest day or later", System(dumped_before_newest=2), WINDOWS),
    Mutation("mixed-folds", "all workers of a generation have its bounds", System(bounds_of=bounds_by_worker)),
    Mutation(
        "rejects-later",
        "dead letters go out before the acknowledgement",
        System(ingestion=RejectsLater),
        DEAD,
        seed=197,
    ),
)

NO_DIFFERENCE: dict[str, tuple[System, str]] = {
    "running-fence": (
        System(store=RunningFence),
        "one record gives one query at most one increment (E and C of a click together), so no second one can be lost;"
        " the store's promise is held by test_two_increments_at_one_offset_both_count",
    ),
    "shopper-first": (
        System(ingestion=ShopperFirst),
        "a shopper keeps its increments until they are acknowledged, and a repeated offset emits them again: the order"
        " is a second line of defence, see shopper-first-nothing-kept",
    ),
}
"""Mutations that change nothing here, and why."""

"""Laws of the join: the interleaving of the topics, the cut into rounds and a restart change nothing learned."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.streams.events import Cart, Click, Impression
from headrace.streams.feature_log import Served, pack_features, pack_scores
from headrace.streams.held import PendingLimits, Row
from headrace.streams.labels import Correction, Example, Windows
from headrace.streams.pending import Pending, Ripe
from headrace.streams.watermark import Clocks, Source

WINDOWS = Windows(click_ms=20, cart_ms=60, purchase_ms=60)
Record = Served | Impression | Click | Cart
Log = dict[Source, list[Record]]

TOPICS = ("events", "features")
ITEMS = st.sampled_from("abcxyz")
CLIENTS = ("ann", "bob", "eve")  # ann and eve share partition 0


def served(client: str, query: str, request: str, at_ms: int, items: str) -> Served:
    matrix = pack_features(np.array([[ord(item)] for item in items], np.float32))
    scores = pack_scores(np.zeros(len(items), np.float32))
    return Served(request, client, query, at_ms, 1, tuple(items), matrix, 9, scores, "v")


@st.composite
def records(draw: st.DrawFn, lists: int = 3) -> list[Record]:
    found: list[Record] = []
    for client in CLIENTS:
        for query in ("p", "q")[: draw(st.integers(1, 2))]:
            start = draw(st.integers(0, 60))
            for number in range(draw(st.integers(0, lists))):
                at_ms = start + draw(st.integers(0, 30))
                items = draw(st.sampled_from(("abc", "cab", "xyz", "abxy")))
                found.append(served(client, query, f"r{number}", at_ms, items))
            for _ in range(draw(st.integers(0, lists))):
                items = draw(st.sampled_from(("abc", "cab", "xyz", "ab", "b")))
                at_ms = start + draw(st.integers(0, 40))
                found.append(Impression("", client, query, at_ms, tuple(items), tuple(range(1, len(items) + 1))))
            for _ in range(draw(st.integers(0, 4))):
                at_ms, item = start + draw(st.integers(0, 60)), draw(ITEMS)
                cart = draw(st.integers(0, 2)) == 0
                found.append(Cart("", client, query, at_ms, item) if cart else Click("", client, query, at_ms, item))
    # What comes last in both topics lets everything before it ripen.
    last = [served(client, "last", "last", 1_000, "abc") for client in CLIENTS]
    return [*found, *last, *(Click("", client, "", 1_000, "a") for client in CLIENTS)]


def partitioned(found: Sequence[Record]) -> Log:
    log: Log = {}
    for record in found:
        topic = "features" if isinstance(record, Served) else "events"
        log.setdefault((topic, CLIENTS.index(record.client_id) % 2), []).append(record)
    return log


def in_order(log: Log) -> Log:
    return {source: sorted(found, key=lambda one: one.at_ms) for source, found in log.items()}


def cuts(data: st.DataObject, log: Log) -> list[dict[Source, int]]:
    """The ends of every round: each source is cut where it likes, the last round reads everything."""
    rounds = data.draw(st.integers(1, 6), label="rounds")
    places = {
        source: sorted(data.draw(st.lists(st.integers(0, len(found)), min_size=rounds - 1, max_size=rounds - 1)))
        for source, found in sorted(log.items())
    }
    return [{source: places[source][n] for source in log} for n in range(rounds - 1)] + [ends_of(log)]


def ends_of(log: Log) -> dict[Source, int]:
    return {source: len(found) for source, found in log.items()}


def interleaved(data: st.DataObject | None, slices: dict[Source, list[Record]]) -> list[tuple[Source, Record]]:
    order = [source for source, found in sorted(slices.items()) for _ in found]
    if data is not None:
        order = data.draw(st.permutations(order))
    waiting = {source: iter(found) for source, found in slices.items()}
    return [(source, next(waiting[source])) for source in order]


def run(log: Log, rounds: list[dict[Source, int]], data: st.DataObject | None, restart: bool = False) -> list[Ripe]:
    """What each round brings; with ``data`` the sources of a round interleave at will."""
    pending, clocks = Pending(WINDOWS, PendingLimits()), Clocks(TOPICS, 0)
    rows: list[Row] = []
    closed: dict[bytes, bytes] = {}
    before = dict.fromkeys(log, 0)
    ripe: list[Ripe] = []
    for ends in rounds:
        slices = {source: log[source][before[source] : ends[source]] for source in log}
        for source, record in interleaved(data, slices):
            clocks.see(source, record.at_ms, record.at_ms)
            if isinstance(record, Served):
                pending.serve(record)
            else:
                pending.follow(record)
        unfinished = [source for source in log if ends[source] < len(log[source])]
        ripe.append(pending.ripen(clocks.advance(unfinished)))
        before = ends
        changes = pending.changes()
        rows = [row for row in [*rows, *changes.rows] if row.search not in set(changes.gone)]
        closed.update(changes.closed)
        for key in changes.forgotten:
            del closed[key]
        if restart:
            pending = Pending(WINDOWS, PendingLimits())
            pending.restore(rows, closed.items())
            clocks = Clocks(TOPICS, 0, clocks.clocks_ms, clocks.watermark_ms)
    return ripe


def examples(ripe: list[Ripe]) -> list[Example]:
    return [example for one in ripe for example in one.examples]


@settings(max_examples=150, deadline=None)
@given(found=records(), data=st.data())
def test_the_interleaving_of_topics_and_a_restart_after_every_round_change_nothing(
    found: list[Record], data: st.DataObject
) -> None:
    log = partitioned(data.draw(st.permutations(found), label="disorder"))
    rounds = cuts(data, log)
    expected = run(log, rounds, None)
    assert run(log, rounds, data) == expected
    assert run(log, rounds, None, restart=True) == expected
    for one in expected:
        order = [(example.matures_ms, example.id) for example in one.examples]
        assert order == sorted(order)


@settings(max_examples=150, deadline=None)
@given(found=records(), data=st.data())
def test_when_events_come_in_order_the_cut_into_rounds_changes_nothing(
    found: list[Record], data: st.DataObject
) -> None:
    log = in_order(partitioned(found))
    whole = run(log, [ends_of(log)], None)
    parts = run(log, cuts(data, log), None)
    assert examples(parts) == examples(whole), "the same examples, and in the same order"
    assert set(corrections(parts)) == set(corrections(whole))


@settings(max_examples=150, deadline=None)
@given(found=records(lists=1), data=st.data())
def test_a_touch_is_in_its_example_or_in_a_correction_however_late_it_comes(
    found: list[Record], data: st.DataObject
) -> None:
    whole = known(run(in_order(partitioned(found)), [ends_of(partitioned(found))], None))
    delayed = [
        (
            one.at_ms + data.draw(st.integers(0, 120))
            if isinstance(one, (Click, Cart)) and one.query_id
            else one.at_ms,
            one,
        )
        for one in found
    ]
    log = partitioned([one for _, one in sorted(delayed, key=lambda pair: pair[0])])
    assert known(run(log, cuts(data, log), None)) == whole


def corrections(ripe: list[Ripe]) -> list[Correction]:
    return [correction for one in ripe for correction in one.corrections]


def known(ripe: list[Ripe]) -> dict[str, set[tuple[str, int]]]:
    """All labels of every example, as whoever applies the corrections would have them; of items that were shown."""
    bits = {"click": 1, "cart": 2, "purchase": 4}
    labels = {
        example.id: {
            (item, bit)
            for item, byte, place in zip(example.items, example.labels, example.positions, strict=True)
            for bit in bits.values()
            if byte & bit and place
        }
        for example in examples(ripe)
    }
    shown = {
        one.id: {item for item, place in zip(one.items, one.positions, strict=True) if place} for one in examples(ripe)
    }
    for correction in corrections(ripe):
        if correction.item_id in shown.get(correction.example_id, ()):
            labels[correction.example_id].add((correction.item_id, bits[correction.action]))
    return labels


def test_duplicates_count_once() -> None:
    log = in_order(
        partitioned(
            [
                served("ann", "q", "r", 0, "abc"),
                Impression("", "ann", "q", 1, tuple("abc"), (1, 2, 3)),
                Click("", "ann", "q", 2, "a"),
                Click("", "ann", "", 100, "a"),
                served("ann", "last", "last", 100, "abc"),
            ]
        )
    )
    doubled = {source: [one for record in found for one in (record, record)] for source, found in log.items()}
    assert run(log, [ends_of(log)], None) == run(doubled, [ends_of(doubled)], None)
    assert len(examples(run(log, [ends_of(log)], None))) == 1

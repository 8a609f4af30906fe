"""What each event does to a shopper, rule by rule."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.streams import searches, sequences
from headrace.streams.events import Cart, Click, Impression, Purchase, Query, ShopperEvent, View
from headrace.streams.identity import DAY_MS, hash64, query_hash
from headrace.streams.searches import (
    Entry,
    Folded,
    Shopper,
    StateBounds,
    decode_shopper,
    encode_shopper,
    fold,
    prefix,
)
from headrace.streams.writes import Increment

MINUTE = 60_000
T = 20_000 * DAY_MS + DAY_MS // 2
BOUNDS = StateBounds()
SMALL = StateBounds(searches=3, search_items=3, search_touches=2)

Step = ShopperEvent | tuple[ShopperEvent, int]
"""An event, with its Kafka timestamp where it is another than its time."""


def query(name: str, at_ms: int = T, text: str = "red shoe", hits: tuple[str, ...] = ()) -> Query:
    return Query(f"{name}@{at_ms}", "c", name, at_ms, text, hits)


def shown(name: str, *items: str, at_ms: int = T) -> Impression:
    return Impression("shown", "c", name, at_ms, items, tuple(range(1, len(items) + 1)))


def click(name: str, item: str, at_ms: int = T, event_id: str | None = None) -> Click:
    return Click(event_id or f"click {name} {item}", "c", name, at_ms, item)


def run(
    *steps: Step, shopper: Shopper | None = None, bounds: StateBounds = BOUNDS, first: int = 0, acknowledged: int = 0
) -> Folded:
    """Folds steps at the offsets from ``first`` on, each stamped by Kafka with its own time unless it says another."""
    entries = []
    for offset, step in enumerate(steps, first):
        event, stamp_ms = step if isinstance(step, tuple) else (step, step.at_ms)
        entries.append(Entry(offset, stamp_ms, event))
    return fold(shopper or Shopper(searches=[], kept=[]), entries, acknowledged, bounds)


def counted(folded: Folded) -> list[tuple[int, int, int, tuple[str, ...]]]:
    """(offset, E, C, items) of everything that goes to queries."""
    return [(one.offset, one.exposures, one.clicks, one.item_ids) for _, one in folded.increments]


def sequence(folded: Folded) -> list[tuple[int, int, int, str]]:
    """(query, item, time, action) of what is appended."""
    return [
        (query, item, at_ms, sequences.ACTIONS[action])
        for query, item, at_ms, action in (
            record.item() for record in sequences.newest(b"".join(folded.records), limit=10_000)
        )
    ]


def open_names(folded: Folded) -> list[str]:
    return [search.query_id for search in folded.shopper.searches]


# --- what counts ------------------------------------------------------------------------------------------------------


def test_an_exposure_counts_on_the_day_of_its_search() -> None:
    before_midnight = 20_001 * DAY_MS - MINUTE
    folded = run(query("q", before_midnight), shown("q", "a", "b", at_ms=before_midnight + 5 * MINUTE))
    assert folded.outcomes == ["applied", "applied"]
    assert folded.increments == [(query_hash("red shoe"), Increment(1, 20_000, 1, 0, ("a", "b")))]


def test_an_item_counts_once_for_each_search() -> None:
    folded = run(
        query("q"), shown("q", "a", "b", "a"), shown("q", "b", "c"), shown("q", "a"), query("r"), shown("r", "a")
    )
    assert counted(folded) == [(1, 1, 0, ("a", "b")), (2, 1, 0, ("c",)), (5, 1, 0, ("a",))]
    assert folded.outcomes == ["applied", "applied", "applied", "duplicate", "applied", "applied"]


def test_a_click_counts_once_and_implies_its_exposure() -> None:
    folded = run(query("q"), click("q", "a"), shown("q", "a", "b"), click("q", "b"))
    assert counted(folded) == [(1, 1, 1, ("a",)), (2, 1, 0, ("b",)), (3, 0, 1, ("b",))]


def test_a_second_click_on_an_item_stands_in_the_sequence_and_counts_nothing() -> None:
    folded = run(query("q"), click("q", "a", event_id="one"), click("q", "a", event_id="two"))
    assert counted(folded) == [(1, 1, 1, ("a",))]
    assert folded.outcomes == ["applied", "applied", "applied"]
    assert [action for *_, action in sequence(folded)] == ["search", "click", "click"]


@pytest.mark.parametrize(("kind", "action"), [(Cart, "cart"), (Purchase, "purchase"), (View, "view")])
def test_other_touches_stand_in_the_sequence_and_count_nothing(kind: type[Cart], action: str) -> None:
    touch = kind("e", "c", "q", T + 1, "a")
    folded = run(query("q"), touch, shown("q", "a"))
    assert sequence(folded)[1] == (query_hash("red shoe"), hash64("a"), T + 1, action)
    assert counted(folded) == [(2, 1, 0, ("a",))], "a touch other than a click implies no exposure"


def test_hits_are_exposures_only_where_that_is_set() -> None:
    search = query("q", hits=("a", "b", "a"))
    assert counted(run(search)) == []
    folded = run(search, shown("q", "a"), click("q", "b"), bounds=replace(BOUNDS, hits_are_exposures=True))
    assert counted(folded) == [(0, 1, 0, ("a", "b")), (2, 0, 1, ("b",))]


# --- which search -----------------------------------------------------------------------------------------------------


def test_what_belongs_to_no_open_search_is_unattributed() -> None:
    folded = run(shown("q", "a"), click("q", "a"), click("", "a"), query("q"), click("other", "b"))
    assert folded.outcomes == ["unattributed", "unattributed", "unattributed", "applied", "unattributed"]
    assert counted(folded) == []
    assert [(query, item, action) for query, item, _, action in sequence(folded)] == [
        (0, hash64("a"), "click"),
        (0, hash64("a"), "click"),
        (query_hash("red shoe"), 0, "search"),
        (0, hash64("b"), "click"),
    ]


def test_a_search_stays_open_for_30_minutes() -> None:
    at_the_end = run(query("q"), click("q", "a", T + 30 * MINUTE))
    assert at_the_end.outcomes == ["applied", "applied"]
    past_it = run(query("q"), click("q", "a", T + 30 * MINUTE + 1))
    assert past_it.outcomes == ["applied", "unattributed"]
    assert open_names(past_it) == []


def test_the_clock_is_the_largest_of_the_smaller_times_and_never_goes_back() -> None:
    early_stamp = run(query("q"), (click("q", "a", T + 40 * MINUTE), T + MINUTE))  # a producer whose clock is ahead
    assert (early_stamp.outcomes[-1], early_stamp.shopper.clock_ms) == ("applied", T + MINUTE)
    late_event = run(query("q"), (click("q", "a", T + MINUTE), T + 40 * MINUTE))
    assert (late_event.outcomes[-1], late_event.shopper.clock_ms) == ("applied", T + MINUTE)
    back = run(query("q"), query("r", T + 31 * MINUTE), click("q", "a", T))
    assert (back.outcomes[-1], back.shopper.clock_ms) == ("unattributed", T + 31 * MINUTE)


def test_at_most_32_searches_stay_and_the_oldest_by_time_leaves() -> None:
    late = query("late", T - MINUTE)
    folded = run(*(query(f"q{number}", T + number) for number in range(32)), late)
    assert len(folded.shopper.searches) == 32
    assert "late" not in open_names(folded), "it is older than every other, so it leaves at once"
    folded = run(*(query(f"q{number:02}", T + number) for number in range(33)))
    assert open_names(folded) == [f"q{number:02}" for number in range(1, 33)]


def test_of_equal_times_the_smaller_id_leaves_first() -> None:
    folded = run(query("c"), query("a"), query("b"), query("d"), bounds=SMALL)
    assert open_names(folded) == ["b", "c", "d"]


def test_a_search_that_left_by_number_cannot_open_again() -> None:
    folded = run(query("a"), query("b"), query("c"), query("d"), query("a"), shown("a", "x"), bounds=SMALL)
    assert open_names(folded) == ["b", "c", "d"]
    assert folded.outcomes[-1] == "unattributed"


def test_a_search_that_left_by_time_cannot_open_again() -> None:
    folded = run(query("a"), click("a", "x"), query("b", T + 31 * MINUTE), query("a"), click("a", "x"))
    assert open_names(folded) == ["b"]
    assert counted(folded) == [(1, 1, 1, ("x",))]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 50)), max_size=40))
def test_no_search_opens_twice(steps: list[tuple[int, int]]) -> None:
    """Whatever comes in whatever order: once a search has left, it never is open again."""
    times: dict[int, int] = {}
    shopper, gone = Shopper(searches=[], kept=[]), set[str]()
    before: set[str] = set()
    for offset, (number, minutes) in enumerate(steps):
        at_ms = times.setdefault(number, T + minutes * MINUTE)
        run(query(f"q{number}", at_ms), shopper=shopper, bounds=SMALL, first=offset)
        names = {search.query_id for search in shopper.searches}
        gone |= (before | {f"q{number}"}) - names
        assert not names & gone
        assert len(names) <= SMALL.searches
        assert [(one.at_ms, one.query_id) for one in shopper.searches] == sorted(
            (one.at_ms, one.query_id) for one in shopper.searches
        )
        before = names


def test_a_query_without_an_id_stands_in_the_sequence_only() -> None:
    folded = run(Query("e", "c", "", T, "red shoe"), shown("", "a"), click("", "a"))
    assert folded.outcomes == ["unattributed"] * 3
    assert len(folded.records) == 2


# --- sent again -------------------------------------------------------------------------------------------------------


def test_the_same_events_under_other_offsets_change_nothing() -> None:
    steps = (query("q"), shown("q", "a", "b"), click("q", "a"), Cart("e", "c", "q", T, "b"), click("q", "c"))
    once, twice = run(*steps), run(*steps, *steps)
    assert twice.outcomes == [*once.outcomes, *["duplicate"] * 5]
    assert (counted(twice), twice.records) == (counted(once), once.records)
    assert twice.shopper.searches == once.shopper.searches


def test_beyond_the_bound_of_ids_a_touch_is_known_by_item_and_action() -> None:
    steps = [click("q", item, event_id=f"e{item}") for item in "abc"]  # two ids are remembered, the third is not
    again = run(query("q"), *steps, *steps, bounds=SMALL)
    assert again.outcomes == ["applied"] * 4 + ["duplicate"] * 3
    other = run(query("q"), *steps, Cart("new", "c", "q", T, "c"), Cart("newer", "c", "q", T, "c"), bounds=SMALL)
    assert other.outcomes[-2:] == ["applied", "duplicate"], "another action on the item is another touch"
    assert len(again.shopper.searches[0].touches) == 8 * SMALL.search_touches


def test_items_beyond_a_searchs_bound_do_not_count_but_stand_in_the_sequence() -> None:
    folded = run(query("q"), shown("q", "a", "b", "c", "d"), shown("q", "e", "a"), click("q", "f"), bounds=SMALL)
    assert counted(folded) == [(1, 1, 0, ("a", "b", "c"))]
    assert folded.outcomes == ["applied", "applied", "duplicate", "applied"]
    assert sequence(folded)[-1][:2] == (query_hash("red shoe"), hash64("f"))


@pytest.mark.parametrize("bound", [256, 0])
def test_a_hash_across_two_others_is_none_of_them(monkeypatch: pytest.MonkeyPatch, bound: int) -> None:
    """Hashes lie side by side as bytes: one that begins inside another must not be found there."""
    names = {
        "left": bytes(range(1, 9)),
        "right": bytes(range(9, 17)),
        "between": bytes(range(5, 13)),
    }  # names that no other test has: hashes are cached
    names |= {f"click q {name}": value for name, value in names.items()}
    for name in ("hash_of", "hash64"):
        monkeypatch.setattr(searches, name, lambda text: int.from_bytes(names[text], "little"))
    monkeypatch.setattr(searches, "query_of", lambda text: (7, text))
    bounds = replace(BOUNDS, search_touches=bound)
    folded = run(query("q"), click("q", "left"), click("q", "right"), click("q", "between"), bounds=bounds)
    assert counted(folded) == [(1, 1, 1, ("left",)), (2, 1, 1, ("right",)), (3, 1, 1, ("between",))]
    again = run(shown("q", "left", "right", "between"), shopper=folded.shopper, bounds=bounds, first=4)
    assert again.outcomes == ["duplicate"]


# --- redelivered ------------------------------------------------------------------------------------------------------

STEPS = (query("q"), shown("q", "a", "b"), shown("q", "b", "c", "b"), click("q", "b"), click("q", "d"), query("r"))


def test_a_redelivered_offset_says_again_what_it_said() -> None:
    first = run(*STEPS)
    read_again = decode_shopper(encode_shopper(first.shopper))
    again = run(*STEPS, shopper=read_again)
    assert again.outcomes == ["repeated"] * len(STEPS)
    assert again.increments == first.increments
    assert again.texts == first.texts
    assert not again.changed
    assert again.records == []
    assert again.shopper == first.shopper


def test_what_is_acknowledged_is_not_kept() -> None:
    shopper = run(*STEPS).shopper
    assert [kept.offset for kept in shopper.kept] == [1, 2, 3, 4]
    later = run(click("r", "z"), shopper=shopper, first=6, acknowledged=3)
    assert [kept.offset for kept in later.shopper.kept] == [3, 4, 6]
    assert counted(run(*STEPS, shopper=later.shopper)) == counted(run(*STEPS))[2:]


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10_000), cuts=st.lists(st.integers(1, 5), min_size=1, max_size=30), acknowledged=st.booleans()
)
def test_no_cut_into_batches_changes_anything(seed: int, cuts: Sequence[int], acknowledged: bool) -> None:
    steps = some_steps(Random(seed), 40)
    bounds = replace(SMALL, hits_are_exposures=bool(seed % 2))
    whole = run(*steps, bounds=bounds)
    shopper, parts, at = Shopper(searches=[], kept=[]), list[Folded](), 0
    for size in (*cuts, len(steps)):
        part = run(
            *steps[at : at + size], shopper=shopper, bounds=bounds, first=at, acknowledged=at if acknowledged else 0
        )
        parts.append(part)
        at += len(steps[at : at + size])
        shopper = decode_shopper(encode_shopper(part.shopper))
    assert [outcome for part in parts for outcome in part.outcomes] == whole.outcomes
    assert [one for part in parts for one in part.increments] == whole.increments
    assert b"".join(record for part in parts for record in part.records) == b"".join(whole.records)
    assert (shopper.searches, shopper.clock_ms, shopper.length) == (
        whole.shopper.searches,
        whole.shopper.clock_ms,
        whole.shopper.length,
    )


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000), read=st.integers(0, 40), again=st.integers(0, 40))
def test_any_stale_state_derives_the_same_again(seed: int, read: int, again: int) -> None:
    """A worker that read any earlier state, and is given records from before it on, says what was said before."""
    steps = some_steps(Random(seed), 40)
    bounds = replace(SMALL, hits_are_exposures=bool(seed % 2))
    whole = run(*steps, bounds=bounds)
    stale = run(*steps[:read], bounds=bounds).shopper
    begin = min(read, again)
    repeated = run(*steps[begin:], shopper=stale, bounds=bounds, first=begin)
    assert repeated.increments == [pair for pair in whole.increments if pair[1].offset >= begin]
    assert repeated.shopper == whole.shopper


def some_steps(random: Random, count: int) -> list[Step]:
    """Events of one shopper: some late, some stamped later, some again."""
    steps: list[Step] = []
    now = T
    for number in range(count):
        now += random.randrange(0, 6 * MINUTE)
        at_ms = now - (random.randrange(0, 40 * MINUTE) if random.random() < 0.2 else 0)
        name = f"q{random.randrange(6)}"
        items = [f"i{random.randrange(5)}" for _ in range(random.randrange(1, 4))]
        kinds: list[ShopperEvent] = [
            query(name, at_ms, hits=tuple(items)),
            shown(name, *items, at_ms=at_ms),
            click(name, items[0], at_ms, event_id=f"e{number % 9}"),
            Cart(f"c{number % 5}", "c", name, at_ms, items[0]),
        ]
        event = steps[-3] if len(steps) > 3 and random.random() < 0.2 else random.choice(kinds)
        steps.append(event if isinstance(event, tuple) else (event, max(event.at_ms, now)))
    return steps


# --- texts, bytes -----------------------------------------------------------------------------------------------------


def test_texts_are_named_for_queries_and_touched_items() -> None:
    folded = run(query("q", text="  Red\tSHOE "), shown("q", "a"), click("q", "b"))
    assert folded.texts == [(query_hash("red shoe"), "red shoe"), (hash64("b"), "b")]


def test_a_shopper_survives_its_bytes() -> None:
    shopper = run(*STEPS).shopper
    value = encode_shopper(shopper)
    assert decode_shopper(value) == shopper
    assert prefix(value) == value[:9] == bytes([1]) + (5).to_bytes(8, "little")
    assert prefix(None) == prefix(b"") == b""
    assert decode_shopper(None) == decode_shopper(b"") == Shopper(searches=[], kept=[])


def test_new_shoppers_share_nothing() -> None:
    one = decode_shopper(None)
    one.searches.append(run(query("q")).shopper.searches[0])
    assert decode_shopper(None).searches == []


@pytest.mark.parametrize("value", [b"\2" + bytes(20), b"\0"])
def test_bytes_of_another_codec_are_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="codec 1"):
        decode_shopper(value)

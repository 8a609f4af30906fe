"""The join of served lists with what followed: who belongs where, what is counted, what leaves."""

from collections.abc import Iterable

import msgspec
import numpy as np
import pytest

from headrace import BadEvent
from headrace.streams.events import Cart, Click, Impression, Purchase, ShopperEvent, View
from headrace.streams.feature_log import Served, pack_features, pack_scores
from headrace.streams.held import Changes, PendingLimits, Row
from headrace.streams.labels import (
    Correction,
    Example,
    Windows,
    clicked_of,
    decode,
    encode,
    example_id,
    features_of,
)
from headrace.streams.pending import Pending, Ripe

WINDOWS = Windows(click_ms=100, cart_ms=1_000, purchase_ms=5_000)


def served(request: str = "r", at_ms: int = 0, items: str = "abc", query: str = "q", client: str = "c") -> Served:
    features = np.array([[ord(item), rank] for rank, item in enumerate(items)], np.float32)
    scores = pack_scores(np.zeros(len(items), np.float32))
    return Served(request, client, query, at_ms, 1, tuple(items), pack_features(features), 9, scores, "v", "arm")


def shown(at_ms: int = 1, items: str = "abc", first: int = 1, query: str = "q", client: str = "c") -> Impression:
    return Impression("", client, query, at_ms, tuple(items), tuple(range(first, first + len(items))))


def click(item: str = "b", at_ms: int = 5, query: str = "q", client: str = "c") -> Click:
    return Click("", client, query, at_ms, item, None)


Records = list[Served | ShopperEvent]


def joined(records: Iterable[Served | ShopperEvent], limits: PendingLimits | None = None) -> Pending:
    pending = Pending(WINDOWS, limits or PendingLimits())
    for record in records:
        if isinstance(record, Served):
            pending.serve(record)
        else:
            pending.follow(record)
    return pending


def counted(pending: Pending) -> dict[str, int]:
    return {name: count for name, count in pending.counts.items() if count}


def test_a_list_becomes_an_example_when_its_window_is_over_and_not_before() -> None:
    pending = joined([served(), shown(), click()])
    assert pending.ripen(100) == Ripe((), ())
    (example,) = pending.ripen(101).examples
    assert example.id == example_id("c", "q", "r")
    assert (example.items, example.ranks, example.positions) == (tuple("abc"), (0, 1, 2), (1, 2, 3))
    assert clicked_of(example).tolist() == [False, True, False]
    assert features_of(example).tolist() == [[97, 0], [98, 1], [99, 2]]
    assert (example.at_ms, example.matures_ms, example.version, example.arm, example.names) == (0, 100, "v", "arm", 9)
    assert counted(pending) == {"examples": 1}


def test_only_what_was_shown_is_a_row_and_a_click_implies_its_exposure() -> None:
    pending = joined([served(items="abcde"), shown(items="d", first=4), shown(2, "b", 2), click("e")])
    (example,) = pending.ripen(101).examples
    assert (example.items, example.ranks, example.positions) == (("b", "d", "e"), (1, 3, 4), (2, 4, 0))
    assert clicked_of(example).tolist() == [False, False, True]
    assert features_of(example)[:, 1].tolist() == [1, 3, 4]


def test_carts_and_purchases_come_along_but_are_no_clicks() -> None:
    cart, bought, view = Cart("", "c", "q", 6, "a"), Purchase("", "c", "q", 7, "a"), View("", "c", "q", 7, "c")
    (example,) = joined([served(), shown(), cart, bought, view]).ripen(101).examples
    assert example.labels == bytes([6, 0, 0])
    assert not clicked_of(example).any()


def test_each_list_of_a_search_has_its_own_clicks() -> None:
    records: Records = [
        served("r1"),
        shown(1),
        click("b", 5),
        served("r2", 50, "cab"),
        shown(51, "cab"),
        click("a", 60),
    ]
    first, second = joined(records).ripen(151).examples
    assert (first.request_id, first.labels) == ("r1", bytes([0, 1, 0]))
    assert (second.request_id, second.items, second.labels) == ("r2", tuple("cab"), bytes([0, 1, 0]))


def test_an_impression_belongs_to_the_page_that_holds_its_items() -> None:
    records: Records = [
        served("r1", 0, "abc"),
        served("r2", 10, "xyz"),
        shown(12, "ab"),
        shown(13, "xyz"),
        click("x", 14),
    ]
    first, second = joined(records).ripen(111).examples
    assert (first.items, first.labels) == (("a", "b"), bytes(2))
    assert second.labels == bytes([1, 0, 0])


def test_a_click_after_the_window_is_a_correction_without_features() -> None:
    pending = joined([served(), shown(), click("a", 5), click("b", 101)])
    (example,) = pending.ripen(101).examples
    assert clicked_of(example).tolist() == [True, False, False]
    assert pending.ripen(202).corrections == (Correction(example.id, "click", "b", 101, False),)


def test_what_comes_after_the_search_is_over_is_a_correction_too() -> None:
    pending = joined([served(), shown()])
    (example,) = pending.ripen(1_000).examples
    pending.follow(Cart("", "c", "q", 900, "a"))
    pending.follow(click("b", 50))
    pending.follow(shown(3, "a"))
    pending.serve(served("r9"))
    assert pending.ripen(1_001).corrections == (
        Correction(example.id, "click", "b", 50, True),
        Correction(example.id, "cart", "a", 900, True),
    )
    assert counted(pending) == {"examples": 1, "corrections": 2, "late_impression": 1, "late_list": 1}
    pending.ripen(5_002)
    pending.follow(click())
    pending.ripen(9_999)
    assert pending.counts["touch_only"] == 1, "after the longest window nothing of the search is known"


@pytest.mark.parametrize(
    ("records", "counts"),
    [
        ([served()], {"not_shown": 1}),
        ([shown()], {"no_features": 1}),
        ([click()], {"touch_only": 1}),
        ([served(), shown(items="xy")], {"shown_elsewhere": 1, "items_differ": 1}),
        ([served(), shown(200)], {"shown_elsewhere": 1}),
        ([served(), shown(), click("z")], {"examples": 1, "touch_unjoined": 1}),
        ([served(), served(), shown(), shown(), click(), click()], {"examples": 1, "duplicate": 3}),
        ([click(query="")], {"no_query": 1}),
    ],
)
def test_nothing_is_dropped_in_silence(records: Records, counts: dict[str, int]) -> None:
    pending = joined(records)
    pending.ripen(1_000)
    assert counted(pending) == counts
    assert (len(pending), pending.lists, pending.held_bytes) == (0, 0, 0)


def test_the_oldest_leaves_when_there_are_too_many_and_is_counted() -> None:
    records: Records = [
        record for n in range(5) for record in (served(f"r{n}", 5 - n, query=f"q{n}"), shown(6, query=f"q{n}"))
    ]
    pending = joined(records, PendingLimits(searches=3))
    assert pending.ripen(10).examples == ()
    assert counted(pending) == {"evicted_searches": 2, "evicted_lists": 2}
    assert [one.request_id for one in pending.ripen(200).examples] == ["r2", "r1", "r0"]
    pending = joined(records, PendingLimits(held_bytes=2_000))
    pending.ripen(10)
    assert 0 < pending.held_bytes <= 2_000
    assert pending.counts["evicted_lists"] == 5 - pending.lists


def test_a_search_holds_only_so_much() -> None:
    limits = PendingLimits(lists=1, shows=1, touches=2)
    pending = joined([served(), served("r2"), shown(), shown(2), *[click("a", at) for at in range(2, 6)]], limits)
    (example,) = pending.ripen(200).examples
    assert counted(pending) == {"examples": 1, "search_full": 4}
    assert example.request_id == "r"


def test_closed_searches_are_bounded() -> None:
    pending = joined([served(f"r{n}", n, query=f"q{n}") for n in range(5)], PendingLimits(closed=2))
    pending.ripen(1_000)
    changes = pending.changes()
    assert len(changes.closed) == 5
    assert len(changes.forgotten) == 3


def test_the_rows_of_a_file_bring_everything_back() -> None:
    records: Records = [
        served("r1"),
        shown(1),
        click("b", 5),
        served("r2", 50, "cab"),
        shown(51, "cab"),
        served("r3", 0, query="p"),
    ]
    straight, broken = joined(records), joined(records)
    assert straight.ripen(120) == broken.ripen(120)
    assert straight.ripen(130) == broken.ripen(130)
    again = restored([broken.changes()])
    assert (len(again), again.lists, again.held_bytes) == (len(straight), straight.lists, straight.held_bytes)
    for pending in (straight, again):
        pending.follow(click("c", 60))
        pending.follow(click("b", 5))
        pending.follow(click("a", 7, query="p"))
    assert straight.ripen(900) == again.ripen(900)
    straight.changes()
    assert straight.counts["duplicate"] == again.counts["duplicate"] == 1


def restored(changes: list[Changes]) -> Pending:
    rows: list[Row] = []
    closed: dict[bytes, bytes] = {}
    for change in changes:
        rows += change.rows
        rows = [row for row in rows if row.search not in set(change.gone)]
        closed.update(change.closed)
        for key in change.forgotten:
            closed.pop(key, None)
    pending = Pending(WINDOWS, PendingLimits())
    pending.restore(rows, closed.items())
    return pending


EXAMPLE = Example("e" * 32, "r", "c", "q", 1, 2, "v", "", 2**64 - 1, ("a",), (0,), (1,), b"\x00\x3c", b"\x01")


def test_labels_on_the_wire() -> None:
    golden = (
        "019fa76578616d706c65d920" + "65" * 32 + "a172a163a1710102a176a0cfffffffffffffffff91a16191009101c402003cc40101"
    )
    assert encode(EXAMPLE).hex() == golden
    correction = Correction("e", "click", "a", 3, True)
    assert encode(correction).hex() == "0196aa636f7272656374696f6ea165a5636c69636ba16103c3"
    assert decode(encode(EXAMPLE)) == EXAMPLE
    assert decode(encode(correction)) == correction


@pytest.mark.parametrize("value", [None, b"", b"\x02", b"\x01\x93", b"\x01\x91\xa1x", b"\x01" + b"\x91" * 99_999])
def test_what_is_no_label_is_refused(value: bytes | None) -> None:
    with pytest.raises(BadEvent):
        decode(value)


def test_windows_are_settings() -> None:
    assert [Windows().of(action) for action in ("click", "cart", "purchase")] == [1_800_000, 86_400_000, 604_800_000]
    assert msgspec.json.decode(msgspec.json.encode(WINDOWS), type=Windows) == WINDOWS

"""The canonical dump: what it shows, what it leaves out, and what it refuses."""

from dataclasses import replace

import pytest

from headrace.streams.dump import EdgeFact, Facts, ShopperFact, digest, dump, newest_day
from headrace.streams.searches import Kept, Search, Shopper, StateBounds
from headrace.streams.sequences import pack

BOUNDS = StateBounds(window_days=4, floor=3, sequence=2)
EDGE = EdgeFact(0xAB, 'an "item"', ((10, 2, 1), (12, 3, 0)), capped=False)


def lines(facts: Facts, day: int = 12) -> list[str]:
    return dump(facts, day, BOUNDS).decode().splitlines()


def test_edges_are_cut_to_the_window_of_the_day_that_is_asked_for() -> None:
    facts = Facts(edges=[EDGE])
    assert lines(facts) == ['query 00000000000000ab item "an \\"item\\"" 10:2:1 12:3:0']
    assert lines(facts, 14) == ['query 00000000000000ab item "an \\"item\\"" 12:3:0']
    assert lines(facts, 16) == []


def test_copies_below_the_floor_within_the_window_are_left_out() -> None:
    facts = Facts(edges=[EDGE], copies=[EDGE])
    assert sum(line.startswith("item") for line in lines(facts)) == 1
    assert sum(line.startswith("item") for line in lines(facts, 14)) == 1
    below = replace(EDGE, rows=((10, 2, 1), (12, 2, 0)))
    assert sum(line.startswith("item") for line in lines(Facts(copies=[below]), 14)) == 0


def test_a_capped_query_is_compared_by_that_alone() -> None:
    capped = replace(EDGE, capped=True)
    assert lines(Facts(edges=[capped], copies=[EDGE])) == ["query 00000000000000ab capped"]
    assert lines(Facts(edges=[capped, replace(capped, item_id="other")])) == ["query 00000000000000ab capped"]


def test_copies_of_a_capped_item_are_left_out() -> None:
    assert lines(Facts(copies=[EDGE], capped_items={EDGE.item_id})) == []


def test_a_shopper_is_its_clock_its_searches_and_the_newest_of_its_sequence() -> None:
    search = Search(5, 'q"1', 0xAB, items=b"i" * 8, flags=b"\3", touches=b"t" * 8)
    shopper = Shopper(fence=9, clock_ms=7, length=3, searches=[search], kept=[Kept(9, 0xAB, 1, 1, 0, b"\1")])
    log = pack(0xAB, 0, 30, 0) + pack(0xAB, 1, 10, 2) + pack(0, 2, 20, 1)
    facts = Facts(shoppers=[ShopperFact(b"s" * 16, shopper, log)], texts={0xAB: "red", 1: "one", 2: "two"})
    name = f"shopper {'73' * 16}"
    assert lines(facts) == [
        f"{name} clock 7",
        f'{name} record 000000 20 view - 0000000000000002 "two"',
        f'{name} record 000001 30 search 00000000000000ab "red" -',
        f'{name} search 5 "q\\"1" 00000000000000ab {"69" * 8} 03 {"74" * 8}',
    ]
    changed = replace(facts.shoppers[0], shopper=Shopper(1, 7, 9, [search], []))
    assert lines(replace(facts, shoppers=[changed])) == lines(facts), "fences, lengths and kept increments do not show"


def test_a_text_that_is_missing_shows() -> None:
    shopper = Shopper(fence=0, clock_ms=0, length=1, searches=[], kept=[])
    facts = Facts(shoppers=[ShopperFact(b"s" * 16, shopper, pack(0xAB, 0, 30, 0))])
    assert lines(facts)[1].endswith("search 00000000000000ab null -")


def test_a_day_before_the_newest_is_refused() -> None:
    for facts in (Facts(edges=[EDGE]), Facts(copies=[EDGE])):
        assert newest_day(facts) == 12
        with pytest.raises(ValueError, match="as of day 11, but day 12 is stored"):
            dump(facts, 11, BOUNDS)
    assert newest_day(Facts()) == 0
    assert dump(Facts(), 0, BOUNDS) == b""


def test_equal_facts_in_any_order_have_one_digest() -> None:
    other = replace(EDGE, item_id="b", query=2**64 - 1)
    one = dump(Facts(edges=[EDGE, other], copies=[other, EDGE]), 12, BOUNDS)
    two = dump(Facts(edges=[other, EDGE], copies=[EDGE, other]), 12, BOUNDS)
    assert one == two
    assert digest(one) == digest(two) != digest(one + b"x")
    assert one.endswith(b"\n")

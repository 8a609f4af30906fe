"""Every stored format, byte for byte: a change here needs a new codec number, and a new generation."""

import struct

import pytest

from headrace.streams import item_copies, neighbours, score_cache, sequences
from headrace.streams.events import Click, Impression, Query
from headrace.streams.keys import source_token
from headrace.streams.score_cache import Cached
from headrace.streams.searches import FOLD_VERSION, Entry, Kept, Search, Shopper, decode_shopper, encode_shopper, fold
from headrace.streams.searches import StateBounds as Bounds
from headrace.streams.store import MemoryStore
from headrace.streams.writes import CountWrite, EdgeWrite, Increment

EDGE = bytes.fromhex(
    "01"  # codec
    "05000000"  # E of all days
    "02000000"  # C
    "204e 03000000 00000000"  # day 20,000: E 3, C 0
    "214e 02000000 02000000"
)
ITEM = bytes.fromhex(
    "0100"  # codec, not capped
    "efcdab8967452301 204e 03000000 00000000"  # query, day, E, C
    "efcdab8967452301 214e 02000000 02000000"
)
RECORD = bytes.fromhex(
    "efcdab8967452301"  # query
    "1032547698badcfe"  # item
    "00e8435792010000"  # 1,728,129,624,064 ms
    "02"  # a click
)
HEAD = bytes.fromhex(
    "01"  # codec
    "0700000000000000"  # fence: with the codec, what a writer expects to find
    "95"  # MessagePack, an array of 5: fence, clock, length, searches, kept
    "07"
    "cf0000019257480000"
    "03"
    "9196cf0000019257440000a27131cf0123456789abcdef"  # one search: its time, id and query,
    "c408 1032547698badcfe"  # items,
    "c401 03"  # flags,
    "c408 0807060504030201"  # event ids
    "919607cf0123456789abcdefcd4e200101c40105"  # kept: offset, query, day, E, C, which items
)
SCORE = bytes.fromhex(
    "01"  # codec
    "01"  # the teacher's
    "0123456789abcdef"  # which one
    "d4c63cdd4dbb78e7"  # stamp of the item's text
    "0000000000000000"  # no neighbours were read
    "0000403f"  # .75
    "00e8435792010000"  # 1,728,129,624,064 ms
)


def test_an_edge() -> None:
    rows = [(20_000, 3, 0), (20_001, 2, 2)]
    assert neighbours.pack_edge(rows) == EDGE
    assert neighbours.unpack_edge(EDGE) == rows


def test_an_item() -> None:
    query = 0x0123456789ABCDEF
    assert bytes((1, 0)) + item_copies.pack_rows(query.to_bytes(8, "little"), EDGE) == ITEM
    assert item_copies.copies(ITEM) == [(query, [(20_000, 3, 0), (20_001, 2, 2)])]


def test_a_record_of_a_sequence() -> None:
    values = (0x0123456789ABCDEF, 0xFEDCBA9876543210, 0x0000019257_43E800, sequences.CLICK)
    assert sequences.pack(*values) == RECORD
    assert sequences.newest(RECORD, 1)[0].item() == values


def test_a_shopper() -> None:
    search = Search(
        0x19257440000,
        "q1",
        0x0123456789ABCDEF,
        items=bytes.fromhex("1032547698badcfe"),
        flags=b"\3",
        touches=bytes.fromhex("0807060504030201"),
    )
    kept = Kept(7, 0x0123456789ABCDEF, 20_000, 1, 1, b"\5")
    shopper = Shopper(fence=7, clock_ms=0x19257480000, length=3, searches=[search], kept=[kept])
    assert encode_shopper(shopper).hex() == HEAD.hex()
    assert decode_shopper(HEAD) == shopper


def test_a_cached_score() -> None:
    part = score_cache.part_name("0123456789abcdef" * 4)
    cached = Cached(part, score_cache.stamp_of("red shoe"), 0, "teacher", 0.75, 0x0000019257_43E800)
    assert score_cache.encode(cached).hex() == SCORE.hex()
    assert score_cache.decode(SCORE) == (cached,)
    assert len(SCORE) == score_cache.RECORD_BYTES
    assert SCORE[score_cache.SOURCE_AT] == 1


def test_the_fences_of_a_query_are_16_bytes_each() -> None:
    """As count.lua keeps them and as reading reads them."""
    assert source_token("c", "t", 0) + struct.pack("<Q", 9) == bytes.fromhex("ad4908ecb2e0f977 0900000000000000")


def test_what_a_fold_leaves_is_the_same_for_ever() -> None:
    """FOLD_VERSION changes with this test."""
    at_ms = 1_728_000_000_000
    entries = [
        Entry(0, at_ms, Query("e0", "c", "q1", at_ms, "red shoe")),
        Entry(1, at_ms + 1, Impression("e1", "c", "q1", at_ms + 1, ("a", "b"), (1, 2))),
        Entry(2, at_ms + 2, Click("e2", "c", "q1", at_ms + 2, "b")),
    ]
    folded = fold(Shopper(searches=[], kept=[]), entries, 0, Bounds())
    assert FOLD_VERSION == 1
    assert encode_shopper(folded.shopper).hex() == (
        "0102000000000000009502cf0000019254d38002029196cf0000019254d38000a27131cfe778bb4ddd3cc6d4c41040f8"
        "9e395b66422f8472c2e34d854f75c4020103c408fed135082f0eff78929601cfe778bb4ddd3cc6d4cd4e200100c40103"
        "9602cfe778bb4ddd3cc6d4cd4e200001c40101"
    )
    assert b"".join(folded.records).hex() == (
        "d4c63cdd4dbb78e700000000000000000080d3549201000000d4c63cdd4dbb78e78472c2e34d854f750280d3549201000002"
    )


@pytest.mark.parametrize("clicks", [0, 1])
def test_the_store_answers_and_keeps_edges_in_that_format(clicks: int) -> None:
    store = MemoryStore(Bounds(floor=1))
    reply = store.apply([CountWrite(1, b"source-1", (Increment(0, 20_000, 1, clicks, ("a",)),))])[0]
    assert reply == [("a", neighbours.pack_edge([(20_000, 1, clicks)]))]
    assert isinstance(reply, list)
    store.apply([EdgeWrite("a", ((1, reply[0][1]),))])
    assert store.facts().copies[0].rows == ((20_000, 1, clicks),)

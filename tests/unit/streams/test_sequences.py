"""The newest N records of a shopper, in event-time order, however they came and were cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.streams import sequences
from headrace.streams.sequences import RECORD, RECORD_BYTES, newest, pack
from headrace.streams.store import cut

times = st.lists(st.integers(0, 8), max_size=40)


def log(at_ms: list[int], first: int = 0) -> list[bytes]:
    """Records whose item is their place in the log."""
    return [pack(1, place, time, sequences.CLICK) for place, time in enumerate(at_ms, first)]


def places(value: bytes, limit: int) -> list[int]:
    return [int(item) for item in newest(value, limit)["item"]]


def test_a_record_is_read_as_it_was_packed() -> None:
    value = pack(2**64 - 1, 2**63, 1_728_000_000_000, sequences.PURCHASE) + pack(0, 0, -5, sequences.SEARCH)
    assert [record.item() for record in np.frombuffer(value, RECORD)] == [
        (2**64 - 1, 2**63, 1_728_000_000_000, 4),
        (0, 0, -5, 0),
    ]
    assert len(value) == 2 * RECORD_BYTES == 50


def test_actions_have_names() -> None:
    assert sequences.ACTIONS[sequences.SEARCH] == "search"
    assert [sequences.ACTIONS[n] for n in (sequences.VIEW, sequences.CLICK, sequences.CART, sequences.PURCHASE)] == [
        "view",
        "click",
        "cart",
        "purchase",
    ]


def test_late_records_stand_where_they_happened() -> None:
    assert places(b"".join(log([10, 30, 20, 25])), 10) == [0, 2, 3, 1]
    assert places(b"".join(log([10, 30, 20, 25])), 2) == [3, 1]


def test_of_equal_times_the_later_in_the_log_is_newer() -> None:
    assert places(b"".join(log([5, 5, 5, 4, 5])), 3) == [1, 2, 4]


def test_nothing_is_the_sequence_of_an_unknown_shopper() -> None:
    assert newest(b"", 10).shape == (0,)
    assert newest(b"", 10).dtype == RECORD
    with pytest.raises(ValueError, match="multiple"):
        newest(b"x" * 26, 10)


@given(times, st.integers(1, 10))
def test_the_newest_are_those_of_a_stable_sort(at_ms: list[int], limit: int) -> None:
    expected = sorted(range(len(at_ms)), key=lambda place: (at_ms[place], place))[-limit:]
    assert places(b"".join(log(at_ms)), limit) == expected


@given(times, st.integers(1, 6), st.lists(st.integers(1, 5), max_size=20))
def test_no_cut_changes_a_read(at_ms: list[int], limit: int, sizes: list[int]) -> None:
    """A log that is cut to its newest N now and then reads as the one that never was."""
    records, stored, at = log(at_ms), b"", 0
    for size in (*sizes, len(records)):
        stored = cut(stored, records[at : at + size], limit) if size % 2 else stored + b"".join(records[at : at + size])
        at += size
        assert places(stored, limit) == places(b"".join(records[:at]), limit)

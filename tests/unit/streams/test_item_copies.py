"""The bytes an item's copies lie in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.streams import item_copies
from headrace.streams.neighbours import Row, pack_edge

edges = st.dictionaries(
    st.integers(0, 2**64 - 1),
    st.dictionaries(
        st.integers(0, 65_535), st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), min_size=1
    ),
    max_size=4,
)


def rows_by_day(days: dict[int, tuple[int, int]]) -> list[Row]:
    return [(day, exposures % 1_000_000, clicks % 1_000_000) for day, (exposures, clicks) in sorted(days.items())]


@given(edges, st.booleans())
def test_copies_are_read_as_they_were_packed(stored: dict[int, dict[int, tuple[int, int]]], capped: bool) -> None:
    expected = [(query, rows_by_day(days)) for query, days in stored.items()]
    packed = [item_copies.pack_rows(query.to_bytes(8, "little"), pack_edge(rows)) for query, rows in expected]
    value = bytes([1, capped]) + b"".join(packed)
    assert item_copies.copies(value) == expected
    assert item_copies.is_capped(value) == capped
    assert len(item_copies.rows_of(value)) == sum(len(rows) for _, rows in expected)


@pytest.mark.parametrize("value", [b"", b"\2\0", b"\1\0" + bytes(17), b"\1\0" + bytes(19)])
def test_other_bytes_are_no_item(value: bytes) -> None:
    with pytest.raises(ValueError, match="codec 1"):
        item_copies.rows_of(value)

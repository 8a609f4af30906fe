from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.origins import Landed, origin, read_origin

TOKEN, OTHER = b"sourcea1", b"sourceb2"


def test_a_record_says_where_it_came_from() -> None:
    assert origin(TOKEN, 258) == (("x-import", b"sourcea1\x02\x01\0\0\0\0\0\0"),)
    assert read_origin([("x", b"y"), *origin(TOKEN, 2**40)]) == (TOKEN, 2**40)
    for headers in ([], [("x-import", None)], [("x-import", b"short")], [("x-import", b"x" * 17)]):
        assert read_origin(headers) is None


@given(st.sets(st.integers(100, 300)), st.integers(0, 400))
def test_what_landed_is_known(offsets: set[int], asked: int) -> None:
    landed = Landed({TOKEN: 100, OTHER: 0}, {TOKEN: 250, OTHER: 9})
    for offset in (*offsets, *offsets):
        landed.add(TOKEN, offset)
    known = {offset for offset in offsets if offset < 250}
    assert landed.has(TOKEN, asked) == (asked in known)
    assert not landed.has(OTHER, asked)
    assert landed.count == len(known)


def test_strangers_take_no_memory() -> None:
    landed = Landed({TOKEN: 0}, {TOKEN: 10})
    landed.add(OTHER, 3)
    landed.add(TOKEN, 2**60)
    assert landed.count == 0
    assert not landed.has(TOKEN, 2**60)

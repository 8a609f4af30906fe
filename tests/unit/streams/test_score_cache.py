"""What is kept of a pair's score, and every reason not to use it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.keys import Keys
from headrace.streams.score_cache import (
    MAX_AGE_MS,
    Accepted,
    Cached,
    decode,
    encode,
    neighbours_hash,
    part_name,
    read_command,
    stamp_of,
    usable,
)

STUDENT, TEACHER = part_name("ab" * 32), part_name("smollm2")
ACCEPTED = Accepted(STUDENT, TEACHER)
NOW_MS = 1_800_000_000_000
OURS = Cached(STUDENT, 7, 0, "student", 0.25, NOW_MS)
TEACHERS = Cached(TEACHER, 7, 0, "teacher", 0.75, NOW_MS)
records = st.builds(
    Cached,
    part=st.sampled_from([STUDENT, TEACHER, b"another!"]),
    content=st.integers(6, 8),
    neighbours=st.integers(0, 1),
    source=st.sampled_from(["teacher", "student"]),
    score=st.floats(0, 1, width=32),
    written_ms=st.integers(NOW_MS - 2 * MAX_AGE_MS, NOW_MS),
)


@given(st.lists(records, max_size=2))
def test_what_is_encoded_is_decoded(several: list[Cached]) -> None:
    assert decode(b"".join(map(encode, several))) == tuple(several)


def test_the_teachers_score_goes_before_the_students() -> None:
    for value in (encode(OURS) + encode(TEACHERS), encode(TEACHERS) + encode(OURS)):
        assert usable(value, 7, ACCEPTED, NOW_MS) == (0.75, "teacher")
    assert usable(encode(OURS), 7, ACCEPTED, NOW_MS) == (0.25, "student")
    assert usable(encode(OURS) + encode(TEACHERS), 7, Accepted(STUDENT), NOW_MS) == (0.25, "student")


@pytest.mark.parametrize(
    "other",
    [
        replace(OURS, part=part_name("cd" * 32)),
        replace(OURS, part=TEACHER),
        replace(OURS, content=8),
        replace(OURS, neighbours=1),
        replace(OURS, written_ms=NOW_MS - MAX_AGE_MS - 1),
        replace(TEACHERS, part=part_name("another")),
        replace(TEACHERS, part=STUDENT),
        replace(TEACHERS, content=8),
        replace(TEACHERS, written_ms=NOW_MS - MAX_AGE_MS - 1),
    ],
)
def test_a_score_made_of_something_else_is_none(other: Cached) -> None:
    assert usable(encode(other), 7, ACCEPTED, NOW_MS) is None


def test_a_teachers_score_is_used_whatever_neighbours_it_read() -> None:
    assert usable(encode(replace(TEACHERS, neighbours=3)), 7, ACCEPTED, NOW_MS) == (0.75, "teacher")


def test_a_students_score_is_used_only_with_the_neighbours_it_read() -> None:
    value = encode(replace(OURS, neighbours=3))
    assert usable(value, 7, ACCEPTED, NOW_MS, 3) == (0.25, "student")
    assert usable(value, 7, ACCEPTED, NOW_MS) is usable(value, 7, ACCEPTED, NOW_MS, 4) is None
    assert usable(encode(OURS), 7, ACCEPTED, NOW_MS, 3) is None


SIDES = st.lists(st.text(alphabet="ab\0\ud800é", max_size=3), max_size=3)


@given(SIDES, SIDES, SIDES, SIDES)
def test_neighbours_have_one_hash_if_and_only_if_they_are_the_same(
    query: list[str], item: list[str], other_query: list[str], other_item: list[str]
) -> None:
    """Order, side, and where one text ends and the next begins are part of it."""
    found = neighbours_hash(query, item)
    assert 0 <= found < 2**64 and (found == 0) == (not query and not item)
    assert (found == neighbours_hash(other_query, other_item)) == ((query, item) == (other_query, other_item))
    for others in ((query[::-1], item), (item, query), (["".join(query)], item), (query + item, [])):
        assert (found == neighbours_hash(*others)) == ((query, item) == others)


def test_a_hash_of_neighbours_is_the_same_in_every_process() -> None:
    assert neighbours_hash([], []) == 0
    assert neighbours_hash(["red shoe"], ["shoe", "shoes"]) == 0x2C198146F95586BB


@given(st.lists(records, max_size=2))
def test_what_is_used_is_what_a_reader_of_the_records_would_choose(several: list[Cached]) -> None:
    fit = {
        one.source: one.score
        for one in several
        if one.content == 7
        and NOW_MS - one.written_ms <= MAX_AGE_MS
        and (one.part == TEACHER if one.source == "teacher" else one.part == STUDENT and one.neighbours == 0)
    }
    wanted = (fit["teacher"], "teacher") if "teacher" in fit else (fit["student"], "student") if fit else None
    assert usable(b"".join(map(encode, several)) or None, 7, ACCEPTED, NOW_MS) == wanted


@given(st.binary(max_size=120))
def test_bytes_that_are_no_record_are_no_score(value: bytes) -> None:
    assert usable(value, 7, ACCEPTED, NOW_MS) is None
    for cached in decode(value):
        assert 0 <= cached.score <= 1


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -0.1, 1.1])
def test_only_probabilities_are_kept(score: float) -> None:
    with pytest.raises(ValueError, match="no probability"):
        encode(replace(OURS, score=score))


def test_only_names_of_8_bytes_are_kept() -> None:
    with pytest.raises(ValueError, match="8 bytes"):
        encode(replace(OURS, part=b"short"))


def test_a_digest_is_named_by_its_beginning_and_anything_else_by_a_hash() -> None:
    assert part_name("0123456789abcdef" * 4) == bytes.fromhex("0123456789abcdef")
    assert len(part_name("")) == len(part_name("x" * 64)) == len(part_name("smollm2")) == 8
    assert len({part_name(name) for name in ("", "a", "b", "x" * 64, "é")}) == 5


def test_another_text_has_another_stamp_and_every_text_has_one() -> None:
    assert stamp_of("red shoe") == 0xE778BB4DDD3CC6D4
    assert len({stamp_of(text) for text in ("", "a", "A", "\ud800", "\ud800b")}) == 5


def test_a_querys_scores_lie_in_the_slot_of_its_edges_and_in_no_generation() -> None:
    keys = Keys("shop", "g1")
    assert keys.scores(0xAB) == b"hr:shop:scores:{00000000000000ab}" == Keys("shop", "g2").scores(0xAB)
    assert keys.scores(0xAB).split(b"{")[1] == keys.query(0xAB).split(b"{")[1]
    assert read_command(keys, 0xAB, ["a", "b"]) == ("HMGET", keys.scores(0xAB), "a", "b")

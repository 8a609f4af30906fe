import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import BadRequest
from headrace.streams.events import REASONS, EventLimits
from headrace.streams.intake import accept
from ubi_records import click, query, raw

LIMITS = EventLimits()


def test_a_single_event() -> None:
    body = b" \n" + raw(click())
    assert accept(body, LIMITS) == ([(b"c1", body)], [])


def test_an_array_is_judged_event_by_event_and_keeps_their_bytes() -> None:
    first, second = b'{"unread":  1,' + raw(click())[1:], raw(query(client_id=None, session_id="s\u00e9"))
    accepted, refused = accept(b"[" + first + b" ,\n" + raw(click(client_id=7)) + b", 5, " + second + b"]", LIMITS)
    assert accepted == [(b"c1", first), ("s\u00e9".encode(), second)]
    assert [(index, error.field, error.reason) for index, error in refused] == [
        (1, "client_id", "wrong_type"),
        (2, "", "wrong_type"),
    ]


def test_an_empty_array() -> None:
    assert accept(b"[]", LIMITS) == ([], [])


@pytest.mark.parametrize(
    "body", [b"", b"null", b"7", b"[", b"[{]", b"[1", b"[] []", b"\xff", b"[" * 10_000, b'["\xff'], ids=repr
)
def test_a_body_that_cannot_be_read(body: bytes) -> None:
    with pytest.raises(BadRequest, match="body"):
        accept(body[:10_000], LIMITS)


def test_a_broken_object_is_a_refused_event() -> None:
    accepted, refused = accept(b"{", LIMITS)
    assert accepted == []
    assert [error.reason for _, error in refused] == ["not_json"]


def test_bounds_of_a_body() -> None:
    with pytest.raises(BadRequest, match="3 events, at most 2"):
        accept(b"[1,2,3]", LIMITS, body_events=2)
    with pytest.raises(BadRequest, match="7 bytes, at most 6"):
        accept(b"[1,2,3]", LIMITS, body_bytes=6)


@given(st.binary(max_size=200) | st.lists(st.sampled_from([raw(click()), b"7", b"{}"])).map(b",".join))
def test_any_body(inner: bytes) -> None:
    for body in (inner, b"[" + inner + b"]"):
        try:
            accepted, refused = accept(body, LIMITS)
        except BadRequest:
            continue
        assert all(error.reason in REASONS for _, error in refused)
        assert all(key and value for key, value in accepted)

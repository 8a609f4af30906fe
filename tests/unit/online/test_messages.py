import pytest

from headrace import BadRequest
from headrace.online.messages import MAX_ITEMS, Offer, features_request, rank_request


def test_a_request_is_taken_as_it_stands() -> None:
    asked = rank_request(b'{"query":"red shoe","items":["a",{"id":"b","price":3.5}],"client_id":"c"}', trust_now=False)
    assert asked.items == ("a", Offer("b", 3.5))
    assert asked.ids() == ("a", "b")
    assert asked.prices() == [None, 3.5]
    assert asked.query_id is None and asked.deadline_ms is None and not asked.explain


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"[]", "body"),
        (b"{", "body"),
        (b"\xff", "body"),
        (b"[" * 100_000, "body"),
        (b'{"items":[]}', "query"),
        (b'{"query":1,"items":[]}', "query"),
        (b'{"query":"\xff","items":[]}', "body"),
        (b'{"query":"\\ud800","items":[]}', "body"),
        (b'{"query":"%s","items":[]}' % (b"x" * 1_001), "query"),
        (b'{"query":"a"}', "items"),
        (b'{"query":"a","items":["x",1]}', "items[1]"),
        (b'{"query":"a","items":[""]}', "items[0]"),
        (b'{"query":"a","items":[{}]}', "items[0].id"),
        (b'{"query":"a","items":[{"id":"x","prize":1}]}', "items[0].prize"),
        (b'{"query":"a","items":[{"id":"x","price":-1}]}', "items[0].price"),
        (b'{"query":"a","items":[{"id":"x","price":1e999}]}', "items[0].price"),
        (b'{"query":"a","items":[{"id":"x","price":NaN}]}', "body"),
        (b'{"query":"a","items":[%s"x"]}' % (b'"x",' * MAX_ITEMS), "items"),
        (b'{"query":"a","items":[],"client_id":""}', "client_id"),
        (b'{"query":"a","items":[],"deadline_ms":0}', "deadline_ms"),
        (b'{"query":"a","items":[],"deadline_ms":1.5}', "deadline_ms"),
        (b'{"query":"a","items":[],"deadlin_ms":5}', "deadlin_ms"),
        (b'{"query":"a","items":[],"now_ms":5}', "now_ms"),
    ],
)
def test_what_cannot_be_answered_names_its_field(body: bytes, field: str) -> None:
    with pytest.raises(BadRequest) as caught:
        rank_request(body, trust_now=False)
    assert caught.value.field == field
    assert caught.value.message


def test_the_time_is_taken_only_from_who_is_trusted() -> None:
    assert rank_request(b'{"query":"a","items":[],"now_ms":5}', trust_now=True).now_ms == 5
    assert features_request(b'{"now_ms":5}', trust_now=True).now_ms == 5
    with pytest.raises(BadRequest):
        features_request(b'{"now_ms":5}', trust_now=False)

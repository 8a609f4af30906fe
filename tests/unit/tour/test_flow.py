from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from headrace.models.head import Head
from headrace.streams.events import Click, Impression, Query, ShopperEvent
from headrace.tour.doors import Asked
from headrace.tour.first_head import first_head, read, write
from headrace.tour.flow import LISTED, SHOWN, Flow, listed
from headrace.tour.load import Load, split
from headrace.tour.shop import load
from headrace.tour.shoppers import ClickModel, Shoppers

SHOP = load()
SHOPPERS = Shoppers(SHOP, replace(ClickModel(), searches=60, gap_ms=20_000), 5)


@dataclass
class Log:
    sent: list[ShopperEvent] = field(default_factory=list)

    def send(self, events: Sequence[ShopperEvent]) -> None:
        self.sent += events

    def settle(self, wait: bool) -> None:
        pass

    def collect(self) -> None:
        pass


@dataclass
class Doors:
    """Scores at random, and notes what had been sent when it was asked."""

    log: Log
    asked: list[tuple[Asked, int]] = field(default_factory=list)

    def answer(self, asked: Asked, explain: bool = False) -> Any:
        self.asked.append((asked, len(self.log.sent)))
        scores = np.random.default_rng(len(self.asked)).random(LISTED)
        return {"scores": scores.tolist(), "order": np.argsort(-scores).tolist(), "model": {"version": "v1"}}


def played() -> tuple[Flow, Log, Doors]:
    log = Log()
    doors = Doors(log)
    student = {query.text: {item.item_id: 0.0 for item in SHOP.products} for query in SHOPPERS.queries}
    flow = Flow(SHOP, SHOPPERS, log, doors, student)  # type: ignore[arg-type]
    while flow.done < SHOPPERS.model.searches:
        flow.step()
    flow.finish()
    return flow, log, doors


def test_no_list_is_asked_for_after_an_event_that_had_not_happened() -> None:
    _, log, doors = played()
    for asked, sent in doors.asked:
        assert all(event.at_ms <= asked.now_ms for event in log.sent[:sent])
        assert all(event.at_ms >= asked.now_ms for event in log.sent[sent:])
        assert not any(event.query_id == asked.query_id for event in log.sent[:sent])


def test_every_search_is_a_query_a_page_and_what_followed_in_the_order_of_time() -> None:
    flow, log, _ = played()
    assert [event.at_ms for event in log.sent] == sorted(event.at_ms for event in log.sent)
    assert sum(isinstance(event, Query) for event in log.sent) == flow.done == 60
    pages = {event.query_id: event for event in log.sent if isinstance(event, Impression)}
    assert {len(page.items) for page in pages.values()} == {SHOWN}
    clicks = [event for event in log.sent if isinstance(event, Click)]
    assert clicks
    for click in clicks:
        page = pages[click.query_id]
        assert page.items[(click.position or 0) - 1] == click.item_id
        assert page.at_ms < click.at_ms


def test_a_visitor_of_whom_nothing_is_known_leaves_no_trace() -> None:
    body = Asked("lamp", listed(SHOP, "lamp"), 5).body()
    assert b"client_id" not in body
    assert b"query_id" not in body


def test_requests_near_a_swap_are_told_from_others() -> None:
    load = Load("http://127.0.0.1:1", [b"{}"], 1.0)
    load.due_s, load.took_ms = [1.0, 2.0, 2.5, 3.1, 9.0], [1.0, 2.0, 3.0, 4.0, 5.0]
    assert split(load, [(2.0, 2.2)], 0.5) == ([2.0, 3.0], [1.0, 4.0, 5.0])


def test_the_first_head_is_written_and_read_again() -> None:
    shipped = first_head()
    again = read(write(shipped, "again"))
    assert np.array_equal(again.weights, shipped.weights)
    assert np.array_equal(again.scale, shipped.scale)
    assert not np.array_equal(shipped.weights, Head.cold().weights)

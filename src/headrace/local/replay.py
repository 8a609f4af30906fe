"""Replays a log of searches against a running line: each list is scored by the worker before its click is sent.

Two ways. With the barrier, a list is asked for only when the state holds every earlier event of that shopper and the
learner has read everything: what comes out is the quality of the model. At a speed, events are sent when their time
has come and nothing waits for anything: what comes out is the system as it lives.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from kafka import KafkaProducer

from headrace.local.doors import WAIT_S, Doors, Refused
from headrace.models.trivago import ClickedOut, Searched, Step, Viewed
from headrace.streams.events import Click, Impression, Query, ShopperEvent, View, encode
from headrace.streams.keys import Keys, shopper_name
from headrace.streams.redis_wire import Wire


@dataclass(frozen=True, slots=True)
class ServedList:
    """One list as the worker scored it, before its click.

    Attributes:
        step: its place among all lists of the log.
        session: of the shopper.
        at_ms: event time of the request.
        items: [B], in the order the engine gave.
        prices: [B], NaN where unknown.
        clicked: what was clicked then.
        scores: [B].
        version: of the bundle that answered.
        student: what the answer says of the student.
        took_ms: the request, from outside.
        at_s: when it was answered, on the replay's own clock.
    """

    step: int
    session: str
    at_ms: int
    items: tuple[str, ...]
    prices: tuple[float, ...]
    clicked: str
    scores: tuple[float, ...]
    version: str
    student: str
    took_ms: float
    at_s: float


@dataclass(slots=True)
class Freshness:
    """How long after it was sent each event could be seen by a score, milliseconds."""

    seen_ms: list[float] = field(default_factory=list)


class EventLog:
    """The events topic of a line: sends, and waits until the state holds what was sent.

    Attributes:
        wire: to the state.
        keys: of the generation that is read.
        positions: partition -> offset behind the last event that was sent.
        freshness: of the events that were sent.
    """

    def __init__(self, bootstrap: str, topic: str, redis_url: str, namespace: str) -> None:
        self._producer: Any = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=0)
        self._topic = topic
        self.wire = Wire(redis_url)
        self.keys = self._generation(namespace)
        self._sent: deque[tuple[str, float, Any]] = deque()
        self._last: dict[str, int] = {}
        self._waiting: dict[str, tuple[int, float]] = {}
        self.positions: dict[int, int] = {}
        self.freshness = Freshness()

    def send(self, events: Sequence[ShopperEvent]) -> None:
        """Puts events into the log, in order, without waiting for Kafka."""
        self._sent += [(event.client_id, time.monotonic(), self._send(event)) for event in events]

    def settle(self, wait: bool) -> None:
        """Notes where Kafka has put what was sent; waits until it has all of it, or takes what is there."""
        while self._sent and (wait or self._sent[0][2].is_done):
            client_id, sent_s, future = self._sent.popleft()
            place = future.get(timeout=WAIT_S)
            self.positions[place.partition] = place.offset + 1
            self._last[client_id] = place.offset
            self._waiting.setdefault(client_id, (place.offset, sent_s))

    def collect(self) -> None:
        """Notes which of the awaited events the state holds now."""
        self.settle(wait=False)
        if not self._waiting:
            return
        clients = list(self._waiting)
        now_s = time.monotonic()
        for client_id, fence in zip(clients, self._fences(clients), strict=True):
            offset, sent_s = self._waiting[client_id]
            if fence >= offset:
                self.freshness.seen_ms.append((now_s - sent_s) * 1000)
                del self._waiting[client_id]

    def unseen(self) -> frozenset[str]:
        """The shoppers of whom the state does not hold everything that was sent, as far as `collect` has looked."""
        return frozenset(self._waiting) | {client_id for client_id, _, _ in self._sent}

    def wait(self, client_id: str) -> None:
        """Returns when the state holds every event of a shopper that was sent.

        Raises:
            Refused: it does not, after a minute.
        """
        self.settle(wait=True)
        if client_id not in self._last:
            return
        until_s = time.monotonic() + WAIT_S
        while self._fences([client_id])[0] < self._last[client_id]:
            if time.monotonic() > until_s:
                raise Refused(f"the state did not take an event of {client_id} within {WAIT_S:.0f} s: see consume.log")
            time.sleep(0.001)
        self.collect()

    def close(self) -> None:
        """Ends the connections."""
        self._producer.close()
        self.wire.close()

    def _generation(self, namespace: str) -> Keys:
        """The keys of the generation that is read, once there is one."""
        until_s = time.monotonic() + WAIT_S
        while time.monotonic() < until_s:
            named = self.wire.call([("GET", Keys(namespace, "none").alias)])[0]
            if isinstance(named, bytes):
                return Keys(namespace, named.decode())
            time.sleep(0.02)
        raise Refused(f"no generation was made within {WAIT_S:.0f} s: see consume.log")

    def _send(self, event: ShopperEvent) -> Any:
        return self._producer.send(
            self._topic, key=event.client_id.encode(), value=encode(event), timestamp_ms=event.at_ms
        )

    def _fences(self, clients: Sequence[str]) -> list[int]:
        replies = self.wire.call([("GETRANGE", self.keys.shopper(shopper_name(name)), 1, 8) for name in clients])
        return [int.from_bytes(reply, "little", signed=True) if reply else -1 for reply in replies]  # type: ignore[arg-type]


class Door(Doors):
    """Asks for the lists of a log; knows which model answered last."""

    def __init__(self, serve_url: str, refresh_url: str) -> None:
        super().__init__(serve_url, refresh_url)
        self._version = ""

    def rank(self, step: ClickedOut, place: int, started_s: float) -> ServedList:
        """The list of a step as the worker scores it now.

        Raises:
            Refused: the worker did not answer with scores.
        """
        items = [
            {"id": item} | ({"price": price} if price == price else {})
            for item, price in zip(step.items, step.prices, strict=True)
        ]
        body = {
            "query": step.text,
            "query_id": step.query_id,
            "client_id": step.shopper,
            "items": items,
            "now_ms": step.at_ms,
        }
        asked_s = time.perf_counter()
        said = self.scored(msgspec.json.encode(body))
        took_ms = (time.perf_counter() - asked_s) * 1000
        return ServedList(
            place,
            step.session,
            step.at_ms,
            step.items,
            step.prices,
            step.item,
            tuple(said["scores"]),
            said["model"]["version"],
            said["student"],
            took_ms,
            time.monotonic() - started_s,
        )

    def wait_for_model(self, version: str) -> None:
        """Returns when the worker serves a version; asks nothing when that is what it served last.

        Raises:
            Refused: it does not, after a minute.
        """
        if self._version != version:
            super().wait_for_model(version)
            self._version = version


def events_of(step: Step, place: int) -> list[ShopperEvent]:
    """What a step puts into the log; a list and its click are two records.

    Args:
        step: of the data set.
        place: among all steps; it names the events, so that a second replay of the same step names them alike.
    """
    match step:
        case Searched():
            return [Query(f"{place}-q", step.shopper, step.query_id, step.at_ms, step.text)]
        case Viewed():
            return [View(f"{place}-v", step.shopper, step.query_id, step.at_ms, step.item, None)]
        case ClickedOut():
            positions = tuple(range(1, len(step.items) + 1))
            position = step.items.index(step.item) + 1 if step.item in step.items else None
            return [
                Impression(f"{place}-i", step.shopper, step.query_id, step.at_ms, step.items, positions),
                Click(f"{place}-c", step.shopper, step.query_id, step.at_ms, step.item, position),
            ]


def replay(
    steps: Iterable[Step],
    log: EventLog,
    door: Door,
    pause: Callable[[Step, float], None],
    progress: Callable[[int], None],
) -> Iterator[ServedList]:
    """Every list as it was served, in order; its impression and click go out after it was scored.

    Args:
        steps: of the data set, in order.
        log: where events go.
        door: who scores.
        pause: called before a step with the seconds since the start; waits until the step may happen.
        progress: told how many steps are done.
    """
    started_s = time.monotonic()
    lists = 0
    for place, step in enumerate(steps):
        pause(step, time.monotonic() - started_s)
        if isinstance(step, ClickedOut):
            yield door.rank(step, lists, started_s)
            lists += 1
        log.send(events_of(step, place))
        if place % 8 == 0:  # enough to see each event within its own neighbourhood of time, cheap enough not to matter
            log.collect()
        progress(place + 1)

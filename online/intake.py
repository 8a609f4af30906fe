"""Events that come in over HTTP: read, checked one by one, put into Kafka, answered for once they are there."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from headrace import BadEvent
from headrace.online.messages import EventsAnswer, Refused, event_bodies
from headrace.online.outbox import Record
from headrace.streams.events import EventLimits, admit, decode, encode


class Sink(Protocol):
    """Where events go; called from a thread, returns when they are durable."""

    def send(self, records: list[Record]) -> None:
        """All records are there when this returns.

        Raises:
            StoreUnavailable: not all of them are.
        """


@dataclass(frozen=True, slots=True)
class Intake:
    """The events door behind its HTTP.

    Attributes:
        sink: takes records.
        limits: of the topic; ``future`` and ``late`` are judged against the clock, which stamps the record.
    """

    sink: Sink
    limits: EventLimits = field(default_factory=EventLimits)
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000

    async def accept(self, body: bytes, most: int) -> EventsAnswer:
        """How many events are in Kafka, and which were refused; all good ones go in whatever the others are.

        Raises:
            BadRequest: the body is no event and no array of at most ``most``.
            StoreUnavailable: Kafka did not take them all; sending all again is safe, since events have ids.
        """
        records, refused = self._records(event_bodies(body, most))
        if records:
            await asyncio.to_thread(self.sink.send, records)
        return EventsAnswer(accepted=len(records), refused=refused)

    def _records(self, bodies: list[bytes]) -> tuple[list[Record], list[Refused]]:
        now_ms = self.now_ms()
        records: list[Record] = []
        refused: list[Refused] = []
        for index, body in enumerate(bodies):
            try:
                event = decode(body, self.limits)
                admit(event, now_ms, self.limits)
            except BadEvent as error:
                refused.append(Refused(index, error.field, error.reason, error.detail))
                continue
            # Written anew, so that the id that names the event is in the record: a repeat then is a repeat.
            records.append(Record(event.client_id.encode(), encode(event), now_ms))
        return records, refused

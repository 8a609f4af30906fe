"""Events that come in over HTTP: checked one by one, put into Kafka, answered for once they are there."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from headrace.online.messages import EventsAnswer, RefusedEvent
from headrace.online.outbox import Record
from headrace.streams.events import EventLimits
from headrace.streams.intake import accept


class Sink(Protocol):
    """Where events go; called from a thread, returns when they are durable."""

    def send(self, records: Sequence[Record]) -> None:
        """All records are there when this returns.

        Raises:
            StoreUnavailable: not all of them are.
        """


@dataclass(frozen=True, slots=True)
class Intake:
    """The events door behind its HTTP.

    Attributes:
        sink: takes records.
        limits: of the topic.
        now_ms: stamps the records; whoever reads them judges late and future by it.
    """

    sink: Sink
    limits: EventLimits = field(default_factory=EventLimits)
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000

    async def accept(self, body: bytes) -> EventsAnswer:
        """How many events are in Kafka, and which were refused; all good ones go in whatever the others are.

        Raises:
            BadRequest: the body is no event and no array of them, or has too many.
            StoreUnavailable: Kafka did not take them all; sending all again is safe, since events have ids.
        """
        accepted, refused = accept(body, self.limits)
        if accepted:
            now_ms = self.now_ms()
            await asyncio.to_thread(self.sink.send, [Record(key, value, now_ms) for key, value in accepted])
        said = [RefusedEvent(index, error.field, error.reason, error.detail) for index, error in refused]
        return EventsAnswer(accepted=len(accepted), refused=said)

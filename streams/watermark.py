"""How far event time has come, as a function of the log alone.

Every source (topic, partition) has a clock: the largest ``min(event time, Kafka timestamp)`` of its records so far, so
an event from the future moves nothing. A reader that stops at stated offsets says of each source whether it stood at
the end of the log there. Then

    watermark = min(furthest clock of each topic, clocks of the sources that were not read to their end) - hold

A partition that was read to its end holds nobody back, however quiet it is: what it will bring later is covered by the
hold or comes late. One that still has records to read does, or a catch-up would call its records late. A whole topic
that is quiet does too: what waits for a join with it cannot be joined, and producers of two topics are never in step.
"At the end" is a fact of the moment when the offsets were chosen: whoever replays must be told the same offsets and the
same answers.
"""

from collections.abc import Collection, Mapping

Source = tuple[str, int]
"""A topic and a partition."""

BEGINNING_MS = -(1 << 62)
"""Before every event."""


class Clocks:
    """The clock of every source, and the watermark, which never goes back.

    Args:
        topics: those that must have come so far.
        hold_ms: how far events may come out of order, within a source and between sources, before they are late.
        clocks_ms: the clocks as they were when this went on from an earlier run.
        watermark_ms: the watermark then.
    """

    def __init__(
        self,
        topics: Collection[str],
        hold_ms: int,
        clocks_ms: Mapping[Source, int] | None = None,
        watermark_ms: int = BEGINNING_MS,
    ) -> None:
        self.topics = tuple(topics)
        self.hold_ms = hold_ms
        self.clocks_ms: dict[Source, int] = dict(clocks_ms or {})
        self.watermark_ms = watermark_ms

    def see(self, source: Source, at_ms: int, timestamp_ms: int) -> None:
        """A record of this source with this event time and this Kafka timestamp was read."""
        held_ms = min(at_ms, timestamp_ms)
        if held_ms > self.clocks_ms.get(source, BEGINNING_MS):
            self.clocks_ms[source] = held_ms

    def advance(self, unfinished: Collection[Source]) -> int:
        """The watermark after a read that left records in these sources, milliseconds."""
        furthest_ms = dict.fromkeys(self.topics, BEGINNING_MS)
        for (topic, _), clock_ms in self.clocks_ms.items():
            furthest_ms[topic] = max(furthest_ms[topic], clock_ms)
        slowest_ms = [self.clocks_ms.get(source, BEGINNING_MS) for source in unfinished]
        reached_ms = min((*furthest_ms.values(), *slowest_ms))
        if reached_ms != BEGINNING_MS:
            self.watermark_ms = max(self.watermark_ms, reached_ms - self.hold_ms)
        return self.watermark_ms

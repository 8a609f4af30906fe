"""Topics of other people, read side by side, and the account of an import that copies them into one of ours.

The account is kept by a consumer group on each side, without members, so that ordinary tools show it: in the sources,
how far they were taken; in the target, its ends at that moment. It is written once everything that was taken is safe,
the sources first: so whatever was sent since lies behind the target's account, and an import that goes on finds it
there by its headers (``streams.origins``). An account that is lost, or that the brokers forgot, makes that search
longer, never wrong. Nothing here needs transactions.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaTimeoutError
from kafka.structs import OffsetAndMetadata

from headrace.streams.kafka_access import clients
from headrace.streams.keys import source_token
from headrace.streams.log_extent import committed_offsets
from headrace.streams.merging import Place
from headrace.streams.origins import Landed, read_origin
from headrace.streams.topics import BOOTSTRAP_MS, Source

HOLD_BYTES: Final = 1024 * 1024
"""Of one log, this much may wait for the others; then it is not read on."""

_POLL_RECORDS: Final = 1_000_000
"""All that was fetched, a megabyte a log: kafka-python 3.0 never hands out the rest of what is paused half-way."""

_STALLED_S: Final = 30.0
_ENDED: Final = "ended"


def account_of(target: Source, sources: Sequence[Source]) -> str:
    """The group that keeps the account of an import; a topic that was made again has an account of its own."""
    named = "/".join([target.topic_id, *sorted(source.topic_id for source in sources)])
    return f"headrace.import.{target.topic}.{blake2b(named.encode(), digest_size=6).hexdigest()}"


class OtherTopics:
    """The logs that are imported, from where the account says. To be closed.

    Args:
        bootstrap: their brokers.
        sources: the topics.
        account: the group that keeps it.
        follow: read on behind the ends of the start.

    Attributes:
        places: all partitions, in the order of the topics as they were given.
        begins: where each log was begun this time.
        ends: of each log, as it was at the start.
        lost: (place, first, behind the last) of what the brokers deleted before it was taken.
        is_new: there is no account yet.
        at_end: the logs that were read up to their ends of the start.

    Raises:
        kafka.errors.KafkaError: from every method, when brokers do not answer or refuse.
    """

    def __init__(self, bootstrap: str, sources: Sequence[Source], account: str, follow: bool) -> None:
        self._follow = follow
        self._tokens = {
            (source.topic, part): source_token(source.cluster_id, source.topic_id, part)
            for source in sources
            for part in range(source.partitions)
        }
        self.places = tuple(self._tokens)
        self._at = {place: TopicPartition(*place) for place in self.places}
        self._consumer = _consumer(bootstrap, account, isolation_level="read_committed")
        self._consumer.assign(list(self._at.values()))
        firsts = self._consumer.beginning_offsets(list(self._at.values()))
        ends = self._consumer.end_offsets(list(self._at.values()))
        taken: dict[Place, int] = {}
        for source in sources:
            found = committed_offsets(bootstrap, account, source.topic, source.partitions)
            taken |= {(source.topic, part): offset for part, offset in found.items()}
        self.is_new = not taken
        self.ends: dict[Place, int] = {place: ends[at] for place, at in self._at.items()}
        self.begins: dict[Place, int] = {}
        self.lost: list[tuple[Place, int, int]] = []
        for place, at in self._at.items():
            first = firsts[at]
            self.begins[place] = max(first, taken.get(place, first))
            if taken.get(place, first) < first:
                self.lost.append((place, taken[place], first))
            self._consumer.seek(at, self.begins[place])
        self._held: set[Place] = set()
        self.at_end: set[Place] = set()
        self.at_end |= self._at_end()
        self._moved_s = time.monotonic()

    def token(self, place: Place) -> bytes:
        """The 8 bytes that name a log."""
        return self._tokens[place]

    def landed(self) -> Landed:
        """Room for what of these logs lies in the target already."""
        return Landed(
            {self._tokens[place]: begin for place, begin in self.begins.items()},
            {self._tokens[place]: end for place, end in self.ends.items()},
        )

    def poll(self, waiting: Callable[[Place], int]) -> dict[Place, list[Any]]:
        """The next records of some logs.

        Args:
            waiting: how many bytes of a log wait already.

        Raises:
            KafkaTimeoutError: nothing came for 30 s although there should be something.
        """
        full = {place for place in self.places if waiting(place) >= HOLD_BYTES}
        self._hold(full if self._follow else full | self.at_end)
        found = {
            (at.topic, at.partition): records
            if self._follow
            else [one for one in records if one.offset < self._end(at)]
            for at, records in self._consumer.poll(timeout_ms=200, max_records=_POLL_RECORDS).items()
        }
        self.at_end |= self._at_end()
        now_s = time.monotonic()
        if found or full or len(self.at_end) == len(self.places):
            self._moved_s = now_s
        elif now_s - self._moved_s > _STALLED_S:
            unread = sorted(set(self.places) - self.at_end)[0]
            raise KafkaTimeoutError(f"no record of {unread[0]}, partition {unread[1]}, within {_STALLED_S:.0f} s")
        return found

    def position(self, place: Place) -> int:
        """The offset behind the last record that was read."""
        position = int(self._consumer.position(self._at[place]))
        return position if self._follow else min(position, max(self.ends[place], self.begins[place]))

    def note(self) -> str:
        """What the account says of who wrote it last; "" when nobody did."""
        found = self._consumer.committed(self._at[self.places[0]], metadata=True)
        return "" if found is None else str(found.metadata or "")

    def commit(self, positions: Mapping[Place, int], note: str) -> None:
        """Writes the account: how far these logs were taken, and by whom."""
        self._consumer.commit(
            {self._at[place]: OffsetAndMetadata(offset, note, -1) for place, offset in positions.items()}
        )

    def close(self) -> None:
        """Ends the connection."""
        self._consumer.close()

    def _at_end(self) -> set[Place]:
        left = [(place, at) for place, at in self._at.items() if place not in self.at_end]
        return {place for place, at in left if self._consumer.position(at) >= self.ends[place]}

    def _end(self, at: TopicPartition) -> int:
        return self.ends[at.topic, at.partition]

    def _hold(self, held: set[Place]) -> None:
        if fresh := held - self._held:
            self._consumer.pause(*(self._at[place] for place in fresh))
        if free := self._held - held:
            self._consumer.resume(*(self._at[place] for place in free))
        self._held = set(held)


class Target:
    """The topic that an import fills: its ends, its account, and what was sent there. To be closed.

    Raises:
        kafka.errors.KafkaError: from every method, when brokers do not answer or refuse.
    """

    def __init__(self, bootstrap: str, target: Source, account: str) -> None:
        self._bootstrap, self._topic, self._account = bootstrap, target.topic, account
        self._places = [TopicPartition(target.topic, part) for part in range(target.partitions)]
        self._consumer = _consumer(bootstrap, account)
        self._consumer.assign(self._places)

    def ends(self) -> dict[int, int]:
        """The end of each partition now."""
        return {place.partition: end for place, end in self._consumer.end_offsets(self._places).items()}

    def commit(self, ends: Mapping[int, int]) -> None:
        """Writes the account: everything of this import that was sent since lies behind these ends."""
        self._consumer.commit({place: OffsetAndMetadata(ends[place.partition], "", -1) for place in self._places})

    def begin(self) -> None:
        """Writes an account that promises nothing: all that lies here has to be looked through."""
        self.commit(dict.fromkeys(range(len(self._places)), 0))

    def search(self, landed: Landed, progress: Callable[[int, int], None]) -> None:
        """Reads what lies behind the account, and says what of it was imported from where.

        Args:
            landed: is told.
            progress: is told how many records of how many were read.
        """
        ends, firsts = self.ends(), self._consumer.beginning_offsets(self._places)
        there = committed_offsets(self._bootstrap, self._account, self._topic, len(self._places))
        begins = {place: max(firsts[place], there.get(place.partition, 0)) for place in self._places}
        for place, begin in begins.items():
            self._consumer.seek(place, begin)
        total, moved_s = sum(ends.values()) - sum(begins.values()), time.monotonic()
        while True:
            left = [place for place in self._places if self._consumer.position(place) < ends[place.partition]]
            progress(total - sum(ends[one.partition] - self._consumer.position(one) for one in left), total)
            if not left:
                return
            polled = self._consumer.poll(timeout_ms=500, max_records=4_000)
            if polled:
                moved_s = time.monotonic()
            elif time.monotonic() - moved_s > _STALLED_S:
                raise KafkaTimeoutError(f"no record of {left[0]} within {_STALLED_S:.0f} s")
            for records in polled.values():
                for record in records:
                    if (named := read_origin(record.headers)) is not None:
                        landed.add(*named)

    def close(self) -> None:
        """Ends the connection."""
        self._consumer.close()


def running(run: str) -> str:
    """The note of an import that goes on."""
    return f"{run} {time.time_ns()}"


def ended(run: str) -> str:
    """The note of an import that ended in order."""
    return f"{run} {_ENDED}"


def is_ended(note: str) -> bool:
    """Whether nobody can be at work behind this note."""
    return not note or note.endswith(_ENDED)


def _consumer(bootstrap: str, account: str, **more: Any) -> KafkaConsumer:
    return KafkaConsumer(
        **clients(bootstrap),
        bootstrap_timeout_ms=BOOTSTRAP_MS,
        client_id="headrace-import",
        group_id=account,
        enable_auto_commit=False,
        auto_offset_reset="none",
        allow_auto_create_topics=False,
        metrics_enabled=False,
        **more,
    )

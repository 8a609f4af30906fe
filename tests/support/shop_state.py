"""Puts events into the state as a consumer would, and makes the alias name it: what tests of reading begin with."""

from collections.abc import Sequence

from headrace.local.valkey import LocalValkey
from headrace.streams.events import EventLimits, ShopperEvent, encode
from headrace.streams.ingestion import Ingestion, Record, Rejected, Source
from headrace.streams.keys import Keys, source_token
from headrace.streams.redis_store import RedisSettings, RedisStore
from headrace.streams.redis_wire import Wire
from headrace.streams.searches import StateBounds

SOURCE = Source("search.events.v1", (source_token("cluster", "topic", 0),), lambda client_id: 0)


class Shop:
    """A state of one partition in a Valkey."""

    def __init__(self, server: LocalValkey, namespace: str, bounds: StateBounds | None = None) -> None:
        self.keys = Keys(namespace, "g1")
        self.bounds = bounds or StateBounds(floor=1)
        self._url = server.url
        self._store = RedisStore(self.keys, self.bounds, RedisSettings(server.url, durability="memory"))
        self._rejected: list[Rejected] = []
        self._ingestion = Ingestion(self._store, SOURCE, self.bounds, EventLimits(), self._rejected.extend)
        self._next = 0

    def happen(self, events: Sequence[ShopperEvent]) -> int:
        """Events are in the state, and the alias names it; gives the offset of the last one."""
        records = []
        for event in events:
            records.append(Record(0, self._next, event.client_id.encode(), encode(event), event.at_ms))
            self._next += 1
        self._ingestion.take(records)
        assert self._ingestion.advance(), self._ingestion.last_failure
        assert not self._rejected
        self.name("g1")
        return self._next - 1

    def name(self, generation: str) -> None:
        """The alias names a generation."""
        wire = Wire(self._url)
        wire.call([("SET", self.keys.alias, generation)])
        wire.close()

    def close(self) -> None:
        """Ends the connections."""
        self._store.close()

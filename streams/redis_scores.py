"""The score cache in Redis, the side that writes: a worker behind its requests, ``headrace label`` the night before.

A cache with bounds of its own, kept by whoever writes: a query's scores leave a while after the last of them was
written, a query keeps so many items, and nothing is written while Redis is fuller than a share of its memory: state
must never be refused because of a cache.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from headrace import StoreUnavailable
from headrace.streams.identity import query_hash
from headrace.streams.keys import Keys
from headrace.streams.redis_wire import Wire
from headrace.streams.score_cache import ITEMS, MAX_AGE_MS, RECORD_BYTES, SOURCE_AT, Cached, Source, encode

Score = tuple[str, int, float] | tuple[str, int, float, int]
"""(item id, stamp of its text, calibrated probability) and, where neighbours were read, the hash of them."""

_LOOK_S: Final = 2.0
_AT_ONCE: Final = 500
"""Items of one call of the script: some tenths of a millisecond of Redis."""
_MEMORY: Final = re.compile(rb"^(used_memory|maxmemory|total_system_memory):(\d+)", re.MULTILINE)

# A record replaces the one of its source and leaves the other source's. Who comes to a full query pushes one out at
# random: which one matters little, and to know the oldest would cost a sorted set beside every hash.
_PUT: Final = """
local key, ttl_ms, most, size, source_at = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]) + 1
for at = 5, #ARGV, 2 do
  local value = ARGV[at + 1]
  local old = redis.call('HGET', key, ARGV[at])
  if old and #old % size == 0 then
    local source = string.byte(value, source_at)
    for from = 1, #old, size do
      local other = string.sub(old, from, from + size - 1)
      if string.byte(other, 1) == string.byte(value, 1) and string.byte(other, source_at) ~= source then
        value = value .. other
      end
    end
  elseif not old then
    while redis.call('HLEN', key) >= most do
      redis.call('HDEL', key, redis.call('HRANDFIELD', key))
    end
  end
  redis.call('HSET', key, ARGV[at], value)
end
redis.call('PEXPIRE', key, ttl_ms)
return 1
"""


@dataclass(frozen=True, slots=True)
class CacheBounds:
    """What the cache may take.

    Attributes:
        ttl_ms: a query's scores leave so long after the last of them was written.
        items: of one query.
        memory_share: nothing is written while Redis holds more than this share of its ``maxmemory``, or of the
            machine's memory where it has no limit.
    """

    ttl_ms: int = MAX_AGE_MS
    items: int = ITEMS
    memory_share: float = 0.75


class ScoreCache:
    """Writes scores to one Redis; from one thread.

    A connection is opened at the first call and again after one was lost. A repeat of a call does no harm.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        namespace: of the keys.
        bounds: of the cache.
        timeout_s: how long to wait for Redis.
    """

    def __init__(
        self,
        url: str,
        namespace: str,
        bounds: CacheBounds = CacheBounds(),
        timeout_s: float = 5.0,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._url = url
        self._keys = Keys(namespace, "any")
        self._bounds = bounds
        self._timeout_s = timeout_s
        self._now_ms = now_ms
        self._wire: Wire | None = None
        self._looked_s = -_LOOK_S
        self._room = False

    def put(self, query: str | int, scores: Sequence[Score], part: bytes, source: Source) -> int:
        """Keeps the scores of some items for a query; how many were written, 0 while Redis has no room for them.

        Args:
            query: the query's text as a shopper typed it, or the hash of the normalised one.
            scores: of its items; of more than a query may keep, the last ones stay.
            part: who computed them: ``score_cache.part_name`` of the student part's digest or of the teacher's name.
            source: teacher or student.

        Raises:
            StoreUnavailable: Redis did not take them; some may be there.
            ValueError: a score is no probability.
        """
        name = query_hash(query) if isinstance(query, str) else query
        now_ms = self._now_ms()
        scores = scores[-self._bounds.items :]
        fields: list[bytes | str | int] = []
        for item_id, content, score, *read in scores:
            neighbours = read[0] if read else 0
            fields += (item_id, encode(Cached(part, content, neighbours, source, score, now_ms)))
        if not fields or not self._has_room():
            return 0
        head = (self._bounds.ttl_ms, self._bounds.items, RECORD_BYTES, SOURCE_AT)
        pieces = [fields[start : start + 2 * _AT_ONCE] for start in range(0, len(fields), 2 * _AT_ONCE)]
        self._call([("EVAL", _PUT, 1, self._keys.scores(name), *head, *piece) for piece in pieces])
        return len(scores)

    def close(self) -> None:
        """Ends the connection."""
        if self._wire is not None:
            self._wire.close()
        self._wire = None

    def _has_room(self) -> bool:
        """Whether Redis has memory to spare, as of a moment ago.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        now_s = time.monotonic()
        if now_s - self._looked_s >= _LOOK_S:
            answer = self._call([("INFO", "memory")])[0]
            said = {name: int(value) for name, value in _MEMORY.findall(answer if isinstance(answer, bytes) else b"")}
            most = said.get(b"maxmemory") or said.get(b"total_system_memory") or 0
            self._room = not most or said.get(b"used_memory", 0) <= self._bounds.memory_share * most
            self._looked_s = now_s
        return self._room

    def _call(self, commands: Sequence[tuple[bytes | str | int, ...]]) -> list[object]:
        if self._wire is None:
            self._wire = Wire(self._url, self._timeout_s)
        try:
            return self._wire.call(commands)
        except StoreUnavailable:
            self.close()
            raise

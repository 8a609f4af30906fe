"""Generations in Redis: made, found, made current, dropped; and a store that notices when its own is gone."""

from collections.abc import Callable
from time import sleep
from typing import Final

import msgspec

from headrace import SourceChanged, StoreUnavailable
from headrace.streams.generations import Generation, decode_generation, encode_generation
from headrace.streams.keys import Keys
from headrace.streams.redis_store import DurabilityWait, RedisSettings, RedisStore, check_settings
from headrace.streams.redis_wire import Wire
from headrace.streams.searches import StateBounds

_CHUNK: Final = 1_000
_LOOK_S: Final = 1.5
"""Longer than a worker goes on with a generation that is gone: it looks every second (``watch``)."""
_SWEEPS: Final = 5
_MOVE: Final = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


class Generations:
    """The generations of one namespace.

    A connection is opened at the first call and again after one was lost; nothing here is counted, so a repeat of a
    call does no harm.
    """

    def __init__(self, settings: RedisSettings, namespace: str) -> None:
        self.namespace = namespace
        self.settings = settings
        self._wire: Wire | None = None

    def __enter__(self) -> "Generations":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        if self._wire is not None:
            self._wire.close()
        self._wire = None

    def keys(self, name: str) -> Keys:
        """The keys of a generation."""
        return Keys(self.namespace, name)

    def current(self) -> str | None:
        """The name of the generation that is read; None when nothing was ever built."""
        answer = self._call("GET", Keys(self.namespace, "any").alias)
        return answer.decode() if isinstance(answer, bytes) and answer else None

    def meta(self, name: str) -> bytes | None:
        """What a generation was built with, as JSON; None when there is no such generation."""
        answer = self._call("GET", self.keys(name).meta)
        return answer if isinstance(answer, bytes) else None

    def find(self, name: str) -> Generation | None:
        """A generation; None when there is none of that name.

        Raises:
            SourceChanged: another version of Headrace built it and this one cannot read its meta.
        """
        value = self.meta(name)
        return None if value is None else decode_generation(value)

    def names(self) -> list[str]:
        """The names of all generations, oldest first."""
        answer = self._call("SMEMBERS", Keys(self.namespace, "any").generations)
        assert isinstance(answer, list)
        return sorted(name.decode() for name in answer)

    def write(self, generation: Generation) -> None:
        """Writes what a generation is, durably: a state without its meta would be orphaned."""
        self._call("SADD", Keys(self.namespace, "any").generations, generation.name)
        self._call("SET", self.keys(generation.name).meta, encode_generation(generation))
        self._durable()

    def ready(self, generation: Generation) -> Generation:
        """Says that a generation holds what it should, and may be read."""
        done = msgspec.structs.replace(generation, build="ready")
        self.write(done)
        return done

    def move(self, name: str, before: str | None) -> bool:
        """Makes a generation the one that is read; False when another one than `before` was read by now.

        Raises:
            SourceChanged: there is no such generation, or it is not ready.
        """
        found = self.find(name)
        if found is None or found.build != "ready":
            raise SourceChanged(
                f"Generation {name} is {'not there' if found is None else 'still being built'}: nobody may read it."
                " `headrace rebuild` makes it ready."
            )
        moved = self._call("EVAL", _MOVE, 1, Keys(self.namespace, "any").alias, before or "", name)
        self._durable()
        return moved == 1

    def drop(self, name: str, told: Callable[[int], None] = lambda _: None) -> int:
        """Deletes a generation, a thousand keys at a time; the number of keys that were deleted.

        Its meta goes first: a worker that still fills it notices and ends.

        Args:
            name: of a generation that is not read.
            told: is told how many keys are gone so far.

        Raises:
            ValueError: it is the one that is read.
        """
        if self.current() == name:
            raise ValueError(f"generation {name} is the one that is read")
        keys = self.keys(name)
        self._call("DEL", keys.meta)
        gone = self._sweep(keys, 0, told)
        for _ in range(_SWEEPS):  # a worker that fills it writes on until it looks; what it left would never be found
            sleep(_LOOK_S)
            before, gone = gone, self._sweep(keys, gone, told)
            if gone == before:
                break
        self._call("SREM", keys.generations, name)
        return gone

    def _sweep(self, keys: Keys, gone: int, told: Callable[[int], None]) -> int:
        """Deletes what lies there now; how many keys are gone, with those that were before."""
        cursor = b"0"
        while True:
            answer = self._call("SCAN", cursor, "MATCH", f"{keys.stem}*", "COUNT", _CHUNK)
            assert isinstance(answer, list)
            cursor, found = answer
            if found:
                self._call("UNLINK", *found)
                gone += len(found)
                told(gone)
            if cursor == b"0":
                return gone

    def _call(self, *command: bytes | str | int) -> object:
        if self._wire is None:
            self._wire = Wire(self.settings.url, self.settings.timeout_s)
        try:
            return self._wire.call([command])[0]
        except StoreUnavailable:
            self.close()
            raise

    def _durable(self) -> None:
        """Waits until what was written is durable, as far as was asked for."""
        if self.settings.durability == "memory":
            return
        self._call("PING")
        assert self._wire is not None
        sync_s = check_settings(self._wire, self.settings.durability)
        waiting = DurabilityWait(self._wire, Keys(self.namespace, "any"), self.settings, sync_s)
        mark = waiting.mark()
        if waiting.settled(int(self.settings.timeout_s * 1000)) < mark:
            self.close()
            raise StoreUnavailable("Redis did not make the generation's meta durable in time: is its disk slow?")


class GenerationStore(RedisStore):
    """A store that ends with a clear text when its generation is gone: at every new connection it looks."""

    def __init__(self, keys: Keys, bounds: StateBounds, settings: RedisSettings, meta: bytes) -> None:
        super().__init__(keys, bounds, settings)
        self._recipe = msgspec.json.decode(meta)["recipe"]

    def connect(self) -> None:
        """Opens a new session.

        Raises:
            StoreUnavailable: Redis cannot be reached, or its settings cannot keep the promise asked for.
            SourceChanged: the generation is not in this Redis, or another build took its name.
        """
        super().connect()
        answer = self._open().call([("GET", self.keys.meta)])[0]
        check_there(self.keys.generation, answer, self._recipe)


def check_there(name: str, answer: object, recipe: object) -> None:
    """Whether a generation's meta is still what it was when it was opened.

    Raises:
        SourceChanged: it is gone, or it was built otherwise.
    """
    if not isinstance(answer, bytes):
        raise SourceChanged(
            f"Generation {name} is not in this Redis (any more): it was dropped, or Redis lost or changed its data."
            " Restore Redis, or start again: a new generation is filled from the log."
        )
    if msgspec.json.decode(answer)["recipe"] != recipe:
        raise SourceChanged(f"Generation {name} was built otherwise than when it was opened. Start again.")

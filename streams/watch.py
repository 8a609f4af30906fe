"""Now and then: is this still the generation that is read, is it still there, and is the topic still the same log?"""

import logging
import threading
from typing import Final

import msgspec
from kafka.errors import KafkaError

from headrace import SourceChanged, StoreUnavailable
from headrace.streams.generations import Generation, encode_generation
from headrace.streams.redis_generations import Generations, check_there
from headrace.streams.topics import check_source, source_of

log = logging.getLogger(__name__)

_SOURCE_EVERY: Final = 10
"""Looks at Redis for each look at Kafka's metadata."""


class Watch(threading.Thread):
    """Looks on its own thread and connections; a driver reads the verdict between two batches.

    Attributes:
        moved_to: the generation that is read now, once it is another one.
        changed: why the driver must end, once it must.

    Args:
        generations: where generations lie; this thread's own.
        generation: the one that is filled.
        bootstrap: brokers, HOST:PORT separated by commas.
        follow: whether another generation's becoming current matters.
        period_s: between two looks at Redis.
    """

    def __init__(
        self,
        generations: Generations,
        generation: Generation,
        bootstrap: str,
        follow: bool = True,
        period_s: float = 1.0,
    ) -> None:
        super().__init__(name="headrace-watch", daemon=True)
        self.moved_to: str | None = None
        self.changed: SourceChanged | None = None
        self._generations, self._generation, self._brokers = generations, generation, bootstrap
        self._recipe = msgspec.json.decode(encode_generation(generation))["recipe"]
        self._follow, self._period_s = follow, period_s
        self._ended = threading.Event()

    @property
    def verdict(self) -> bool:
        """Whether the driver must stop, for one reason or the other."""
        return self.changed is not None or self.moved_to is not None

    def end(self) -> None:
        """Stops looking; returns when the thread is gone, or soon after."""
        self._ended.set()
        if self.is_alive():
            self.join(timeout=5.0)

    def run(self) -> None:
        """Looks until something changed or `end` is called."""
        looks = 0
        while not self._ended.wait(self._period_s) and not self.verdict:
            looks += 1
            try:
                self._look_at_redis()
                if looks % _SOURCE_EVERY == 0:
                    check_source(self._generation.source, source_of(self._brokers, self._generation.source.topic))
            except SourceChanged as error:
                self.changed = error
            except (StoreUnavailable, KafkaError) as error:
                log.debug("cannot look now: %s", error)  # the driver meets the same and says so
            except Exception as error:  # whatever it is, a thread that ended would look no more and nobody would know
                log.warning("cannot look whether the generation is still read: %r", error)
        self._generations.close()

    def _look_at_redis(self) -> None:
        name = self._generation.name
        current = self._generations.current()
        if self._follow and current is not None and current != name:
            self.moved_to = current
            return
        check_there(name, self._generations.meta(name), self._recipe)

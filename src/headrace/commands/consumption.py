"""The pieces of a consumer put together: generation, store, ingestion, dead letters."""

import gc
import logging
import os
import secrets
import signal
import socket
import time
from dataclasses import dataclass
from functools import lru_cache
from types import FrameType

from headrace.streams.generations import Generation, encode_generation
from headrace.streams.ingestion import Ingestion, Source
from headrace.streams.keys import Keys, source_token
from headrace.streams.partitioners import partition_of
from headrace.streams.redis_generations import GenerationStore
from headrace.streams.redis_store import RedisSettings
from headrace.streams.rejections import Rejections


@dataclass(frozen=True, slots=True)
class Consumption:
    """What a driver needs to fill a generation."""

    generation: Generation
    store: GenerationStore
    ingestion: Ingestion
    rejections: Rejections

    def close(self) -> None:
        """Ends the connections."""
        self.store.close()
        self.rejections.close()


def consumption(generation: Generation, namespace: str, bootstrap: str, settings: RedisSettings) -> Consumption:
    """The pieces for a generation; nothing is connected yet."""
    recipe, keys = generation.recipe, Keys(namespace, generation.name)
    store = GenerationStore(keys, recipe.bounds, settings, encode_generation(generation))
    rejections = Rejections(bootstrap, generation.source.topic)
    ingestion = Ingestion(store, source_for(generation), recipe.bounds, recipe.limits, rejections)
    return Consumption(generation, store, ingestion, rejections)


def source_for(generation: Generation) -> Source:
    """The topic of a generation as an ingestion sees it."""
    log, partitioner = generation.source, generation.recipe.partitioner

    @lru_cache(maxsize=1 << 17)
    def belongs(client_id: str) -> int:
        return partition_of(client_id.encode(), log.partitions, partitioner)

    tokens = tuple(source_token(log.cluster_id, log.topic_id, partition) for partition in range(log.partitions))
    return Source(log.topic, tokens, belongs)


def worker_name() -> str:
    """A name for this process's mark that no other process uses."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


def quieten_kafka() -> None:
    """Leaves Kafka's clients' warnings in the log, and their account of every connection out of it."""
    for name in ("kafka", "aiokafka", "faust", "mode"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("kafka.net.selector", "faust.app.base"):  # they warn of their own slow tasks and missing sensors
        logging.getLogger(name).setLevel(logging.ERROR)


def tune_runtime() -> None:
    """Sets the interpreter for millions of small values without cycles: collecting them cost a sixth of a bulk run."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


class Stopped:
    """Turns true at the first SIGTERM or SIGINT; one that comes a second later or more ends the process at once."""

    def __init__(self) -> None:
        self.asked = False
        self._asked_s = 0.0
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._ask)

    def __call__(self) -> bool:
        """Whether an end was asked for."""
        return self.asked

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if not self.asked:
            self.asked, self._asked_s = True, time.monotonic()
        elif time.monotonic() - self._asked_s > 1.0:  # `timeout` and some supervisors send the first one twice
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

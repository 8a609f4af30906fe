"""A consumer as its own process, for tests: fills a generation that is there, and can be told where to die.

Runs as a script. It kills itself with SIGKILL at the n-th call of a stage (`read`, `query`, `item`, `shopper`,
`acknowledge`), half of that call's writes done; and it can write down which mark of its was durable last, so that a
test knows what a power cut must leave.
"""

import argparse
import logging
import os
import signal
from collections.abc import Sequence
from typing import Any

from headrace.commands.consumption import Stopped, consumption, quieten_kafka, tune_runtime, worker_name
from headrace.commands.recipes import redis_settings
from headrace.streams import redis_store
from headrace.streams.bulk import BulkDriver, BulkSettings
from headrace.streams.log_extent import log_extent
from headrace.streams.redis_generations import Generations
from headrace.streams.redis_store import RedisStore
from headrace.streams.store import Stored
from headrace.streams.writes import CountWrite, EdgeWrite, Reply, ShopperWrite, Write

STAGES = ("read", "query", "item", "shopper", "acknowledge")


class Dying:
    """Counts the calls of one stage and ends the process, as a kill -9 does, at the n-th."""

    def __init__(self, stage: str, at: int) -> None:
        self.stage, self.left = stage, at

    def due(self, stage: str) -> bool:
        if stage == self.stage:
            self.left -= 1
        return stage == self.stage and self.left == 0


def stage_of(writes: Sequence[Write]) -> str:
    kinds = {type(write) for write in writes}
    if CountWrite in kinds:
        return "query"
    if EdgeWrite in kinds:
        return "item"
    return "shopper" if ShopperWrite in kinds else "text"


def die_at(dying: Dying) -> None:
    """Patches the store and the drivers so that the process dies where it was told to."""
    apply, read = RedisStore.apply, RedisStore.read

    def dying_apply(self: RedisStore, writes: Sequence[Write]) -> list[Reply]:
        if dying.due(stage_of(writes)):
            apply(self, writes[: len(writes) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return apply(self, writes)

    def dying_read(self: RedisStore, shoppers: Sequence[bytes], logs: bool = False) -> list[Stored]:
        found = read(self, shoppers, logs)
        if dying.due("read"):
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    RedisStore.apply, RedisStore.read = dying_apply, dying_read  # type: ignore[method-assign]


def die_acknowledging(driver: Any, dying: Dying) -> None:
    """Dies after the state is durable and before Kafka knows of it."""
    ingestion = driver._ingestion
    acknowledged = ingestion.acknowledged

    def dying_acknowledged() -> dict[int, int]:
        found: dict[int, int] = acknowledged()
        if any(offset > driver.committed.get(partition, offset) for partition, offset in found.items()) and dying.due(
            "acknowledge"
        ):
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    ingestion.acknowledged = dying_acknowledged


def write_down_marks(file: str, worker: str) -> None:
    """Marks get numbers that never come twice, and the last durable one is written to a file before it counts."""
    start, settled = redis_store.DurabilityWait.__init__, redis_store.DurabilityWait.settled
    sessions = 0
    written = -1

    def numbered(self: Any, *arguments: Any) -> None:
        nonlocal sessions
        start(self, *arguments)
        sessions += 1
        self._asked = self._answered = self._durable = sessions * 1_000_000

    def noted(self: Any, wait_ms: int) -> int:
        nonlocal written
        durable = settled(self, wait_ms)
        if durable > written and durable % 1_000_000:
            with open(f"{file}.new", "w", encoding="utf-8") as out:
                out.write(f"{worker} {durable}")
            os.replace(f"{file}.new", file)
            written = durable
        return durable

    redis_store.DurabilityWait.__init__ = numbered  # type: ignore[assignment,method-assign]
    redis_store.DurabilityWait.settled = noted  # type: ignore[method-assign]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--driver", choices=["bulk", "live"], default="bulk")
    for name in ("bootstrap", "redis", "namespace", "generation"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--until-end", action="store_true", help="stop once all the log now holds is committed")
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--idle", type=int, default=100, help="how long the bulk driver waits for records, ms")
    parser.add_argument("--die", default="", help="STAGE:N")
    parser.add_argument("--marks", default="", help="file to write the last durable mark to")
    return parser.parse_args()


def main() -> None:
    logging.basicConfig(level="INFO")
    quieten_kafka()
    tune_runtime()
    told, stopped, worker = parsed(), Stopped(), worker_name()
    stage, _, at = told.die.partition(":")
    dying = Dying(stage, int(at or 0))
    die_at(dying)
    if told.marks:
        write_down_marks(told.marks, worker)
    settings = redis_settings(told.redis, "disk", 1, worker)
    with Generations(settings, told.namespace) as generations:
        generation = generations.find(told.generation)
    assert generation is not None
    pieces = consumption(generation, told.namespace, told.bootstrap, settings)
    source = generation.source
    ends = {part: end for part, (_, end) in log_extent(told.bootstrap, source.topic, source.partitions).items()}

    def stop() -> bool:
        return stopped() or (
            told.until_end and all(driver.committed.get(part, 0) >= end for part, end in ends.items() if end)
        )

    driver: Any
    batch = {"batch": told.batch} if told.batch else {}
    if told.driver == "bulk":
        reading = BulkSettings(told.bootstrap, told.namespace, idle_ms=told.idle, **batch)
        driver = BulkDriver(reading, generation, pieces.ingestion, stop)
    else:
        from headrace.streams.live import LiveDriver, LiveSettings

        driver = LiveDriver(LiveSettings(told.bootstrap, told.namespace, **batch), generation, pieces.ingestion, stop)
    die_acknowledging(driver, dying)
    driver.run()
    pieces.close()
    logging.info("ended in order: %s", dict(pieces.ingestion.outcomes))


if __name__ == "__main__":
    main()

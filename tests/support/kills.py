"""kill -9 of consumers at a stage, and of Redis with its file cut back to what was synced.

After the kills a worker reads to the end; then three things must hold: the dump in Redis equals that of the fold in
memory, every record that was refused lies in a topic of letters, and every record has an outcome.
"""

import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from broker_clients import Broker
from consumed_topics import Stage, Worker, make_topics, publish, running, shopping, wait_for, worker_command
from headrace.local.valkey import LocalValkey
from headrace.streams.generations import Generation
from headrace.streams.keys import Keys

PARTITIONS = 3
BATCH = 25


@dataclass
class Report:
    """What was done and what came out."""

    driver: str
    records: int = 0
    kills: dict[str, int] = field(default_factory=dict)
    valkey_kills: int = 0
    bytes_cut: list[int] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    letters: dict[str, int] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def exact(self) -> bool:
        """Nothing differs, nothing is missing, and something happened."""
        refused = {name: count for name, count in self.outcomes.items() if name == "late" or name.startswith("bad.")}
        return not self.differences and refused == self.letters and sum(self.outcomes.values()) == self.records > 0


def kill_consumers(stage: Stage, driver: str, plan: list[tuple[str, int]], events: int, folder: Path) -> Report:
    """Publishes a log, lets a worker die at each (stage, n-th call), and lets the last one finish."""
    report, began = Report(driver), time.monotonic()
    records = shopping(seed=len(plan) * 1_000 + events, events=events)
    generation = stage.generation()
    share = len(records) // (len(plan) + 1) + 1
    for turn, (at, call) in enumerate(plan):
        publish(stage.kafka, stage.topic, stage.partitions, records[turn * share : (turn + 1) * share])
        command = worker_command(stage, generation, driver, "--batch", str(BATCH), "--die", f"{at}:{call}")
        with running(command, folder / f"{turn}-{at}") as worker:
            wait_to_end(worker, f"death at {at}:{call}")
            assert worker.process.returncode == -9, f"it should have died at {at}:{call}:\n{worker.said()[-2000:]}"
        report.kills[at] = report.kills.get(at, 0) + 1
    publish(stage.kafka, stage.topic, stage.partitions, records[len(plan) * share :])
    finish(stage, generation, driver, folder, report)
    report.seconds = round(time.monotonic() - began, 1)
    return report


def kill_valkey(stage: Stage, driver: str, turns: int, events: int, folder: Path) -> Report:
    """Publishes a log while Valkey dies again and again, each time losing what it had not synced.

    Every second time the consumer dies with it.
    """
    report, began = Report(driver), time.monotonic()
    records = shopping(seed=turns * 1_000 + events, events=events)
    generation = stage.generation()
    chance = random.Random(turns)
    share = len(records) // (turns + 1) + 1
    for turn in range(turns):
        publish(stage.kafka, stage.topic, stage.partitions, records[turn * share : (turn + 1) * share])
        marks = folder / f"marks-{turn}"
        command = worker_command(stage, generation, driver, "--batch", str(BATCH), "--marks", str(marks))
        with running(command, folder / f"valkey-{turn}") as worker:
            wait_for(marks.exists, f"a durable mark:\n{worker.said()[-2000:]}", 90)
            more = records[
                turn * share : turn * share + share // 4
            ]  # sent again, while it works: there is a tail to lose
            publish(stage.kafka, stage.topic, stage.partitions, more)
            time.sleep(chance.random() * 1.5)
            if turn % 2:
                worker.kill()
                report.kills["with Valkey"] = report.kills.get("with Valkey", 0) + 1
            stage.valkey.kill()
            if not turn % 2:
                wait_to_say(worker, "nothing is acknowledged")
            report.bytes_cut.append(cut_to(stage, *marks.read_text().split()))
            report.valkey_kills += 1
            stage.valkey.start()
            if not turn % 2:
                wait_to_say(worker, "the store is back")
    publish(stage.kafka, stage.topic, stage.partitions, records[turns * share :])
    finish(stage, generation, driver, folder, report)
    report.seconds = round(time.monotonic() - began, 1)
    return report


def wait_to_end(worker: Worker, why: str) -> None:
    """Returns once a worker has ended by itself."""
    wait_for(lambda: worker.process.poll() is not None, f"{why}; it said:\n{worker.said()[-2000:]}", 90)


def wait_to_say(worker: Worker, words: str) -> None:
    """Returns once a worker has said some words."""
    wait_for(lambda: words in worker.said(), words)


def cut_to(stage: Stage, worker: str, mark: str) -> int:
    """Cuts the append-only file behind a mark, as if nothing after it had reached the disk; how many bytes went."""
    files = sorted(stage.valkey.data.glob("appendonlydir/*.incr.aof"), key=lambda file: int(file.name.split(".")[2]))
    data, key = files[-1].read_bytes(), Keys(stage.namespace, "any").mark(worker).encode()
    written = data.index(b"%s\r\n$%d\r\n%s\r\n" % (key, len(mark), mark.encode()))
    end = data.find(b"\r\n*", written)
    end = len(data) if end < 0 else end + 2
    with files[-1].open("r+b") as file:
        file.truncate(end)
    return len(data) - end


def finish(stage: Stage, generation: Generation, driver: str, folder: Path, report: Report) -> None:
    """Reads to the end and compares."""
    with running(worker_command(stage, generation, driver, "--until-end"), folder / "last") as worker:
        assert worker.ends(120) == 0, worker.said()[-3000:]
    report.differences = stage.differences(generation)
    report.outcomes = dict(stage.memory(generation)[1])
    report.letters = dict(stage.letters())
    report.records = sum(stage.ends().values())


def new_stage(kafka: Broker, valkey: LocalValkey) -> Stage:
    """A topic and a namespace of their own."""
    name = uuid4().hex[:12]
    make_topics(kafka, f"events.{name}", PARTITIONS)
    return Stage(kafka, valkey, f"events.{name}", PARTITIONS, f"chaos-{name}")

"""Seeded schedules: workers, zombies, crashes and lost tails around the real ``Ingestion``, judged by one clean pass.

A schedule draws everything from its seed: logs, nodes, workers, where each batch is cut, where each call fails, who
runs next. It drains what is left without faults, and then even the unsynced tail of every node is lost: what was
acknowledged must be there. It is right when

- the dump of the nodes is the dump of the in-memory fold of the same records,
- every record that was folded had the outcome of the clean pass, or was a repeat of it,
- every record is accounted for: in a shopper whose fence has passed it, or rejected; and nothing else was rejected,
- everything gets acknowledged in a bounded number of steps.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from random import Random

from accounts import Account, accounted, clean_pass, differences
from faulty_cluster import Cluster, Connection, Faults, Node
from fibers import Fiber
from headrace.streams.ingestion import Ingestion, Rejected
from headrace.streams.searches import StateBounds
from headrace.streams.store import MemoryStore
from shopping_logs import LIMITS, SMALL, LogShape, make_log, source

DRAIN_ROUNDS = 2_000


@dataclass(frozen=True)
class System:
    """What a schedule drives: the real thing, or a mutation of it.

    Attributes:
        ingestion: what each worker runs.
        store: what each node runs.
        connection: what is between them.
        node: what executes, and crashes.
        patch: functions exchanged while the schedule runs (not while the clean pass does).
        bounds_of: the bounds of a worker, by its number.
        dumped_before_newest: how many days before the newest one the dumps are taken.
    """

    ingestion: type[Ingestion] = Ingestion
    store: type[MemoryStore] = MemoryStore
    connection: type[Connection] = Connection
    node: type[Node] = Node
    patch: Callable[[], AbstractContextManager[object]] = nullcontext
    bounds_of: Callable[[int], StateBounds] = lambda number: SMALL
    dumped_before_newest: int = 0


@dataclass(frozen=True)
class Pressure:
    """How hard a schedule presses; a seed draws the rest.

    Attributes:
        name: what it is about.
        shape: of the logs.
        faults: of the calls.
        nodes: how many nodes there may be.
        steps: how many steps with faults there are.
        weights: how often each kind of step is taken.
        largest_batch: records that a worker takes at once.
    """

    name: str = "everything"
    shape: LogShape = field(default_factory=lambda: LogShape(events=36))
    faults: Faults = field(default_factory=Faults)
    nodes: tuple[int, ...] = (1, 2, 3)
    steps: int = 160
    weights: Mapping[str, float] = field(
        default_factory=lambda: {
            "run": 80.0,
            "sync": 10.0,
            "crash": 2.0,
            "rebalance": 3.0,
            "kill": 2.0,
            "arrive": 4.0,
            "deafen": 2.0,
            "stall": 8.0,
        }
    )
    largest_batch: int = 8


class Worker:
    """One process with its ``Ingestion``: takes, advances, commits, and may not have heard what it lost."""

    def __init__(self, number: int, schedule: "Schedule") -> None:
        self.number, self.schedule = number, schedule
        system = schedule.system
        self.ingestion = accounted(system.ingestion, schedule.account)(
            system.connection(schedule.cluster, schedule),
            source(len(schedule.logs)),
            system.bounds_of(number),
            LIMITS,
            self._reject,
        )
        self.heard = -1
        self.deaf = False
        self.asleep_until = 0
        self.positions: dict[int, int] = {}
        self.sent: dict[int, int] = {}
        self.fiber = Fiber(self._live)

    def _live(self, fiber: Fiber) -> None:
        while True:
            if self.heard != self.schedule.generation and not self.deaf:
                self._hear()
            if self.ingestion.pending < 3 * self.schedule.pressure.largest_batch:
                self._take()
            if self.ingestion.advance():
                self._commit()
            fiber.pause()

    def _hear(self) -> None:
        """A new assignment: positions of what stays may go on or back to what is committed."""
        schedule = self.schedule
        self.heard = schedule.generation
        mine = {part: at for part, at in enumerate(schedule.committed) if schedule.owners[part] == self.number}
        back = schedule.random.random() < 0.5
        self.positions = {part: at if back else self.positions.get(part, at) for part, at in mine.items()}
        self.sent = {part: at for part, at in self.sent.items() if part in mine}
        self.ingestion.assigned(mine)

    def _take(self) -> None:
        random, records = self.schedule.random, []
        for part, at in self.positions.items():
            count = random.randrange(0, self.schedule.pressure.largest_batch + 1)
            records += self.schedule.logs[part][at : at + count]
            self.positions[part] = min(at + count, len(self.schedule.logs[part]))
        if records:
            self.ingestion.take(records)

    def _commit(self) -> None:
        schedule = self.schedule
        for part, offset in self.ingestion.acknowledged().items():
            if offset == self.sent.get(part):
                continue
            if not schedule.calm and schedule.random.random() < 0.3:
                schedule.pause()
            if schedule.owners[part] == self.number and self.heard == schedule.generation:
                schedule.committed[part] = offset
                if schedule.calm or schedule.random.random() < 0.9:  # else the answer is lost
                    self.ingestion.committed({part: offset})
                    self.sent[part] = offset

    def _reject(self, rejected: Sequence[Rejected]) -> None:
        self.schedule.pause()
        self.schedule.account.reject(rejected)


class Schedule:
    """One run; ``differences`` says what is wrong with it."""

    def __init__(self, seed: int, system: System | None = None, pressure: Pressure | None = None) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.system, self.pressure = system or System(), pressure or Pressure()
        self.faults, self.calm = self._some_faults(), False
        shape = replace(self.pressure.shape, partitions=self.random.choice((1, 2, 2)))
        self.logs = make_log(self.random, shape)
        self.account = Account()
        self.committed = [0] * len(self.logs)
        self.owners = [-1] * len(self.logs)
        self.generation = 0
        self.workers: list[Worker] = []
        self.hired = self.refused = self.now = 0
        self.running: Worker | None = None
        self.happened: list[str] = []

    def pause(self) -> None:
        """Called by a worker: lets others run."""
        assert self.running is not None
        self.running.fiber.pause()

    def run(self) -> list[str]:
        """What differs from the clean pass; nothing when the laws held."""
        clean = clean_pass(self.logs)
        self.cluster = Cluster(
            [self.system.node(self.system.store, SMALL) for _ in range(self.random.choice(self.pressure.nodes))]
        )
        try:
            with self.system.patch():
                for _ in range(self.random.choice((1, 2, 2, 3))):
                    self._hire()
                self._rebalance()
                self._disturb()
                if not self._drain():
                    return ["not everything was acknowledged"]
                for node in self.cluster.nodes:
                    node.crash(node.synced)
                facts = self.cluster.facts()
        except Exception as error:
            return [f"{type(error).__name__}: {error}"]
        finally:
            for worker in self.workers:
                worker.fiber.kill()
        return differences(clean, self.account, self.logs, facts, self.system.dumped_before_newest)

    def _some_faults(self) -> Faults:
        """Each kind of fault more or less often, or never: together they hide what one of them alone would show."""
        faults, scale = self.pressure.faults, self.random.choice((0.0, 0.5, 1.0, 2.0))
        return replace(
            faults,
            lost_before=scale * faults.lost_before,
            partial=scale * faults.partial,
            lost_reply=scale * faults.lost_reply,
        )

    def _disturb(self) -> None:
        kinds = list(self.pressure.weights)
        weights = [
            weight if kind == "run" else weight * self.random.choice((0.0, 0.5, 1.0, 2.0))
            for kind, weight in self.pressure.weights.items()
        ]
        steps = {
            "run": self._run_one,
            "sync": self._sync,
            "crash": self._crash,
            "rebalance": self._rebalance,
            "kill": self._kill,
            "arrive": self._arrive,
            "deafen": self._deafen,
            "stall": self._stall,
        }
        for kind in self.random.choices(kinds, weights, k=self.pressure.steps):
            steps[kind]()
            if kind != "run":
                self.happened.append(kind)

    def _resume(self, worker: Worker) -> None:
        self.running = worker
        worker.fiber.resume()

    def _run_one(self) -> None:
        """Mostly the same worker goes on: then the others sleep long enough to be overtaken."""
        self.now += 1
        awake = [worker for worker in self.workers if worker.asleep_until <= self.now] or self.workers
        worker = self.running
        if worker not in awake or worker is None or self.random.random() < 0.2:
            worker = self.random.choice(awake)
        self._resume(worker)

    def _sync(self) -> None:
        self.random.choice(self.cluster.nodes).sync()

    def _crash(self) -> None:
        node = self.random.choice(self.cluster.nodes)
        node.crash(self.random.randint(node.synced, len(node.log)))

    def _arrive(self) -> None:
        node = self.random.choice(self.cluster.nodes)
        if node.in_flight:
            node.arrive(self.random.randint(1, len(node.in_flight)))

    def _rebalance(self) -> None:
        self.generation += 1
        self.owners = [self.random.choice(self.workers).number for _ in self.owners]

    def _deafen(self) -> None:
        """A worker does not hear of rebalances for a while: a zombie when it loses something."""
        worker = self.random.choice(self.workers)
        worker.deaf = not worker.deaf

    def _stall(self) -> None:
        """A worker stands still where it is, and its partitions go to others: it wakes up as a zombie."""
        owning = [worker for worker in self.workers if worker.number in self.owners]
        stalled = self.random.choice(owning or self.workers)
        stalled.asleep_until = self.now + self.random.randrange(5, 50)
        others = [worker.number for worker in self.workers if worker is not stalled]
        if others and stalled.number in self.owners:
            self.generation += 1
            self.owners = [self.random.choice(others) if owner == stalled.number else owner for owner in self.owners]

    def _kill(self) -> None:
        worker = self.random.choice(self.workers)
        self.running = worker
        worker.fiber.kill()
        self.workers.remove(worker)
        self._hire()
        if self.random.random() < 0.7 or len(self.workers) == 1:
            self._rebalance()

    def _hire(self) -> None:
        self.workers.append(Worker(self.hired, self))
        self.hired += 1

    def _drain(self) -> bool:
        """Without faults to the end of the logs; whether everything was acknowledged."""
        self.calm = True
        for worker in self.workers:
            worker.deaf = False
        if self.random.random() < 0.4:
            self._hire()
        self._rebalance()
        ends = [len(log) for log in self.logs]
        for _ in range(DRAIN_ROUNDS):
            for worker in self.random.sample(self.workers, len(self.workers)):
                self._resume(worker)
            if self.committed == ends and all(worker.ingestion.pending == 0 for worker in self.workers):
                break
            if self.random.random() < 0.7:
                self._sync()
        else:
            return False
        for node in self.cluster.nodes:
            node.arrive(len(node.in_flight))
        return True

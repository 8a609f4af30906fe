"""A store that fails as real ones do: nodes that lose their unsynced tail, connections that break inside a call.

Each node keeps what it executed in a log, as an append-only file would; what stands above ``synced`` may be lost when
it crashes, on each node by itself. State in a node is a ``MemoryStore``, the definition of what a write means.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from fibers import Killed
from headrace import StoreUnavailable
from headrace.streams.dump import Facts
from headrace.streams.searches import StateBounds
from headrace.streams.store import MemoryStore, Stored
from headrace.streams.writes import Reply, Write, entity_of


@dataclass(frozen=True, slots=True)
class Faults:
    """How often things go wrong, as probabilities of one call."""

    lost_before: float = 0.01
    partial: float = 0.04
    lost_reply: float = 0.02
    refused: float = 0.05
    in_flight: float = 0.5
    pause: float = 0.3
    pause_inside: float = 0.08


class World(Protocol):
    """What a connection asks of the schedule it is part of."""

    random: Random
    faults: Faults
    calm: bool
    refused: int

    def pause(self) -> None:
        """Lets others run."""


class Node:
    """One server."""

    def __init__(self, store: type[MemoryStore], bounds: StateBounds) -> None:
        self._class, self._bounds = store, bounds
        self.store = store(bounds)
        self.log: list[Write | None] = []
        self.synced = 0
        self.epoch = 0
        self.in_flight: list[Write] = []

    def execute(self, write: Write) -> Reply:
        """Carries out one write."""
        self.log.append(write)
        return self.store.apply([write])[0]

    def mark(self) -> int:
        """Writes a mark; the place in the log that must be synced for it."""
        self.log.append(None)
        return len(self.log)

    def sync(self) -> None:
        """Makes durable what was executed."""
        self.synced = len(self.log)

    def crash(self, keep: int) -> None:
        """Restarts with the first ``keep`` entries of its log; whoever was connected is not any more."""
        assert keep >= self.synced
        del self.log[keep:]
        self.store = self._class(self._bounds)
        self.store.apply([write for write in self.log if write is not None])
        self.synced = keep
        self.epoch += 1
        self.in_flight.clear()

    def arrive(self, count: int) -> None:
        """Calls whose sender is gone reach the server late."""
        for write in self.in_flight[:count]:
            self.execute(write)
        del self.in_flight[:count]


class Cluster:
    """Some nodes; every entity lies on one of them."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        self._places: dict[tuple[str, object], int] = {}

    def place(self, kind: str, name: object) -> int:
        """The number of the node an entity lies on: spread evenly, in the order in which they come up."""
        return self._places.setdefault((kind, name), (len(self._places) * 7 // 3) % len(self.nodes))

    def facts(self) -> Facts:
        """Everything on all nodes."""
        merged = Facts()
        for node in self.nodes:
            facts = node.store.facts()
            merged.edges += facts.edges
            merged.copies += facts.copies
            merged.shoppers += facts.shoppers
            merged.texts |= facts.texts
            merged.capped_items |= facts.capped_items
        return merged


class Connection:
    """A worker's ``Store`` over a cluster: one session is one connection to every node."""

    def __init__(self, cluster: Cluster, world: World) -> None:
        self.cluster, self.world = cluster, world
        self.session = 0
        self.epochs: list[int] = []
        self.broken = True
        self.marks: list[list[int]] = []

    def connect(self) -> None:
        """Opens a new session."""
        self.world.pause()
        if self._happens(self.world.faults.refused):
            raise StoreUnavailable("refused")
        self.epochs = [node.epoch for node in self.cluster.nodes]
        self.broken = False
        self.marks = []
        self.session += 1

    def read(self, shoppers: Sequence[bytes], logs: bool = False) -> list[Stored]:
        """What lies under some names; others may write while it reads."""
        self._maybe_pause()
        self._maybe_lose(self.world.faults.lost_before)
        stored = []
        for name in shoppers:
            self._maybe_pause(inside=True)
            stored += self.node("shopper", name).store.read([name], logs)
        return stored

    def apply(self, writes: Sequence[Write]) -> list[Reply]:
        """Carries out writes: all, a part of them, or none that is known of."""
        self._maybe_pause()
        faults, random = self.world.faults, self.world.random
        self._maybe_lose(faults.lost_before)
        order = self._order(writes)
        stop = random.randrange(len(order)) if order and self._happens(faults.partial) else len(order)
        replies: dict[int, Reply] = {}
        at = 0
        try:
            for at, index in enumerate(order):
                if at == stop:
                    raise StoreUnavailable("lost inside a call")
                self._maybe_pause(inside=True)
                replies[index] = self.execute(writes[index])
        except (StoreUnavailable, Killed):
            self.broken = True
            self._leave_behind([writes[index] for index in order[at:]])
            raise
        self._maybe_lose(faults.lost_reply)
        return [replies[index] for index in range(len(writes))]

    def execute(self, write: Write) -> Reply:
        """One call on the node that holds its entity."""
        reply = self.node(*entity_of(write)).execute(write)
        self.world.refused += reply is False
        return reply

    def mark(self) -> int:
        """A mark on every node."""
        self._maybe_pause()
        self.marks.append([self._alive(number).mark() for number in range(len(self.cluster.nodes))])
        return len(self.marks)

    def settled(self, wait_ms: int = 0) -> int:
        """The largest mark that every node has synced."""
        self._maybe_pause()
        nodes = [self._alive(number) for number in range(len(self.cluster.nodes))]
        durable = 0
        for number, places in enumerate(self.marks, 1):
            if all(place <= node.synced for place, node in zip(places, nodes, strict=True)):
                durable = number
        return durable

    def facts(self) -> Facts:
        """Everything on all nodes."""
        return self.cluster.facts()

    def node(self, kind: str, name: object) -> Node:
        """The node of an entity."""
        return self._alive(self.cluster.place(kind, name))

    def _alive(self, number: int) -> Node:
        node = self.cluster.nodes[number]
        if self.broken or self.epochs[number] != node.epoch:
            self.broken = True
            raise StoreUnavailable("the connection is lost")
        return node

    def _order(self, writes: Sequence[Write]) -> list[int]:
        """An order of execution: any, but of one entity as given."""
        queues: dict[tuple[str, object], list[int]] = {}
        for index, write in enumerate(writes):
            queues.setdefault(entity_of(write), []).append(index)
        left = list(queues.values())
        self.world.random.shuffle(left)
        if len(left) == len(writes):
            return [queue[0] for queue in left]
        order = []
        while left:
            queue = self.world.random.choice(left)
            order.append(queue.pop(0))
            if not queue:
                left.remove(queue)
        return order

    def _leave_behind(self, writes: Sequence[Write]) -> None:
        """What was sent and not executed is gone, or reaches its node later."""
        if writes and self._happens(self.world.faults.in_flight):
            for write in writes:
                number = self.cluster.place(*entity_of(write))
                if self.epochs[number] == self.cluster.nodes[number].epoch:
                    self.cluster.nodes[number].in_flight.append(write)

    def _maybe_pause(self, inside: bool = False) -> None:
        if self._happens(self.world.faults.pause_inside if inside else self.world.faults.pause):
            self.world.pause()

    def _maybe_lose(self, chance: float) -> None:
        if self._happens(chance):
            self.broken = True
            raise StoreUnavailable("the connection is lost")

    def _happens(self, chance: float) -> bool:
        return not self.world.calm and self.world.random.random() < chance

"""A consumer and a worker over the store in memory: a log goes in, at moments a list is served from what lies there."""

from random import Random

import numpy as np

from headrace.models.features import FEATURES, Reading, matrix
from headrace.online.lookup import found_of
from headrace.streams import item_copies, neighbours, reading
from headrace.streams.feature_log import Served, names_digest, pack_features, pack_scores
from headrace.streams.identity import day_of, hash_of
from headrace.streams.ingestion import Ingestion, Record, Rejected
from headrace.streams.keys import shopper_name
from headrace.streams.reading import Question
from headrace.streams.searches import StateBounds, query_of
from headrace.streams.store import MemoryStore
from shopping_logs import LIMITS, LogShape, source

WINDOW_DAYS = 3


class MemoryWorker:
    """Serves what the records it was given lead to.

    Args:
        random: what it does not say itself.
        shape: of the log: which shoppers, queries and items there are.
        bounds: of the state.
    """

    def __init__(self, random: Random, shape: LogShape, bounds: StateBounds) -> None:
        self.random, self.shape, self.bounds = random, shape, bounds
        self.store = MemoryStore(bounds)
        self.source = source(shape.partitions)
        rejected: list[Rejected] = []
        self.ingestion = Ingestion(self.store, self.source, bounds, LIMITS, rejected.extend)
        self.served: list[Served] = []

    def take(self, records: list[Record]) -> None:
        """Records are in the state."""
        self.ingestion.take(records)
        assert self.ingestion.advance()

    def serve(self, at_ms: int, twice: bool = False) -> Served:
        """A list for some shopper and query, logged as the worker logs it; twice: it asks for one item two times."""
        random, shape = self.random, self.shape
        client_id = f"shopper-{random.randrange(shape.shoppers)}"
        query = query_of(f"{random.choice(['red', 'blue'])} shoe {random.randrange(shape.queries)}")[0]
        items = random.sample([f"item-{number}" for number in range(shape.items + 1)], random.randrange(1, shape.items))
        asked = (items[0], items[0], *items[1:]) if twice else tuple(items)
        replies = self._replies(query, client_id, asked)
        question = Question(query, client_id, asked)
        found = found_of(reading.answer(question, replies, self.bounds.sequence), day_of(at_ms), WINDOW_DAYS)
        count = len(asked)
        values = [random.choice([np.nan, random.random()]) for _ in range(2 * count)]
        features = matrix(
            Reading(
                now_ms=at_ms,
                query=query,
                items=np.array([hash_of(item) for item in asked], dtype=np.uint64),
                prices=np.array(values[:count], dtype=np.float32),
                student=np.array(values[count:], dtype=np.float32),
                sequence=found.sequence,
                query_edges=found.query_edges,
                item_edges=found.item_edges,
            )
        )
        if twice:
            features = np.delete(features, 1, axis=0)
        scores = pack_scores(np.zeros(len(items), dtype=np.float32))
        served = Served(
            request_id=f"request-{len(self.served)}",
            client_id=client_id,
            query_id="q",
            at_ms=at_ms,
            query=query,
            items=tuple(items),
            matrix=pack_features(features),
            names=names_digest(FEATURES),
            scores=scores,
            version="v",
            fences=found.fences,
        )
        self.served.append(served)
        return served

    def _replies(self, query: int, client_id: str, items: tuple[str, ...]) -> list[object]:
        """What Redis would answer: see `reading.commands`."""
        facts = self.store.facts()
        edges = {edge.item_id: neighbours.pack_edge(edge.rows) for edge in facts.edges if edge.query == query}
        capped = any(edge.capped for edge in facts.edges if edge.query == query)
        fences = b"".join(
            token + fence.to_bytes(8, "little") for (name, token), fence in self.store._fences.items() if name == query
        )
        copies = dict.fromkeys(items, b"")
        for copy in facts.copies:
            if copy.item_id in copies:
                packed = item_copies.pack_rows(copy.query.to_bytes(8, "little"), neighbours.pack_edge(copy.rows))
                copies[copy.item_id] += packed
        [stored] = self.store.read([shopper_name(client_id)], logs=True)
        return [
            b"g1",
            [fences or None, b"1" if capped else None, *(edges.get(item) for item in items)],
            [bytes((item_copies.CODEC, 0)) + copies[item] if copies[item] else None for item in items],
            [stored.head, stored.log],
        ]


def interleaved(random: Random, logs: list[list[Record]]) -> list[Record]:
    """The records of all partitions, each in its order."""
    left = [list(reversed(log)) for log in logs]
    found = []
    while any(left):
        found.append(random.choice([log for log in left if log]).pop())
    return found


def served_run(
    random: Random, shape: LogShape, logs: list[list[Record]], bounds: StateBounds, twice: float = 0.0
) -> MemoryWorker:
    """A worker that took the log in random batches and served a list now and then."""
    worker = MemoryWorker(random, shape, bounds)
    records = interleaved(random, logs)
    while records:
        count = random.randrange(1, 12)
        batch, records = records[:count], records[count:]
        worker.take(batch)
        if random.random() < 0.5:
            worker.serve(batch[-1].timestamp_ms + random.randrange(0, 600_000), random.random() < twice)
    return worker

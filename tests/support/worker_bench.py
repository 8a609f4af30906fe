"""A worker whose neighbours are stand-ins that do what a test tells them, and requests to it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from headrace.models.head import Head
from headrace.online.batch import Batcher, BatchLimits, Floats
from headrace.online.catalogue import Catalogue
from headrace.online.found import Found
from headrace.online.ladder import Costs
from headrace.online.messages import RankAnswer, RankRequest
from headrace.online.meters import new_meters
from headrace.online.pair_scores import PairScores
from headrace.online.pair_scoring import Neighbours
from headrace.online.pair_student import PairStudent
from headrace.online.registry import Registry
from headrace.online.student import Student, Vectors
from headrace.online.worker import Model, Worker
from headrace.streams.events import ItemChanged
from headrace.streams.feature_log import Served
from headrace.streams.reading import Question
from headrace.streams.score_cache import Accepted, part_name

NOW_MS = 20_000 * 86_400_000


class State:
    """A lookup that does what a test tells it."""

    def __init__(self) -> None:
        self.found = Found()
        self.before: Callable[[], Awaitable[None]] | None = None
        self.asked: list[Question] = []

    async def read(self, question: Question, now_ms: int) -> Found:
        self.asked.append(question)
        if self.before is not None:
            await self.before()
        return self.found

    async def close(self) -> None:
        return None


class Log:
    def __init__(self) -> None:
        self.kept: list[Served] = []

    def offer(self, served: Served) -> bool:
        self.kept.append(served)
        return True

    def close(self) -> None:
        return None


class Slow:
    """An encoder of one dimension that takes its time."""

    def __init__(self, took_s: float = 0.0) -> None:
        self.took_s = took_s
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> Floats:
        self.asked += texts
        time.sleep(self.took_s)
        return np.ones((len(texts), 1), dtype=np.float32)


class Pairs:
    """A scorer that finds everything half relevant and takes its time."""

    def __init__(self, took_s: float = 0.0) -> None:
        self.took_s = took_s
        self.asked: list[str] = []

    def score(self, queries: Sequence[str], titles: Sequence[str], neighbours: Neighbours = None) -> Floats:
        self.asked += titles
        time.sleep(self.took_s)
        return np.full(len(queries), 0.5, dtype=np.float32)


class Bench:
    """A worker, its stand-ins, and requests to it."""

    def __init__(self, student: bool = False, encode_s: float = 0.0, head: Head | None = None) -> None:
        self.state, self.log, self.encoder = State(), Log(), Slow(encode_s)
        self.registry: Registry[Model] = Registry()
        self.model = Model("v1", {"head": "h"}, head or Head.cold())
        self.worker = Worker(
            registry=self.registry,
            lookup=self.state,
            catalogue=Catalogue(),
            encoders=Batcher(BatchLimits(waiting=2)),
            fillers=Batcher(),
            features_log=self.log,
            meters=new_meters(),
            now_ms=lambda: NOW_MS,
            costs=Costs(),
        )
        if student:
            made = Student(self.encoder, Vectors(1 << 20))
            self.worker.catalogue.apply([(ItemChanged(item, 1, item, "", {}, None), None) for item in "abc"])
            made.warm(self.worker.catalogue.recent(10))
            self.encoder.asked.clear()
            self.model = replace(self.model, student=made)
        self.registry.exchange(self.model, lambda: None)

    def read_pairs(self, took_s: float = 0.0, calibration_error: float | None = None) -> Pairs:
        """Gives the worker a cross-encoder and texts of a, b and c."""
        scorer, accepted = Pairs(took_s), Accepted(part_name("student"), part_name("teacher"))
        self.worker.catalogue.apply([(ItemChanged(item, 1, item, "", {}, None), None) for item in "abc"])
        student = PairStudent(scorer, PairScores(1 << 20), accepted, calibration_error)
        self.model = replace(self.model, student=student)
        self.registry.exchange(self.model, lambda: None)
        return scorer

    async def rank(self, items: Sequence[str] = "abc", arrived_s: float | None = None, **more: Any) -> RankAnswer:
        request = RankRequest(query="red shoe", items=tuple(items), **more)
        return await self.worker.rank(request, "r1", time.monotonic() if arrived_s is None else arrived_s)

    def run(self, items: Sequence[str] = "abc", arrived_s: float | None = None, **more: Any) -> RankAnswer:
        async def go() -> RankAnswer:
            self.worker.encoders.start()
            self.worker.fillers.start()
            try:
                return await self.rank(items, arrived_s, **more)
            finally:
                await asyncio.to_thread(self.worker.encoders.close)
                await asyncio.to_thread(self.worker.fillers.close)

        return asyncio.run(go())

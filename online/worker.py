"""Scores one request: what it was asked in, what it answered out; knows no HTTP.

In order: hold a model -> look up state and score the items' texts at the same time -> features -> head -> answer, and
the features to the log. The matrix that is scored is the one that is logged (law 5). A request that runs out of time
walks down the ladder (``ladder``) and says so.

The features and the head run on the event loop: for 100 items they take less than a hop to a thread and back costs
under load. What takes long, the encoder, has threads of its own (``batch``). How texts are scored is the student's
business (``students``).

Shapes: B items asked, K items scored, F features.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace import StoreUnavailable
from headrace.models.features import FEATURES, matrix
from headrace.models.head import Head
from headrace.online.batch import Batcher
from headrace.online.catalogue import Catalogue
from headrace.online.found import Found
from headrace.online.knowledge import FeaturesAnswer, features_answer
from headrace.online.ladder import Costs, Steps
from headrace.online.lookup import Lookup
from headrace.online.messages import FeaturesRequest, ModelSaid, RankAnswer, RankRequest
from headrace.online.meters import Meters
from headrace.online.outbox import FeatureLog
from headrace.online.pair_neighbours import Near, Told, near_of, told_of
from headrace.online.query_texts import QueryTexts
from headrace.online.registry import Registry
from headrace.online.scored import Known, Scored, nothing_known, reading_of, unscored
from headrace.online.students import Asked, StudentAtWork
from headrace.streams import feature_log
from headrace.streams.feature_log import Served
from headrace.streams.neighbours import NeighbourRule
from headrace.streams.reading import Question
from headrace.streams.searches import query_of

Floats = NDArray[np.float32]

ARM: Final = "champion"
"""The only arm there is; a rollout would choose it, with the model, where the request takes hold of one."""
ANSWER_S: Final = 0.002
"""Kept back of every deadline for writing the answer."""
SLACK_S: Final = 0.05
SLACK_SHARE: Final = 0.1
"""Timers ring late on a busy machine: a wait ends so much before it must, or by this share of the deadline."""
CACHE_SHARE: Final = 0.5
"""A cache that is late is not waited for longer than this share of the time there is: scores can still be computed."""
PREFILL: Final = 64
"""Item texts that may wait for the encoder without a request having asked: few, so that a request's own come soon."""
NAMES: Final = feature_log.names_digest(FEATURES)


@dataclass(frozen=True, slots=True)
class Model:
    """A bundle at work: its version, the digest of each part, the parts that answer. Never changed once made."""

    version: str
    parts: Mapping[str, str]
    head: Head
    student: StudentAtWork | None = None


class Read(NamedTuple):
    """The state, why it is empty although the store may know more ("" when it is whole), and who is near in it."""

    found: Found
    reason: str
    near: Near | None = None


@dataclass(slots=True)
class Case:
    """One request on its way: what was asked, when it came, until when it may take, what each stage took (seconds)."""

    request: RankRequest
    request_id: str
    ids: tuple[str, ...]
    now_ms: int
    arrived_s: float
    until_s: float
    stages: dict[str, float] = field(default_factory=dict)

    def left_s(self) -> float:
        """What is left before the answer must be written."""
        return self.until_s - ANSWER_S - time.monotonic()

    def wait_until_s(self, scoring_s: float) -> float:
        """Until when to wait for what is not there yet, so that scoring without it is still possible."""
        slack_s = min(SLACK_S, SLACK_SHARE * (self.until_s - self.arrived_s))
        return self.until_s - ANSWER_S - scoring_s - slack_s


@dataclass(frozen=True, slots=True)
class Worker:
    """Everything a request needs, put together by the command line.

    Attributes:
        registry: gives the model. lookup: reads state. catalogue: knows item texts.
        encoders: encodes queries. fillers: makes item vectors behind the requests.
        features_log: where served features go. meters: counts.
        deadline_s: for requests that name none.
        rule: when an edge is a neighbour.
        now_ms: the wall clock.
        query_texts: of queries that led to items, for a student that reads neighbours.
    """

    registry: Registry[Model]
    lookup: Lookup
    catalogue: Catalogue
    encoders: Batcher
    fillers: Batcher
    features_log: FeatureLog
    meters: Meters
    deadline_s: float = 1.0
    rule: NeighbourRule = field(default_factory=NeighbourRule)
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    costs: Costs = field(default_factory=Costs)
    query_texts: QueryTexts = field(default_factory=QueryTexts)

    async def rank(self, request: RankRequest, request_id: str, arrived_s: float) -> RankAnswer:
        """The answer to a request that arrived at ``arrived_s`` of the monotonic clock.

        Raises:
            Overloaded: no model serves yet, or too many texts wait for the encoder.
        """
        deadline_s = self.deadline_s if request.deadline_ms is None else request.deadline_ms / 1000
        now_ms = self.now_ms() if request.now_ms is None else request.now_ms
        case = Case(request, request_id, request.ids(), now_ms, arrived_s, arrived_s + deadline_s)
        with self.registry.acquire() as model:
            if case.left_s() <= 0:
                return self._answer(case, model, unscored(len(case.ids), "deadline"))
            reading = asyncio.ensure_future(self._read(case, model.student))
            try:
                known = await self._known(model.student, case, reading)
                found, no_state, _ = await reading
            finally:
                reading.cancel()
            return self._answer(case, model, self._score(model, case, known, found, no_state))

    async def features(self, request: FeaturesRequest, request_id: str) -> FeaturesAnswer:
        """What the state knows; needs no model.

        Raises:
            StoreUnavailable: the store cannot be reached, or not within the worker's deadline.
        """
        now_ms = self.now_ms() if request.now_ms is None else request.now_ms
        query = None if request.query is None else query_of(request.query)[0]
        question = Question(query, request.client_id, request.ids(), whole_query=True)
        try:
            async with asyncio.timeout(self.deadline_s):
                found = await self.lookup.read(question, now_ms)
        except TimeoutError:
            raise StoreUnavailable(f"Redis did not answer within {self.deadline_s:g} s") from None
        return features_answer(request, found, now_ms, request_id, self.rule)

    def prefill(self) -> int:
        """Has something made of new items before anybody asks; of how many. Belongs on the event loop, often."""
        model = self.registry.current()
        room = PREFILL - self.fillers.waiting()
        if model is None or model.student is None or room <= 0:
            return 0
        return model.student.prefill(self.catalogue, self.fillers, room)

    async def _read(self, case: Case, student: StudentAtWork | None) -> Read:
        """The state in one round trip; of the query's edges all are read only for a student that reads neighbours."""
        began_s = time.monotonic()
        left_s = case.wait_until_s(self.costs.of(len(case.ids))) - began_s
        cached = student is not None and student.accepted is not None
        whole = student is not None and student.neighbours and bool(case.ids)
        question = Question(query_of(case.request.query)[0], case.request.client_id, case.ids, whole, cached)
        try:
            async with asyncio.timeout(max(0.0, left_s)):
                found = await self.lookup.read(question, case.now_ms)
            if not whole:
                return Read(found, "")
            return Read(found.listed(case.ids), "", near_of(found, len(case.ids), self.rule))
        except TimeoutError:
            return Read(Found(), "deadline")
        except StoreUnavailable:
            return Read(Found(), "store_unavailable")
        finally:
            case.stages["feature"] = time.monotonic() - began_s

    async def _known(self, student: StudentAtWork | None, case: Case, reading: "asyncio.Future[Read]") -> Known:
        """What the student gives for the items' texts."""
        ids = case.ids
        if student is None or not ids:
            return nothing_known(len(ids), "absent")

        async def cached(until_s: float) -> tuple[bytes | None, ...]:
            left_s = CACHE_SHARE * (until_s - time.monotonic())
            await asyncio.wait((reading,), timeout=max(0.0, left_s))
            return reading.result().found.scores if reading.done() else ()

        def told() -> Sequence[Told]:
            near = reading.result().near if reading.done() else None
            if near is None:
                return ()
            titles = [text.text if text is not None else None for text in self.catalogue.texts(near.query)]
            return told_of(near, titles, self.query_texts.of(near.queries()))

        known = await student.known(
            Asked(
                query=case.request.query,
                ids=ids,
                texts=self.catalogue.texts(ids),
                now_ms=case.now_ms,
                until_s=case.wait_until_s(self.costs.of(len(ids))),
                encoders=self.encoders,
                fillers=self.fillers,
                cached=cached,
                told=told,
            )
        )
        case.stages |= known.stages
        return known

    def _score(self, model: Model, case: Case, known: Known, found: Found, no_state: str) -> Scored:
        began_s = time.monotonic()
        asked = len(case.ids)
        count = min(asked, self.costs.affordable(case.left_s()))
        if asked and not count:
            return unscored(asked, "deadline", known)
        reading = reading_of(case.request, case.ids[:count], known.scores, found, case.now_ms)
        features = matrix(reading)
        featured_s = time.monotonic()
        scores = model.head.score(features)
        if not np.isfinite(scores).all():
            return unscored(asked, "not_finite", known)
        ended_s = time.monotonic()
        case.stages["feature"] = case.stages.get("feature", 0.0) + featured_s - began_s
        case.stages["post"] = ended_s - featured_s
        self.costs.learn(count, ended_s - began_s)
        steps = Steps(asked, count, known.skipped, no_state, pairs=known.fewer, neighbours=known.bare)
        return Scored(steps, known, reading, features, scores, found)

    def _answer(self, case: Case, model: Model, scored: Scored) -> RankAnswer:
        for rung, _ in scored.steps.taken():
            self.meters.degraded.labels(rung).inc()
        for stage, took_s in case.stages.items():
            self.meters.stage_s.labels(stage).observe(took_s)
        asked, count = len(case.ids), len(scored.scores)
        absent = scored.absent()
        missing = {kind: items for kind, places in absent.items() if (items := int(places.sum()))}
        ages = scored.found.ages_ms(case.now_ms)
        if (age_ms := ages["sequence_ms"]) is not None:
            self.meters.freshness_s.labels("sequence").observe(age_ms / 1000)
        sources = scored.known.counts()
        for source, items in sources.items():
            if items:
                self.meters.student_scores.labels(source).inc(items)
        error = model.student.calibration_error if model.student is not None else None
        return RankAnswer(
            request_id=case.request_id,
            scores=[*scored.scores.tolist(), *([None] * (asked - count))],
            order=[*np.argsort(-scored.scores, kind="stable").tolist(), *range(count, asked)],
            model=ModelSaid(model.version, dict(model.parts), error),
            arm=ARM,
            student=scored.known.state,
            student_sources=sources,
            no_text=scored.known.no_text,
            pending=scored.known.pending,
            missing=missing,
            ages=ages,
            degraded=scored.steps.said(),
            logged=self._log(case, model, scored, missing, ages),
            timings_ms={stage: round(took_s * 1000, 3) for stage, took_s in case.stages.items()},
            items=scored.explained(case.ids, absent) if case.request.explain else None,
        )

    def _log(
        self, case: Case, model: Model, scored: Scored, missing: dict[str, int], ages: Mapping[str, int | None]
    ) -> bool:
        """Whether the features go to the log: only where a shopper and a search are named can anything follow."""
        request, count = case.request, len(scored.scores)
        if not (request.client_id and request.query_id and scored.reading is not None and count):
            return False
        ids, features, scores = case.ids[:count], scored.features, scored.scores
        if len(set(ids)) < count:  # an item asked twice is logged once, where it stands first
            rows = sorted({item: place for place, item in reversed(list(enumerate(ids)))}.values())
            ids, features, scores = tuple(ids[row] for row in rows), features[rows], scores[rows]
        served = Served(
            request_id=case.request_id,
            client_id=request.client_id,
            query_id=request.query_id,
            at_ms=case.now_ms,
            query=scored.reading.query,
            items=ids,
            matrix=feature_log.pack_features(features),
            names=NAMES,
            scores=feature_log.pack_scores(scores),
            version=model.version,
            arm=ARM,
            fences=scored.found.fences,
            missing=missing,
            ages_ms={name: age for name, age in ages.items() if age is not None},
            degraded=tuple(f"{rung}: {reason}" for rung, reason in scored.steps.taken()),
        )
        return self.features_log.offer(served)

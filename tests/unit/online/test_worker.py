"""One request through a worker whose neighbours are stand-ins: what it answers when something is slow or wrong."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from headrace import Overloaded, StoreUnavailable
from headrace.models.features import EDGE, FEATURES, ITEM_EDGE
from headrace.models.head import Head
from headrace.models.pair_rows import PairNeighbours
from headrace.online import worker
from headrace.online.batch import Batcher, BatchLimits, Floats
from headrace.online.catalogue import Catalogue
from headrace.online.found import Found
from headrace.online.ladder import Costs
from headrace.online.messages import Degraded, RankAnswer, RankRequest
from headrace.online.meters import new_meters
from headrace.online.pair_scores import PairScores
from headrace.online.pair_scoring import Neighbours
from headrace.online.pair_student import PairStudent
from headrace.online.pairs import PairScorer
from headrace.online.query_texts import QueryTexts
from headrace.online.registry import Registry
from headrace.online.student import Student, Vectors
from headrace.online.worker import Model, Worker
from headrace.streams import feature_log
from headrace.streams.events import ItemChanged, ItemRemoved
from headrace.streams.feature_log import Served
from headrace.streams.identity import hash64
from headrace.streams.reading import Question
from headrace.streams.score_cache import Accepted, Cached, encode, part_name, stamp_of
from tiny_models import write_pair_student

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


def test_a_whole_answer() -> None:
    bench = Bench(student=True)
    said = bench.run(client_id="c", query_id="q")
    assert said.degraded is None and said.student == "computed"
    assert said.scores == pytest.approx(said.scores) and None not in said.scores
    assert said.order == [0, 1, 2]
    assert said.missing == {"price": 3, "query": 3, "item": 3, "shopper": 3}
    assert said.student_sources == {"absent": 0, "pending": 0, "computed": 3, "student_cache": 0, "teacher_cache": 0}
    assert said.model.calibration_error is None
    assert not bench.state.asked[0].scores  # a cosine is cheaper than to read one
    assert {"feature", "queue", "infer", "post"} == set(said.timings_ms)
    assert said.logged
    [served] = bench.log.kept
    assert served.at_ms == NOW_MS and served.items == ("a", "b", "c")
    assert bench.model.head.score(feature_log.features_of(served)).tolist() == said.scores


def test_a_request_whose_deadline_passed_in_the_queue_costs_nothing() -> None:
    bench = Bench(student=True)
    said = bench.run(arrived_s=time.monotonic() - 2, client_id="c", query_id="q")
    assert said.degraded == Degraded("prior_order", "deadline", 0)
    assert said.scores == [None] * 3 and said.order == [0, 1, 2]
    assert bench.state.asked == [] and bench.encoder.asked == [] and bench.log.kept == []
    assert not said.logged


def test_a_student_that_is_late_is_left_out() -> None:
    bench = Bench(student=True, encode_s=0.6)
    said = bench.run(deadline_ms=300)
    assert said.student == "skipped"
    assert said.degraded == Degraded("without_student", "deadline", 3)
    assert said.missing["student"] == 3


def test_what_there_is_no_time_for_keeps_its_place_behind_what_was_scored() -> None:
    bench = Bench()
    bench.worker.costs.item_s = 0.1
    bench.worker.costs.fixed_s = 0.0
    touched = np.zeros(1, dtype=bench.state.found.sequence.dtype)
    bench.state.found = replace(
        bench.state.found,
        sequence=touched,
        item_edges=np.array([(0, 7, 19_999, 5, 1), (19, 7, 19_999, 5, 1)], dtype=ITEM_EDGE),
    )
    items = [f"item-{number}" for number in range(20)]
    said = bench.run(items, deadline_ms=500, client_id="c", query_id="q", explain=True)
    assert said.degraded is not None and said.degraded.rung == "fewer_items"
    scored = said.degraded.scored
    assert 1 <= scored <= 5
    assert [score is None for score in said.scores] == [False] * scored + [True] * (20 - scored)
    assert said.order[scored:] == list(range(scored, 20))
    assert said.items is not None and said.items[-1].features == {}
    [served] = bench.log.kept
    assert len(served.items) == scored
    assert served.degraded == ("fewer_items: deadline",)


def test_a_store_that_is_away_leaves_the_student_and_the_order() -> None:
    async def away() -> None:
        raise StoreUnavailable("gone")

    bench = Bench(student=True)
    bench.state.before = away
    said = bench.run()
    assert said.degraded == Degraded("without_state", "store_unavailable", 3)
    assert said.student == "computed"
    assert bench.worker.meters.registry.get_sample_value("headrace_degraded_total", {"rung": "without_state"}) == 1


def test_a_bug_behind_the_lookup_is_not_swallowed() -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    bench = Bench()
    bench.state.before = broken
    with pytest.raises(ZeroDivisionError):
        bench.run()


def test_a_head_that_is_not_finite_gives_no_scores() -> None:
    class Broken:
        def score(self, features: Floats) -> Floats:
            return np.full(len(features), np.nan, dtype=np.float32)

    bench = Bench(head=cast(Head, Broken()))
    said = bench.run(client_id="c", query_id="q")
    assert said.degraded == Degraded("prior_order", "not_finite", 0)
    assert bench.log.kept == []


def test_a_full_encoder_queue_refuses_the_request() -> None:
    async def go() -> list[object]:
        bench = Bench(student=True)  # its encoder is not started: whoever waits, waits
        asked = [asyncio.ensure_future(bench.rank(deadline_ms=200)) for _ in range(3)]
        return list(await asyncio.gather(*asked, return_exceptions=True))

    replies = asyncio.run(go())
    assert [type(reply) for reply in replies] == [RankAnswer, RankAnswer, Overloaded]


def test_a_request_keeps_the_model_it_began_with() -> None:
    bench = Bench()
    closed: list[str] = []
    bench.registry.exchange(replace(bench.model, version="v2"), lambda: closed.append("v2"))

    async def swap() -> None:
        bench.registry.exchange(replace(bench.model, version="v3"), lambda: closed.append("v3"))
        assert closed == []

    bench.state.before = swap
    assert bench.run().model.version == "v2"
    assert closed == ["v2"]


def test_items_without_a_vector_are_filled_behind_the_answer() -> None:
    bench = Bench(student=True)
    bench.worker.catalogue.apply([(ItemChanged("d", 1, "d", "", {}, None), None)])

    async def go() -> list[RankAnswer]:
        bench.worker.encoders.start()
        bench.worker.fillers.start()
        said = [await bench.rank("abd")]
        student = bench.model.student
        assert student is not None
        until = time.monotonic() + 5
        while student.pending() and time.monotonic() < until:  # noqa: ASYNC110 - a test waits as a caller would
            await asyncio.sleep(0.001)
        said += [await bench.rank("abd"), await bench.rank("xyz")]
        await asyncio.to_thread(bench.worker.encoders.close)
        await asyncio.to_thread(bench.worker.fillers.close)
        return said

    first, second, third = asyncio.run(go())
    assert (first.student, first.pending, first.no_text) == ("partial", 1, 0)
    assert (second.student, second.pending) == ("computed", 0)
    assert (third.student, third.no_text) == ("absent", 3)


def kept(item: str, score: float) -> bytes:
    return encode(Cached(part_name("teacher"), stamp_of(item), 0, "teacher", score, NOW_MS))


def test_an_answer_says_where_each_text_score_comes_from_and_how_far_it_is_off() -> None:
    bench = Bench()
    scorer = bench.read_pairs(calibration_error=0.02)
    bench.state.found = replace(bench.state.found, scores=(kept("a", 0.75), None, kept("other text", 0.75), None))
    said = bench.run("abcx", client_id="c", query_id="q", explain=True)
    assert [question.scores for question in bench.state.asked] == [True]
    assert said.model.calibration_error == 0.02
    assert said.student_sources == {"absent": 1, "pending": 0, "computed": 2, "student_cache": 0, "teacher_cache": 1}
    assert said.items is not None
    assert [item.source for item in said.items] == ["teacher_cache", "computed", "computed", "absent"]
    assert [item.features["student"] for item in said.items] == [0.75, 0.5, 0.5, 0.0]
    assert scorer.asked == ["b", "c"]
    assert (said.student, said.no_text, said.degraded) == ("partial", 1, None)
    [served] = bench.log.kept
    assert feature_log.features_of(served)[:, FEATURES.index("student")].tolist() == [0.75, 0.5, 0.5, 0.0]
    count = bench.worker.meters.registry.get_sample_value
    assert count("headrace_student_scores_total", {"source": "computed"}) == 2
    assert count("headrace_student_scores_total", {"source": "teacher_cache"}) == 1


def test_pairs_that_there_is_no_time_for_are_a_rung_of_the_ladder() -> None:
    bench = Bench()
    bench.read_pairs()
    assert isinstance(bench.model.student, PairStudent)
    bench.model.student.costs.token_s = 0.08  # a pair of 5 tokens takes .4 s
    said = bench.run("abc", deadline_ms=900)
    assert said.degraded == Degraded("fewer_pairs", "deadline", 3)
    assert said.student == "partial"
    assert 1 <= said.pending == said.student_sources["pending"] == said.missing["student"] <= 2
    assert None not in said.scores


def test_a_cross_encoder_that_is_late_is_left_out() -> None:
    bench = Bench()
    bench.read_pairs(took_s=0.6)
    said = bench.run("ab", deadline_ms=300)
    assert said.student == "skipped"
    assert said.degraded == Degraded("without_student", "deadline", 2)
    assert said.student_sources["pending"] == said.missing["student"] == 2


def test_a_store_that_hangs_leaves_a_cross_encoder_the_time_to_compute() -> None:
    async def hangs() -> None:
        await asyncio.sleep(5)

    bench = Bench()
    bench.read_pairs()
    bench.state.before = hangs
    said = bench.run("ab", deadline_ms=500)
    assert said.student == "computed" and said.student_sources["computed"] == 2
    assert said.degraded == Degraded("without_state", "deadline", 2)


def test_a_full_queue_refuses_no_request_to_a_cross_encoder() -> None:
    async def go() -> list[RankAnswer]:
        bench = Bench()
        bench.read_pairs()  # its encoder is not started: whoever waits, waits
        return list(await asyncio.gather(*(bench.rank(deadline_ms=200) for _ in range(3))))

    assert [said.student for said in asyncio.run(go())] == ["skipped"] * 3


def test_nothing_is_made_of_new_texts_that_nobody_has_asked_for() -> None:
    bench = Bench()
    bench.read_pairs()
    assert bench.worker.prefill() == 0


TITLES = {"a": "red shoe", "b": "a mouse", "c": "xyz 12", "z": "shoes of z"}
QUERY_TEXTS = {hash64(text): text for text in ("red shoe", "mouse", "shoes")}


def edges(*query: tuple[str, int, int], shoe: tuple[int, int] = (200, 90), mouse: tuple[int, int] = (200, 60)) -> Found:
    """The query led to some items (exposures, clicks); the queries "shoes" and "mouse" led to a."""
    led = [(0, hash64("mouse"), 19_999, *mouse), (0, hash64("shoes"), 19_999, *shoe)]
    return Found(
        query_edges=np.array([(hash64(item), 19_999, shown, clicked) for item, shown, clicked in query], dtype=EDGE),
        item_edges=np.array(led, dtype=ITEM_EDGE),
        query_items={hash64(item): item for item, _, _ in query},
    )


NEAR = edges(("z", 110, 30), ("b", 120, 60), ("a", 500, 1))


def beside(query: Sequence[str], item: Sequence[str] = ()) -> PairNeighbours:
    return PairNeighbours(tuple((TITLES[one], 1.0) for one in query), tuple((text, 1.0) for text in item))


ALL = [beside("bz", ["shoes", "mouse"]), beside("bz"), beside("bz")]


class Neighbourly(Bench):
    """A worker with a cross-encoder that reads neighbours, and a state that knows queries' texts."""

    def __init__(self, repository: Path) -> None:
        super().__init__()
        self.scorer = PairScorer(repository / "parts" / write_pair_student(repository, 1, neighbours=True))
        self.state.found, self.texts, self.reads = NEAR, dict(QUERY_TEXTS), list[list[int]]()
        self.worker = replace(self.worker, query_texts=QueryTexts(self.read), encoders=Batcher(BatchLimits(waiting=64)))
        self.worker.catalogue.apply([(ItemChanged(item, 1, title, "", {}), None) for item, title in TITLES.items()])
        self.student = PairStudent(
            self.scorer, PairScores(1 << 20), Accepted(part_name("student")), max_tokens=16, neighbours=True
        )
        self.registry.exchange(replace(self.model, student=self.student), lambda: None)

    async def read(self, names: Sequence[int]) -> Sequence[bytes | None]:
        self.reads.append(sorted(names))
        return [self.texts[name].encode() if name in self.texts else None for name in names]

    def ask(self, *before: Callable[[], None], items: str = "abc", **more: Any) -> list[RankAnswer]:
        """The answers to requests one after the other, something done before each."""

        async def go() -> list[RankAnswer]:
            self.worker.encoders.start()
            self.worker.fillers.start()
            said = []
            for step in before:
                step()
                said.append(await self.rank(items, deadline_ms=5_000, **more))
                await asyncio.sleep(0.01)  # what is read behind the request
            await asyncio.to_thread(self.worker.encoders.close)
            await asyncio.to_thread(self.worker.fillers.close)
            return said

        return asyncio.run(go())

    def scores(self) -> list[float]:
        """What the student has in memory of a, b and c."""
        kept = self.student.scores.of("red shoe")
        return [kept[item][1] for item in "abc"]

    def wanted(self, told: Sequence[PairNeighbours | None]) -> list[float]:
        """What the part itself says."""
        titles = [TITLES[item] for item in "abc"]
        return [float(score) for score in self.scorer.score(["red shoe"] * 3, titles, told)]


def nothing() -> None:
    return None


def test_a_part_that_reads_neighbours_is_told_those_of_the_state(tmp_path: Path) -> None:
    bench = Neighbourly(tmp_path)
    first, second, third = bench.ask(nothing, nothing, nothing)
    assert first.student == second.student == "computed"
    assert bench.scores() == bench.wanted(ALL)
    assert bench.scores() != bench.wanted([None] * 3)
    assert [said.student_sources["computed"] for said in (first, second, third)] == [3, 1, 0]  # a, once its texts came
    assert all(question.whole_query and question.scores for question in bench.state.asked)
    assert len(bench.state.asked) == 3 and bench.reads == [sorted(map(hash64, ("mouse", "shoes")))]


def test_a_neighbour_whose_text_is_not_known_is_left_out_until_it_is(tmp_path: Path) -> None:
    bench = Neighbourly(tmp_path)
    del bench.texts[hash64("mouse")]
    bench.ask(nothing, nothing)
    assert bench.scores() == bench.wanted([beside("bz", ["shoes"]), *ALL[1:]])
    bench = Neighbourly(tmp_path)
    bench.ask(nothing)
    assert bench.scores() == bench.wanted([beside("bz"), *ALL[1:]])
    bench = Neighbourly(tmp_path)
    bench.worker.catalogue.apply([(ItemRemoved("z", 2), None)])
    bench.ask(nothing, nothing)
    assert bench.scores() == bench.wanted([beside("b", ["shoes", "mouse"]), beside("b"), beside("b")])


def test_a_change_of_the_first_five_is_scored_anew_and_of_their_weights_or_places_is_not(tmp_path: Path) -> None:
    bench = Neighbourly(tmp_path)

    def weights() -> None:
        bench.state.found = edges(("z", 220, 60), ("b", 150, 100), ("a", 900, 1), shoe=(300, 150), mouse=(100, 30))

    def order() -> None:
        bench.state.found = edges(("z", 220, 200), ("b", 150, 100), shoe=(300, 150))

    def fewer() -> None:
        bench.state.found = edges(("z", 220, 200), shoe=(300, 150))

    def none() -> None:
        bench.state.found = Found()

    said = bench.ask(nothing, nothing, weights, order, fewer, none)
    assert [one.student_sources["student_cache"] for one in said] == [0, 2, 3, 3, 0, 0]
    assert bench.scores() == bench.wanted([None] * 3)


def test_a_store_that_is_away_leaves_scores_without_neighbours(tmp_path: Path) -> None:
    async def away() -> None:
        raise StoreUnavailable("gone")

    bench = Neighbourly(tmp_path)
    bench.state.before = away
    [said] = bench.ask(nothing)
    assert said.degraded == Degraded("without_state", "store_unavailable", 3) and said.student == "computed"
    assert bench.scores() == bench.wanted([None] * 3)


def test_a_state_that_comes_late_takes_no_score_and_the_answer_says_what_was_scored_without_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Neighbourly(tmp_path)

    def late() -> None:  # it comes before the deadline, and after the student had to begin
        bench.state.before = lambda: asyncio.sleep(0.1)
        monkeypatch.setattr(worker, "CACHE_SHARE", 0.0)

    def in_time() -> None:
        bench.state.before = None
        monkeypatch.setattr(worker, "CACHE_SHARE", 0.5)

    said = bench.ask(nothing, nothing, late)
    assert [one.student_sources["student_cache"] for one in said] == [0, 2, 3]
    assert [one.degraded for one in said] == [None] * 3
    assert bench.scores() == bench.wanted(ALL)
    bench = Neighbourly(tmp_path)
    said = bench.ask(late, late, in_time, client_id="c", query_id="q")
    assert [one.student_sources["computed"] for one in said] == [3, 0, 3]
    without = Degraded("without_neighbours", "deadline", 3)
    assert [one.degraded for one in said] == [without, without, None]
    assert [one.student for one in said] == ["computed"] * 3
    assert [served.degraded for served in bench.log.kept] == [("without_neighbours: deadline",)] * 2 + [()]
    count = bench.worker.meters.registry.get_sample_value
    assert count("headrace_degraded_total", {"rung": "without_neighbours"}) == 2


def test_a_store_that_goes_away_leaves_the_scores_with_neighbours_in_memory(tmp_path: Path) -> None:
    async def away() -> None:
        raise StoreUnavailable("gone")

    def goes() -> None:
        bench.state.before = away

    bench = Neighbourly(tmp_path)
    said = bench.ask(nothing, nothing, goes)
    assert said[2].degraded == Degraded("without_state", "store_unavailable", 3)
    assert said[2].student_sources["student_cache"] == 3
    assert bench.scores() == bench.wanted(ALL)


@pytest.mark.parametrize("wrong", ["away", "hangs"])
def test_no_request_waits_for_a_text(tmp_path: Path, wrong: str) -> None:
    async def read(names: Sequence[int]) -> Sequence[bytes | None]:
        if wrong == "away":
            raise StoreUnavailable("gone")
        await asyncio.sleep(5)
        return []

    bench = Neighbourly(tmp_path)
    bench.worker.query_texts.read = read
    began_s = time.monotonic()
    said = bench.ask(nothing, nothing)
    assert time.monotonic() - began_s < 4
    assert [one.degraded for one in said] == [None, None]
    assert bench.scores() == bench.wanted([beside("bz")] * 3)


def test_features_do_not_depend_on_whether_neighbours_are_read(tmp_path: Path) -> None:
    """All edges of the query were read; what is logged, missing and how old it is goes by the items' own."""
    poor, rich = Bench(), Neighbourly(tmp_path)
    old = np.array([(hash64("a"), 19_990, 500, 1)], dtype=EDGE)
    poor.state.found = replace(NEAR, query_edges=old)
    rich.state.found = replace(NEAR, query_edges=np.concatenate([NEAR.query_edges[:1], old]))
    plain = poor.run("ac", client_id="c", query_id="q")
    [said] = rich.ask(nothing, items="ac", client_id="c", query_id="q")
    assert said.ages == plain.ages
    assert said.missing == {kind: items for kind, items in plain.missing.items() if kind != "student"}
    features = [feature_log.features_of(bench.log.kept[0]).T.tolist() for bench in (poor, rich)]
    names = [name for name, one, other in zip(FEATURES, *features, strict=True) if one != other]
    assert names == ["student", "student_known"]


def test_of_a_query_only_the_items_edges_are_read_where_nobody_reads_neighbours() -> None:
    bench = Bench()
    bench.read_pairs()
    bench.state.found = NEAR
    bench.run("abc")
    assert [question.whole_query for question in bench.state.asked] == [False]
    assert len(bench.worker.query_texts) == 0

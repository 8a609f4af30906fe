"""Requests to a student that reads behaviour neighbours: what it is told, and when a score is used again."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace import StoreUnavailable
from headrace.models.features import EDGE, FEATURES, ITEM_EDGE
from headrace.models.pair_rows import PairNeighbours
from headrace.online import worker
from headrace.online.batch import Batcher, BatchLimits
from headrace.online.found import Found
from headrace.online.messages import Degraded, RankAnswer
from headrace.online.pair_scores import PairScores
from headrace.online.pair_student import PairStudent
from headrace.online.pairs import PairScorer
from headrace.online.query_texts import QueryTexts
from headrace.streams import feature_log
from headrace.streams.events import ItemChanged, ItemRemoved
from headrace.streams.identity import hash64
from headrace.streams.score_cache import Accepted, part_name
from tiny_models import write_pair_student
from worker_bench import Bench

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

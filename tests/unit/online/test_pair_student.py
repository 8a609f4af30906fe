"""Where a pair's score comes from, in which order, and what happens to what there was no time for."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from headrace import BundleMismatch, Overloaded
from headrace.models.pair_rows import PairNeighbours
from headrace.online.batch import Batcher, BatchLimits, Floats
from headrace.online.catalogue import Text
from headrace.online.ladder import PairCosts
from headrace.online.pair_neighbours import Told
from headrace.online.pair_scores import PairScores
from headrace.online.pair_scoring import NOTHING, Neighbours
from headrace.online.pair_student import PairStudent
from headrace.online.score_writer import Made
from headrace.online.scored import Known
from headrace.online.students import Asked
from headrace.streams.identity import query_hash
from headrace.streams.score_cache import Accepted, Cached, Source, encode, part_name, stamp_of

NOW_MS = 1_800_000_000_000
STUDENT, TEACHER = part_name("student"), part_name("teacher")


def wanted(query: str, title: str, told: PairNeighbours | None = None) -> float:
    """What the stand-in computes, as float32."""
    return float(np.float32(stamp_of(f"{query}|{title}{told or ''}") % 1_000 / 1_000))


class Plain:
    """A scorer that counts, and waits when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.go = threading.Event()
        self.go.set()

    def score(self, queries: Sequence[str], titles: Sequence[str], neighbours: Neighbours = None) -> Floats:
        assert self.go.wait(10)
        self.asked += zip(queries, titles, strict=True)
        given = neighbours if neighbours is not None else [None] * len(queries)
        return np.array([wanted(*pair) for pair in zip(queries, titles, given, strict=True)], dtype=np.float32)


class Kept:
    def __init__(self) -> None:
        self.made: list[Made] = []

    def offer(self, made: Made) -> bool:
        self.made.append(made)
        return True

    def close(self) -> None:
        return None


@dataclass
class Bench:
    """A student, its stand-ins, and requests to it."""

    scorer: Plain = field(default_factory=Plain)
    kept: Kept = field(default_factory=Kept)
    encoders: Batcher = field(default_factory=lambda: Batcher(BatchLimits(waiting=16)))
    fillers: Batcher = field(default_factory=Batcher)
    cache: dict[str, bytes] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=lambda: {item: f"shoe {item}" for item in "abcdefgh"})
    neighbours: bool = False

    def __post_init__(self) -> None:
        self.student = PairStudent(
            self.scorer,
            PairScores(1 << 20),
            Accepted(STUDENT, TEACHER),
            writer=self.kept,
            neighbours=self.neighbours,
            costs=PairCosts(1e-6),
        )

    def put(self, item: str, score: float, source: Source, stamp: int | None = None, neighbours: int = 0) -> None:
        part = TEACHER if source == "teacher" else STUDENT
        stamp = stamp_of(self.texts[item]) if stamp is None else stamp
        self.cache[item] = self.cache.get(item, b"") + encode(Cached(part, stamp, neighbours, source, score, NOW_MS))

    async def ask(
        self, items: str = "abc", query: str = "Red  SHOE", wait_s: float = 5.0, told: Told | None = None
    ) -> Known:
        async def cached(until_s: float) -> Sequence[bytes | None]:
            return [self.cache.get(item) for item in items]

        texts = [Text(self.texts[item], stamp_of(self.texts[item])) if item in self.texts else None for item in items]
        asked = Asked(
            query, tuple(items), texts, NOW_MS, time.monotonic() + wait_s, self.encoders, self.fillers, cached
        )
        if told is not None:
            asked = replace(asked, told=lambda: [told] * len(items))
        return await self.student.known(asked)

    def run(self, *steps: Callable[[], Awaitable[Known]], started: bool = True) -> list[Known]:
        async def go() -> list[Known]:
            if started:
                self.encoders.start()
            self.fillers.start()
            try:
                return [await step() for step in steps]
            finally:
                self.scorer.go.set()
                await asyncio.to_thread(self.encoders.close)
                await asyncio.to_thread(self.fillers.close)

        return asyncio.run(asyncio.wait_for(go(), 20))

    async def settled(self) -> None:
        """Returns when nothing is computed behind the requests any more."""
        until_s = time.monotonic() + 5
        while self.student.pending() and time.monotonic() < until_s:  # noqa: ASYNC110 - a test waits as a caller would
            await asyncio.sleep(0.001)


def test_the_first_source_that_has_a_score_gives_it() -> None:
    bench = Bench()
    bench.put("a", 0.125, "teacher")
    bench.put("a", 0.25, "student")
    bench.put("b", 0.375, "student")
    first, second = bench.run(lambda: bench.ask("abcx"), lambda: bench.ask("abcx"))
    assert first.scores[:3].tolist() == [0.125, 0.375, wanted("red shoe", "shoe c")]
    assert np.isnan(first.scores[3])
    assert first.counts() == {"absent": 1, "pending": 0, "computed": 1, "student_cache": 1, "teacher_cache": 1}
    assert (first.state, first.no_text, first.pending, first.skipped, first.fewer) == ("partial", 1, 0, "", "")
    assert second.scores[:3].tolist() == first.scores[:3].tolist()
    assert second.counts()["student_cache"] == 2 and second.counts()["computed"] == 0
    assert bench.scorer.asked == [("red shoe", "shoe c")]


def made(item: str) -> Made:
    return Made(query_hash("red shoe"), STUDENT, item, stamp_of(f"shoe {item}"), wanted("red shoe", f"shoe {item}"))


def test_the_other_workers_hear_of_a_query_once_it_is_asked_for_again() -> None:
    """And of the normalised one; of the long tail, which is asked for once, they hear nothing."""
    bench = Bench()
    bench.run(lambda: bench.ask("ab"), lambda: bench.ask("cd", "blue hat"))
    assert bench.kept.made == []
    bench = Bench()
    bench.run(lambda: bench.ask("ab"), lambda: bench.ask("ac"), lambda: bench.ask("abd"), lambda: bench.ask("abcd"))
    assert bench.kept.made == [made(item) for item in "abcd"]  # each once


def test_another_text_of_an_item_is_scored_anew() -> None:
    bench = Bench()
    bench.put("a", 0.125, "teacher")

    async def change() -> Known:
        bench.texts |= {"a": "blue boot", "b": "green boot"}
        return await bench.ask("ab")

    first, second = bench.run(lambda: bench.ask("ab"), change)
    assert first.counts()["teacher_cache"] == first.counts()["computed"] == 1
    assert second.counts()["computed"] == 2
    assert second.scores.tolist() == [wanted("red shoe", "blue boot"), wanted("red shoe", "green boot")]


@pytest.mark.parametrize("spelling", ["red shoe", " RED\tShoe ", "ｒｅｄ shoe"])
def test_all_spellings_of_a_query_are_one(spelling: str) -> None:
    bench = Bench()
    first, second = bench.run(lambda: bench.ask("ab"), lambda: bench.ask("ab", spelling))
    assert second.scores.tolist() == first.scores.tolist()
    assert second.counts()["student_cache"] == 2


def test_what_there_is_no_time_for_is_scored_behind_and_is_there_for_the_next() -> None:
    bench = Bench()
    bench.student.costs.token_s = 0.05  # a pair of 6 tokens takes .3 s: of eight, three fit into a second

    async def after() -> Known:
        await bench.settled()
        return await bench.ask("abcdefgh")

    first, second = bench.run(lambda: bench.ask("abcdefgh", wait_s=1.0), after)
    assert first.state == "partial" and first.fewer == "deadline" and first.skipped == ""
    assert 1 <= first.counts()["computed"] <= 4
    assert first.pending == first.counts()["pending"] == 8 - first.counts()["computed"]
    assert not np.isnan(first.scores[: first.counts()["computed"]]).any()  # the top of the order first
    assert second.state == "computed" and second.counts()["student_cache"] == 8
    assert sorted(bench.scorer.asked) == sorted(("red shoe", f"shoe {item}") for item in "abcdefgh")


def test_a_scorer_that_is_late_is_left_out_and_its_work_is_kept() -> None:
    bench = Bench()
    bench.scorer.go.clear()

    async def after() -> Known:
        bench.scorer.go.set()
        until_s = time.monotonic() + 5
        while bench.student.held()[0] < 2 and time.monotonic() < until_s:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        return await bench.ask("ab")

    began_s = time.monotonic()
    first, second = bench.run(lambda: bench.ask("ab", wait_s=0.1), after)
    assert time.monotonic() - began_s < 5
    assert (first.state, first.skipped, first.pending) == ("skipped", "deadline", 2)
    assert np.isnan(first.scores).all()
    assert second.counts()["student_cache"] == 2


def test_what_waited_in_vain_is_scored_behind() -> None:
    """The queue drops what nobody waits for any more; the next request finds it all the same."""
    bench = Bench()

    async def late() -> Known:
        known = await bench.ask("ab", wait_s=0.05)
        bench.encoders.start()
        until_s = time.monotonic() + 5
        while bench.student.held()[0] < 2 and time.monotonic() < until_s:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        return known

    first, second = bench.run(late, lambda: bench.ask("ab"), started=False)
    assert first.pending == 2
    assert second.counts()["student_cache"] == 2


def test_a_full_queue_costs_pairs_and_no_request() -> None:
    bench = Bench(encoders=Batcher(BatchLimits(waiting=2)))  # not started: what is asked stays there
    first, second = bench.run(
        lambda: bench.ask("abcd", wait_s=0.05), lambda: bench.ask("efgh", wait_s=0.05), started=False
    )
    assert first.pending == second.pending == 4
    assert second.skipped == "overloaded"


def test_two_requests_at_a_time_score_a_pair_once() -> None:
    bench = Bench()

    async def both() -> Known:
        one, other = await asyncio.gather(bench.ask("ab"), bench.ask("ba"))
        assert one.scores.tolist() == other.scores.tolist()[::-1]
        return one

    bench.run(both)
    assert sorted(bench.scorer.asked) == [("red shoe", "shoe a"), ("red shoe", "shoe b")]


def test_an_item_asked_for_twice_is_scored_once() -> None:
    bench = Bench()
    [known] = bench.run(lambda: bench.ask("aba"))
    assert known.scores[0] == known.scores[2] and known.counts()["computed"] == 3
    assert len(bench.scorer.asked) == 2


def test_a_fault_of_the_scorer_is_heard() -> None:
    class Broken(Plain):
        def score(self, queries: Sequence[str], titles: Sequence[str], neighbours: Neighbours = None) -> Floats:
            raise ZeroDivisionError

    bench = Bench(scorer=Broken())
    with pytest.raises(ZeroDivisionError):
        bench.run(bench.ask)
    assert bench.kept.made == []


def test_a_worker_that_closes_says_so() -> None:
    bench = Bench()

    async def closing() -> Known:
        asking = asyncio.ensure_future(bench.ask("a"))
        await asyncio.sleep(0.01)
        bench.encoders.close()
        return await asking

    with pytest.raises(Overloaded):
        bench.run(closing, started=False)


def test_a_cache_that_is_away_leaves_what_is_in_memory() -> None:
    bench = Bench()

    async def away() -> Known:
        async def nothing(until_s: float) -> Sequence[bytes | None]:
            return ()

        texts = [Text("shoe a", stamp_of("shoe a"))]
        until_s = time.monotonic() + 5
        return await bench.student.known(
            Asked("red shoe", ("a",), texts, NOW_MS, until_s, bench.encoders, bench.fillers, nothing)
        )

    first, second = bench.run(away, away)
    assert first.counts()["computed"] == second.counts()["student_cache"] == 1


def test_a_warm_up_fills_the_memory_with_what_was_asked() -> None:
    bench = Bench()
    pairs = [("Red shoe", item, Text(f"shoe {item}", stamp_of(f"shoe {item}"))) for item in "abc"]
    assert bench.student.warm([*pairs, ("q", "", Text("x", 0))], batch=2) == 4
    assert bench.student.held()[0] == 3
    [known] = bench.run(lambda: bench.ask("abc"))
    assert known.counts()["student_cache"] == 3
    assert bench.student.warm(pairs, batch=2, ending=lambda: True) == 0


@pytest.mark.parametrize("wrong", [np.nan, 1.5, -0.5])
def test_a_student_whose_scores_are_no_probabilities_does_not_warm_up(wrong: float) -> None:
    class Broken(Plain):
        def score(self, queries: Sequence[str], titles: Sequence[str], neighbours: Neighbours = None) -> Floats:
            return np.full(len(queries), wrong, dtype=np.float32)

    with pytest.raises(BundleMismatch, match="no probabilities"):
        Bench(scorer=Broken()).student.warm([("q", "a", Text("x", 0))])


def test_a_closed_student_keeps_nothing() -> None:
    bench = Bench()
    bench.run(lambda: bench.ask("ab"))
    bench.student.close()
    assert bench.student.held() == (0, 0)


SHOES = Told(PairNeighbours((("red shoes", 1.0),), (("shoe", 1.0),)), 11)
BOOTS = Told(PairNeighbours((("boot", 1.0),)), 12)


def test_a_score_in_memory_is_used_only_with_the_neighbours_it_was_made_of() -> None:
    bench = Bench(neighbours=True)
    asked = [SHOES, SHOES, BOOTS, NOTHING, NOTHING, SHOES]
    found = bench.run(*(lambda told=told: bench.ask("a", told=told) for told in asked))
    assert [known.scores[0] for known in found] == [wanted("red shoe", "shoe a", one.neighbours) for one in asked]
    assert [known.bare for known in found] == [""] * 6
    assert [known.counts()["computed"] for known in found] == [1, 0, 1, 1, 0, 1]
    assert [known.counts()["student_cache"] for known in found] == [0, 1, 0, 0, 1, 0]


def test_a_score_in_redis_is_used_only_with_the_neighbours_it_was_made_of_a_teachers_always() -> None:
    bench = Bench(neighbours=True)
    bench.put("a", 0.125, "student", neighbours=SHOES.hash)
    bench.put("b", 0.25, "student", neighbours=BOOTS.hash)
    bench.put("c", 0.375, "student")
    bench.put("d", 0.5, "teacher", neighbours=99)
    [known] = bench.run(lambda: bench.ask("abcd", told=SHOES))
    computed = [wanted("red shoe", f"shoe {item}", SHOES.neighbours) for item in "bc"]
    assert known.scores.tolist() == [0.125, *computed, 0.5]
    assert known.counts() == {"absent": 0, "pending": 0, "computed": 2, "student_cache": 1, "teacher_cache": 1}


def test_the_other_workers_hear_with_which_neighbours_a_score_was_made() -> None:
    bench = Bench(neighbours=True)
    bench.run(*(lambda items=items: bench.ask(items, told=SHOES) for items in ("a", "a", "ab")))
    scores = [wanted("red shoe", f"shoe {item}", SHOES.neighbours) for item in "ab"]
    assert bench.kept.made == [
        made(item)._replace(score=score, neighbours=SHOES.hash) for item, score in zip("ab", scores, strict=True)
    ]


def test_two_requests_at_a_time_with_other_neighbours_share_nothing() -> None:
    bench = Bench(neighbours=True)

    async def both() -> Known:
        found = await asyncio.gather(*(bench.ask("a", told=told) for told in (SHOES, BOOTS, SHOES)))
        assert [known.scores[0] for known in found] == [
            wanted("red shoe", "shoe a", told.neighbours) for told in (SHOES, BOOTS, SHOES)
        ]
        return found[0]

    bench.run(both)


def test_what_is_scored_behind_is_scored_with_the_neighbours_of_the_last_request() -> None:
    bench = Bench(neighbours=True)
    bench.student.costs.token_s = 10.0  # no time for any
    bench.scorer.go.clear()

    async def after() -> Known:
        bench.scorer.go.set()
        await bench.settled()
        return await bench.ask("a", told=BOOTS)

    found = bench.run(lambda: bench.ask("a", told=SHOES), lambda: bench.ask("a", told=BOOTS), after)
    assert [known.pending for known in found] == [1, 1, 0]
    assert found[2].scores[0] == wanted("red shoe", "shoe a", BOOTS.neighbours)
    assert found[2].counts()["student_cache"] == 1


def test_a_part_that_reads_no_neighbours_asks_for_none() -> None:
    class Strict(Plain):
        def score(self, queries: Sequence[str], titles: Sequence[str], neighbours: Neighbours = None) -> Floats:
            assert neighbours is None
            return super().score(queries, titles)

    bench = Bench(scorer=Strict())
    bench.put("b", 0.25, "student")

    async def ask() -> Known:
        def told() -> Sequence[Told]:
            raise AssertionError("nobody reads it")

        async def cached(until_s: float) -> Sequence[bytes | None]:
            return [None, bench.cache["b"]]

        texts = [Text(bench.texts[item], stamp_of(bench.texts[item])) for item in "ab"]
        until_s = time.monotonic() + 5
        return await bench.student.known(
            Asked("red shoe", ("a", "b"), texts, NOW_MS, until_s, bench.encoders, bench.fillers, cached, told)
        )

    [known] = bench.run(ask)
    assert known.scores.tolist() == [wanted("red shoe", "shoe a"), 0.25]


def test_a_warm_up_reads_no_neighbours_and_they_are_read_as_soon_as_there_are_some() -> None:
    bench = Bench(neighbours=True)
    bench.student.warm([("Red shoe", "a", Text("shoe a", stamp_of("shoe a")))])
    first, second = bench.run(lambda: bench.ask("a"), lambda: bench.ask("a", told=SHOES))
    assert first.counts()["student_cache"] == 1 and first.scores[0] == wanted("red shoe", "shoe a")
    assert second.counts()["computed"] == 1
    assert second.scores[0] == wanted("red shoe", "shoe a", SHOES.neighbours)


def test_while_the_state_is_not_known_a_score_in_memory_is_used_whatever_neighbours_it_was_made_of() -> None:
    bench = Bench(neighbours=True)
    found = bench.run(
        lambda: bench.ask("a", told=SHOES), lambda: bench.ask("ab"), lambda: bench.ask("a"), lambda: bench.ask("ab")
    )
    scores = [wanted("red shoe", "shoe a", SHOES.neighbours), wanted("red shoe", "shoe b")]
    assert [known.scores.tolist() for known in found] == [scores[:1], scores, scores[:1], scores]
    assert [known.counts()["computed"] for known in found] == [1, 1, 0, 0]
    assert [known.bare for known in found] == ["", "deadline", "", "deadline"]  # whether b has some, nobody knows
    assert bench.kept.made == []
    [known] = bench.run(lambda: bench.ask("a", told=SHOES))
    assert known.counts()["student_cache"] == 1


def test_what_was_scored_without_knowing_does_not_go_over_what_other_workers_made() -> None:
    bench = Bench(neighbours=True)
    asked = (("a", SHOES), ("a", SHOES), ("ab", None), ("ab", None))
    bench.run(*(lambda items=items, told=told: bench.ask(items, told=told) for items, told in asked))
    assert [one.item_id for one in bench.kept.made] == ["a"]


def test_a_score_of_another_text_is_not_used_although_the_state_is_not_known() -> None:
    bench = Bench(neighbours=True)

    async def change() -> Known:
        bench.texts["a"] = "blue boot"
        return await bench.ask("a")

    first, second = bench.run(lambda: bench.ask("a", told=SHOES), change)
    assert first.bare == "" and second.bare == "deadline"
    assert second.scores.tolist() == [wanted("red shoe", "blue boot")]


def test_what_was_scored_without_knowing_takes_no_better_scores_place() -> None:
    """It ends after another request, that knew the state, has scored the same pair with its neighbours."""
    bench = Bench(neighbours=True)
    bench.student.costs.token_s = 10.0  # no time for any: all is scored behind, in the order asked
    bench.scorer.go.clear()

    async def after() -> Known:
        bench.scorer.go.set()
        await bench.settled()
        return await bench.ask("a", told=SHOES)

    found = bench.run(lambda: bench.ask("a", told=SHOES), lambda: bench.ask("a"), after)
    assert [known.bare for known in found] == [""] * 3
    assert found[2].counts()["student_cache"] == 1
    assert found[2].scores[0] == wanted("red shoe", "shoe a", SHOES.neighbours)

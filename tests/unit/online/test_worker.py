"""One request through a worker whose neighbours are stand-ins: what it answers when something is slow or wrong."""

import asyncio
import time
from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from headrace import Overloaded, StoreUnavailable
from headrace.models.features import FEATURES, ITEM_EDGE
from headrace.models.head import Head
from headrace.online.batch import Floats
from headrace.online.messages import Degraded, RankAnswer
from headrace.online.pair_student import PairStudent
from headrace.streams import feature_log
from headrace.streams.events import ItemChanged
from headrace.streams.score_cache import Cached, encode, part_name, stamp_of
from worker_bench import NOW_MS, Bench


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

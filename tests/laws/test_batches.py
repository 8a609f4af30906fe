"""Law 6 at the level of the worker, and the promise of batching: each text in exactly one batch, within the budget."""

import asyncio
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.models.features import FEATURES
from headrace.models.head import Head
from headrace.online.batch import Batcher, BatchLimits, next_batch
from headrace.online.catalogue import Text
from headrace.online.ladder import PairCosts
from headrace.online.pair_neighbours import Near, told_of
from headrace.online.pair_scores import PairScores
from headrace.online.pair_student import PairStudent
from headrace.online.pairs import PairScorer
from headrace.online.scored import Known
from headrace.online.scorer import Encoder
from headrace.online.student import Student, Vectors
from headrace.online.students import Asked
from headrace.streams.identity import normalise
from headrace.streams.score_cache import Accepted, Cached, encode, part_name, stamp_of
from tiny_models import VOCABULARY, write_pair_student, write_student

WORDS = [word for word in VOCABULARY if word.isalnum()]
TEXTS = st.lists(st.sampled_from(WORDS), min_size=0, max_size=20).map(" ".join)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 200)), max_size=60),
    st.integers(1, 256),
)
def test_every_text_is_in_exactly_one_batch_within_the_budget(waiting: list[tuple[int, int]], budget: int) -> None:
    encoders = [object(), object(), object()]
    left = [(number, encoders[which], tokens) for number, (which, tokens) in enumerate(waiting)]
    seen: list[int] = []
    while left:
        taken = next_batch([(encoder, tokens) for _, encoder, tokens in left], budget)
        assert taken == sorted(set(taken))
        assert taken[0] == 0  # the oldest never waits for a batch of others
        batch = [left[position] for position in taken]
        assert len({id(encoder) for _, encoder, _ in batch}) == 1
        assert len(batch) == 1 or len(batch) * max(tokens for *_, tokens in batch) <= budget
        seen += [number for number, *_ in batch]
        left = [entry for position, entry in enumerate(left) if position not in set(taken)]
    assert sorted(seen) == list(range(len(waiting)))


@cache
def encoder() -> Encoder:
    repository = Path(mkdtemp(prefix="hr-laws-"))
    return Encoder(repository / "parts" / write_student(repository, 1))


async def vectors_of(texts: list[str], tokens: int) -> list[list[float]]:
    """The vectors that requests would get that come at the same time, through the worker's own batching."""
    batcher = Batcher(BatchLimits(tokens=tokens, waiting=1_000))
    student = Student(encoder(), Vectors(1 << 20))
    until = time.monotonic() + 30
    asked = [batcher.submit(student.encoder.encode, student, text, until) for text in texts]
    batcher.start()
    found = [(await one)[0].tolist() for one in asked]
    await asyncio.to_thread(batcher.close)
    return found


@settings(max_examples=40, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=24), st.integers(8, 512))
def test_a_vector_does_not_depend_on_batch_mates(texts: list[str], tokens: int) -> None:
    alone = [encoder().encode([text])[0].tolist() for text in texts]
    assert np.abs(np.array(asyncio.run(vectors_of(texts, tokens))) - np.array(alone)).max() <= 1e-5


@settings(max_examples=40, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=40, unique=True), TEXTS, st.data())
def test_a_students_score_does_not_depend_on_the_other_items(texts: list[str], query: str, data: st.DataObject) -> None:
    student = Student(encoder(), Vectors(1 << 22))
    entries = [(str(number), Text(text, number)) for number, text in enumerate(texts)]
    student.warm(entries)
    vector = encoder().encode([query])[0]

    def scores(chosen: list[tuple[str, Text]]) -> dict[str, float]:
        rows = student.vectors.rows([item for item, _ in chosen], [text for _, text in chosen])
        return dict(zip([item for item, _ in chosen], student.vectors.cosine(rows, vector).tolist(), strict=True))

    whole = scores(entries)
    some = scores(data.draw(st.lists(st.sampled_from(entries), min_size=1, unique=True)))
    assert some == {item: whole[item] for item in some}  # to the last bit


@cache
def scorer(neighbours: bool) -> PairScorer:
    repository = Path(mkdtemp(prefix="hr-laws-"))
    return PairScorer(repository / "parts" / write_pair_student(repository, 1, neighbours=neighbours))


SIDES = st.lists(st.lists(TEXTS, max_size=2), min_size=1, max_size=3)


@pytest.mark.parametrize("neighbours", [False, True])
@settings(max_examples=20, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=12), TEXTS, SIDES, st.data())
def test_a_pairs_score_does_not_depend_on_whether_it_came_from_a_cache(
    neighbours: bool, texts: list[str], query: str, sides: list[list[str]], data: st.DataObject
) -> None:
    """Some pairs come from Redis, as another worker wrote them, some from memory, some are computed now."""
    part, used = part_name("student"), scorer(neighbours)
    student = PairStudent(used, PairScores(1 << 20), Accepted(part), neighbours=neighbours, costs=PairCosts(1e-7))
    items = [Text(text, stamp_of(text)) for text in texts]
    ids = tuple(str(number) for number in range(len(items)))
    near = Near(tuple(sides[0]), tuple((place % len(sides),) for place in range(len(items))))
    told = told_of(near, sides[0], {number: " ".join(side) for number, side in enumerate(sides)})
    places = st.sets(st.sampled_from(range(len(items))))
    in_memory, in_redis = data.draw(places), data.draw(places)
    alone = [
        float(used.score([normalise(query)], [text], [one.neighbours])[0])
        for text, one in zip(texts, told, strict=True)
    ]
    hashes = [one.hash if neighbours else 0 for one in told]
    values = [
        encode(Cached(part, item.stamp, read, "student", score, 1)) if place in in_redis else None
        for place, (item, score, read) in enumerate(zip(items, alone, hashes, strict=True))
    ]

    async def ask(chosen: Sequence[int], values: Sequence[bytes | None]) -> Known:
        async def cached(until_s: float) -> Sequence[bytes | None]:
            return values

        batcher, until_s = Batcher(BatchLimits(waiting=1_000)), time.monotonic() + 30
        batcher.start()
        names, named = tuple(ids[place] for place in chosen), [items[place] for place in chosen]
        beside = [told[place] for place in chosen]
        asked = Asked(query, names, named, 1, until_s, batcher, batcher, cached, lambda: beside)
        known = await student.known(asked)
        await asyncio.to_thread(batcher.close)
        return known

    asyncio.run(ask(sorted(in_memory), ()))
    known = asyncio.run(ask(range(len(items)), values))
    assert known.counts()["student_cache"] == len(in_memory | in_redis)
    assert known.counts()["computed"] == len(items) - len(in_memory | in_redis)
    assert np.abs(known.scores - np.array(alone, dtype=np.float32)).max() <= 1e-6
    for place in in_redis - in_memory:
        assert known.scores[place] == np.float32(alone[place])  # to the last bit


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(0, 2**32 - 1), st.data())
def test_a_heads_score_does_not_depend_on_the_other_rows(rows: int, seed: int, data: st.DataObject) -> None:
    features = np.random.default_rng(seed).normal(0, 3, (rows, len(FEATURES))).astype(np.float16).astype(np.float32)
    whole = Head.cold().score(features)
    chosen = data.draw(st.lists(st.integers(0, rows - 1), min_size=1, unique=True))
    assert Head.cold().score(features[chosen]).tolist() == whole[chosen].tolist()

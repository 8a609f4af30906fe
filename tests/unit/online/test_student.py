import asyncio
import time
from collections.abc import Sequence

import numpy as np
import pytest

from headrace import BundleMismatch
from headrace.online.batch import Batcher, BatchLimits, DeadlinePassed, Floats
from headrace.online.catalogue import Text
from headrace.online.student import Student, Vectors


def vector(text: str) -> Floats:
    made = np.array([len(text), sum(map(ord, text)) % 97, 1.0], dtype=np.float32)
    unit: Floats = made / np.linalg.norm(made)
    return unit


class Plain:
    """A stand-in for the encoder that counts."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> Floats:
        self.asked += texts
        return np.stack([vector(text) for text in texts])


def test_a_vector_serves_only_the_text_it_was_made_of() -> None:
    vectors = Vectors(1 << 20)
    vectors.put("a", 1, vector("red"))
    assert vectors.rows(["a", "b"], [Text("red", 1), Text("hat", 2)]).tolist() == [0, -1]
    assert vectors.rows(["a", "a"], [Text("blue", 2), None]).tolist() == [-1, -1]


def test_the_least_used_vector_leaves_and_the_bound_holds() -> None:
    vectors = Vectors(3 * (4 * 3 + 8))
    for number, item in enumerate("abc"):
        vectors.put(item, number, vector(item))
    assert vectors.full
    vectors.rows(["a"], [Text("a", 0)])
    vectors.put("d", 3, vector("d"))
    texts = [Text(item, number) for number, item in enumerate("abcd")]
    assert (vectors.rows(list("abcd"), texts) >= 0).tolist() == [True, False, True, True]
    assert len(vectors) == 3
    assert vectors.size_bytes <= 3 * (4 * 3 + 8)
    query = vector("q")
    scores = vectors.cosine(vectors.rows(list("abcd"), texts), query)
    assert np.isnan(scores[1])
    assert scores[[0, 2, 3]] == pytest.approx([float(vector(item) @ query) for item in "acd"])


def test_many_vectors_keep_their_places_as_the_array_grows() -> None:
    vectors = Vectors(1 << 20)
    for number in range(5_000):
        vectors.put(str(number), number, vector(str(number)))
    rows = vectors.rows([str(n) for n in range(5_000)], [Text(str(n), n) for n in range(5_000)])
    scores = vectors.cosine(rows, vector("x"))
    assert scores == pytest.approx([float(vector(str(n)) @ vector("x")) for n in range(5_000)], abs=1e-6)


def test_a_score_does_not_depend_on_the_others_in_the_request() -> None:
    random = np.random.default_rng(3)
    vectors = Vectors(1 << 22)
    for number in range(300):
        vectors.put(str(number), number, random.normal(size=384).astype(np.float32))
    query = random.normal(size=384).astype(np.float32)
    alone = [float(vectors.cosine(np.array([row]), query)[0]) for row in range(300)]
    assert vectors.cosine(np.arange(300), query).tolist() == alone


def test_a_query_is_encoded_once_and_a_missing_item_is_filled_behind() -> None:
    async def ask() -> None:
        plain, batcher = Plain(), Batcher(BatchLimits(waiting=8))
        student = Student(plain, Vectors(1 << 20))
        batcher.start()
        until = time.monotonic() + 5
        first, *_ = await student.query("red", batcher, until)
        again, waited_s, ran_s = await student.query("red", batcher, until)
        assert first.tolist() == again.tolist() == vector("red").tolist()
        assert (waited_s, ran_s) == (0.0, 0.0)
        assert student.fill([("a", Text("hat", 1))], batcher) == 1
        assert student.fill([("a", Text("hat", 1))], batcher) == 0  # it is on its way
        assert student.pending() == 1
        await student.query("blue", batcher, until)  # behind it in the queue
        assert student.vectors.rows(["a"], [Text("hat", 1)])[0] >= 0
        assert student.pending() == 0
        assert plain.asked == ["red", "hat", "blue"]
        await asyncio.to_thread(batcher.close)

    asyncio.run(asyncio.wait_for(ask(), 10))


def test_what_does_not_fit_into_the_queue_is_left_for_later() -> None:
    async def ask() -> None:
        batcher = Batcher(BatchLimits(waiting=3))  # not started: what is asked stays there
        student = Student(Plain(), Vectors(1 << 20))
        assert student.fill([(str(n), Text("x", n)) for n in range(10)], batcher) == 3
        assert student.pending() == 3

    asyncio.run(ask())


def test_a_query_that_cannot_be_had_in_time_says_so() -> None:
    async def ask() -> None:
        student = Student(Plain(), Vectors(1 << 20))
        batcher = Batcher()  # not started
        with pytest.raises(DeadlinePassed):
            await student.query("red", batcher, time.monotonic() + 0.01)
        with pytest.raises(DeadlinePassed):
            await student.query("red", batcher, time.monotonic() - 1)

    asyncio.run(ask())


def test_a_student_that_gives_nan_does_not_warm_up() -> None:
    class Broken:
        def encode(self, texts: Sequence[str]) -> Floats:
            return np.full((len(texts), 3), np.nan, dtype=np.float32)

    with pytest.raises(BundleMismatch):
        Student(Broken(), Vectors(1 << 20)).warm([("a", Text("red", 1))])


def test_a_warm_up_leaves_off_when_the_process_ends() -> None:
    plain = Plain()
    student = Student(plain, Vectors(1 << 20))
    items = [(str(number), Text(str(number), number)) for number in range(20)]
    assert student.warm(items, batch=8, ending=lambda: len(plain.asked) >= 8) == 8
    assert len(student.vectors) == 8

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.inputs import padded, shuffled_batches


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 7), st.integers(1, 4), st.integers(0, 5))
def test_each_row_is_in_one_batch(lengths: list[int], rows: int, pool: int, seed: int) -> None:
    found = shuffled_batches(lengths, rows, np.random.default_rng(seed), pool)
    assert sorted(np.concatenate([np.empty(0, np.int64), *found]).tolist()) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= rows for batch in found)
    again = shuffled_batches(lengths, rows, np.random.default_rng(seed), pool)
    assert all(np.array_equal(one, other) for one, other in zip(found, again, strict=True))


def test_rows_of_a_batch_are_of_like_length_and_batches_in_no_order() -> None:
    lengths = np.random.default_rng(0).integers(5, 60, 2_000)
    found = shuffled_batches(lengths, 32, np.random.default_rng(1))
    spread = np.mean([np.ptp(lengths[batch]) for batch in found])
    assert spread < 5
    means = [lengths[batch].mean() for batch in found]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.4


@given(st.lists(st.lists(st.integers(1, 9), max_size=6), max_size=5), st.sampled_from(["left", "right"]))
def test_padding_keeps_every_token_in_its_order(rows: list[list[int]], side: str) -> None:
    ids, mask = padded(rows, 0, "left" if side == "left" else "right")
    assert ids.shape == mask.shape == (len(rows), max(map(len, rows), default=0))
    for row, own, there in zip(rows, ids, mask, strict=True):
        assert own[there == 1].tolist() == row
        assert there.tolist() == sorted(there.tolist(), reverse=side == "right")
        assert (own[there == 0] == 0).all()

"""What a student minimises: the promises of its losses, over lists of any kind."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from headrace.models import losses, teacher

UNHURRIED = settings(deadline=None)  # the first call of an operation takes torch a while
LOGITS = st.floats(-8, 8, width=32)


@st.composite
def ragged(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Scores, aims and owners [B] of lists of 1 to 7 pairs, in any order."""
    sizes = draw(st.lists(st.integers(1, 7), min_size=1, max_size=6))
    count = sum(sizes)
    numbers = st.lists(LOGITS, min_size=count, max_size=count)
    owners = draw(st.permutations(np.repeat(np.arange(len(sizes)), sizes).tolist()))
    return np.array(draw(numbers)), np.array(draw(numbers)), np.array(owners)


def by_pairs(scores: NDArray[np.float64], aims: NDArray[np.float64], owners: NDArray[np.int64]) -> float:
    """The margin loss as it is written down: over all ordered pairs of a list."""
    total = 0.0
    for owner in np.unique(owners):
        apart = (scores - aims)[owners == owner]
        if len(apart) > 1:
            total += float(((apart[:, None] - apart[None, :]) ** 2).sum()) / (len(apart) * (len(apart) - 1))
    return total


def of(numbers: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(numbers).float()


@UNHURRIED
@given(ragged())
def test_the_linear_margin_loss_is_the_one_over_all_pairs(
    lists: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]],
) -> None:
    scores, aims, owners = lists
    found = losses.margin_loss(of(scores), of(aims), torch.from_numpy(owners))
    assert float(found) == pytest.approx(by_pairs(scores, aims, owners), rel=1e-6, abs=1e-6)


@UNHURRIED
@given(ragged(), st.data())
def test_a_constant_added_to_a_list_changes_nothing(
    lists: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]], data: st.DataObject
) -> None:
    scores, aims, owners = lists
    shifts = np.array(data.draw(st.lists(st.floats(-4, 4, width=32), min_size=8, max_size=8)))
    before = losses.margin_loss(of(scores), of(aims), torch.from_numpy(owners))
    after = losses.margin_loss(of(scores + shifts[owners]), of(aims), torch.from_numpy(owners))
    assert float(after) == pytest.approx(float(before), rel=1e-4, abs=1e-4)


@UNHURRIED
@given(ragged())
def test_the_gradients_of_a_list_sum_to_nothing(
    lists: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]],
) -> None:
    scores, aims, owners = lists
    given = of(scores).requires_grad_()
    loss = losses.margin_loss(given, of(aims), torch.from_numpy(owners))
    [gradient] = torch.autograd.grad(loss, given)
    sums = np.bincount(owners, weights=gradient.numpy().astype(np.float64))
    np.testing.assert_allclose(sums, 0, atol=1e-4)


@UNHURRIED
@given(st.lists(st.tuples(LOGITS, LOGITS), min_size=1, max_size=9))
def test_lists_of_one_cost_nothing(pairs: list[tuple[float, float]]) -> None:
    scores, aims = of(np.array(pairs)).T
    given = scores.clone().requires_grad_()
    loss = losses.margin_loss(given, aims, torch.arange(len(pairs)))
    assert loss.item() == 0
    assert torch.autograd.grad(loss, given)[0].abs().max() == 0


@UNHURRIED
@given(ragged())
def test_the_margin_loss_is_summed_in_float32_whatever_comes_in(
    lists: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]],
) -> None:
    scores, aims, owners = lists
    low = of(scores + 100).bfloat16()  # so far out that sums of squares in bfloat16 would hold nothing of the margins
    found = losses.margin_loss(low, of(aims), torch.from_numpy(owners))
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(by_pairs(low.double().numpy(), aims, owners), rel=1e-4, abs=1e-3)
    assert losses.point_loss(low, torch.rand(len(low)).bfloat16()).dtype == torch.float32


@UNHURRIED
@given(st.floats(0.001, 0.999), st.floats(-8, 8))
def test_soft_targets_are_met_best_by_themselves(target: float, logit: float) -> None:
    aim = float(np.log(target) - np.log1p(-target))
    values = torch.tensor([[aim], [logit], [aim - 0.1], [aim + 0.1]], dtype=torch.float64)
    whole = torch.ones((1, 1), dtype=torch.bool)
    goal = torch.tensor([target], dtype=torch.float64)
    best, other, below, above = (float(teacher.soft_loss(value[None], goal, whole)) for value in values)
    assert best <= other + 1e-9
    assert best < min(below, above)
    points = [float(losses.point_loss(value, goal)) for value in values]
    assert points[0] <= min(points) + 1e-5


@UNHURRIED
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-30, 1e-12, 1e-3, 1.0, 1e6]), st.floats(0.01, 8))
def test_a_push_has_its_length_and_leaves_padding_alone(seed: int, scale: float, size: float) -> None:
    random = torch.Generator().manual_seed(seed)
    gradient = scale * torch.randn((3, 5, 4), generator=random)
    gradient[1] = 0
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]])
    push = losses.disturbance(gradient, mask, size)
    lengths = push.flatten(1).norm(dim=1)
    assert lengths[[0, 2]].tolist() == pytest.approx([size, size], rel=1e-4)
    assert push[1].abs().max() == 0
    assert push[mask == 0].abs().max() == 0
    along = (push * gradient * mask[:, :, None]).flatten(1).sum(1)
    assert (along[[0, 2]] > 0).all()


@UNHURRIED
@given(st.lists(st.tuples(LOGITS, LOGITS), min_size=1, max_size=9))
def test_the_divergence_is_symmetric_and_nothing_where_scores_agree(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = of(np.array(pairs)).T
    found = losses.divergence(ours, theirs)
    assert float(found) >= 0
    assert float(found) == pytest.approx(float(losses.divergence(theirs, ours)), rel=1e-5)
    assert float(losses.divergence(ours, ours.clone())) == 0
    p, q = torch.sigmoid(ours.double()), torch.sigmoid(theirs.double())

    def kl(a: Tensor, b: Tensor) -> Tensor:
        return a * (a / b).log() + (1 - a) * ((1 - a) / (1 - b)).log()

    assert float(found) == pytest.approx(float((kl(p, q) + kl(q, p)).sum() / 2), rel=1e-4, abs=1e-5)

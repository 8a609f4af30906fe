"""What a student minimises, on logits. Plain torch, no model in it.

Shapes: B pairs, L lists; a list is the pairs of one query.

Source:
    The all-pairs margin of Walmart's student (https://arxiv.org/abs/2505.07105) in a form that is linear in the length
    of a list; the adversarial term of ei-SRC (https://arxiv.org/abs/2406.02135) on probabilities, where its public code
    takes logits.
"""

import torch
from torch import Tensor
from torch.nn import functional


def margin_loss(scores: Tensor, aims: Tensor, lists: Tensor) -> Tensor:
    """The mean over ordered pairs of a list of ((s_i - s_j) - (t_i - t_j))^2, summed over lists.

    With d = s - t that is 2 / (n - 1) times the sum of (d_i - mean d)^2: one pass, no n x n matrix. A constant added to
    the scores of a list changes nothing; a list of one costs nothing. In float32 whatever comes in: centring cancels.

    Args:
        scores: [B], the student's logits.
        aims: [B], the teacher's.
        lists: int64 [B], which list each pair belongs to, 0 .. L - 1.
    """
    apart = scores.float() - aims.float()
    count = int(lists.max()) + 1 if len(lists) else 0
    sizes = torch.zeros(count, device=apart.device).index_add_(0, lists, torch.ones_like(apart))
    means = torch.zeros(count, device=apart.device).index_add_(0, lists, apart) / sizes.clamp(min=1)
    squares = torch.zeros(count, device=apart.device).index_add_(0, lists, (apart - means[lists]) ** 2)
    return (2 * squares / (sizes - 1).clamp(min=1)).sum()


def point_loss(scores: Tensor, probabilities: Tensor) -> Tensor:
    """The binary cross-entropy of logits [B] against probabilities [B] (a teacher's, or soft labels); a sum."""
    return functional.binary_cross_entropy_with_logits(scores.float(), probabilities.float(), reduction="sum")


def disturbance(gradient: Tensor, mask: Tensor, size: float) -> Tensor:
    """A step of length ``size`` along each pair's gradient, [B, T, D]; none where the gradient is 0, none on padding.

    Args:
        gradient: [B, T, D], of the loss by the embeddings.
        mask: [B, T], 1 where there is a token.
        size: of a step.
    """
    kept = gradient.float() * mask[:, :, None]
    # By the largest first: squares of the small gradients of a large batch would be 0 in float32.
    peak = kept.abs().amax(dim=(1, 2), keepdim=True)
    kept = kept / torch.where(peak > 0, peak, 1.0)
    norm = kept.flatten(1).norm(dim=1)[:, None, None]
    push: Tensor = size * kept / norm.clamp(min=1.0)
    return push


def divergence(scores: Tensor, disturbed: Tensor) -> Tensor:
    """Half of the symmetric Kullback-Leibler divergence of Bernoulli variables with logits [B]; a sum, never below 0.

    (p - p') (z - z') / 2: the same number as the four logarithms, without taking any.
    """
    ours, theirs = scores.float(), disturbed.float()
    return ((torch.sigmoid(ours) - torch.sigmoid(theirs)) * (ours - theirs) / 2).sum()

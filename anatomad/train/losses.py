"""Losses of disentangled anatomy learning. All take volumes [batch, channel, x, y, z] and return a scalar."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Soft cross-entropy against tissue probabilities, averaged over voxels by ``weight`` [batch, 1, x, y, z]."""
    loss = -(target * F.log_softmax(logits.float(), 1)).sum(1, keepdim=True)
    return (loss * weight).sum() / weight.sum().clamp(min=1)


def dice(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """One minus the soft Dice over the whole batch, averaged over the tissues without background."""
    p = F.softmax(logits.float(), 1)[:, 1:]
    target = target[:, 1:]
    dims = (0, 2, 3, 4)
    overlap = 2 * (weight * p * target).sum(dims)
    total = (weight * (p.square() + target.square())).sum(dims)
    return 1 - (overlap / total.clamp(min=1)).mean()


def anatomy(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Agreement of an anatomy with a tissue map: cross-entropy plus Dice.

    Args:
        logits: [batch, tissue, x, y, z].
        target: Tissue probabilities, same shape.
        weight: How much each voxel counts [batch, 1, x, y, z]; the brain mask, say.
    """
    return cross_entropy(logits, target, weight) + dice(logits, target, weight)


def consistency(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference of two answers for one anatomy seen in two contrasts, in the brain."""
    difference = (F.softmax(first.float(), 1) - F.softmax(second.float(), 1)).square().sum(1, keepdim=True)
    return (difference * mask).sum() / mask.sum().clamp(min=1)


def usage(logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Divergence of the shares of the tissues used in the brain from those expected: keeps classes from collapsing."""
    dims = (0, 2, 3, 4)
    used = (F.softmax(logits.float(), 1) * mask).sum(dims)
    expected = (target * mask).sum(dims)
    used, expected = used / used.sum().clamp(min=1), expected / expected.sum().clamp(min=1)
    return (expected * ((expected + 1e-4) / (used + 1e-4)).log()).sum()


def reconstruction(image: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute difference over ``weight`` plus half of that of the gradients, which keeps tissue borders sharp."""
    difference = (image.float() - target) * weight
    gradient = sum(difference.diff(dim=d).abs().sum() for d in (2, 3, 4))
    return (difference.abs().sum() + 0.5 * torch.as_tensor(gradient)) / weight.sum().clamp(min=1)

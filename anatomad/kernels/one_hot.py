"""Differentiable one-hot: a hard choice forward, the softmax's gradient backward."""

from __future__ import annotations

import torch
from torch import Tensor

from anatomad.kernels import _checks, _ops


def one_hot(label: Tensor, classes: int) -> Tensor:
    """Float one-hot [batch, class, *spatial] of a label map [batch, 1, *spatial]."""
    index = torch.arange(classes, device=label.device, dtype=label.dtype)
    return (label == index.view(1, -1, *[1] * (label.ndim - 2))).float()


def one_hot_argmax(logits: Tensor, temperature: float = 1.0, gumbel_seed: int | None = None) -> Tensor:
    """One-hot of the largest logit, with a straight-through gradient.

    Forward ``y = e_argmax(logits)``; backward, with ``p = softmax(logits / temperature)``,
    ``dL/dlogits_k = p_k (g_k - sum_j p_j g_j) / temperature`` (Jang et al., ICLR 2017; Bengio et al., 2013).

    Args:
        logits: Class scores [batch, class, *spatial], floating point, 2D or 3D, at most 256 classes.
        temperature: Softness of the gradient, > 0. Small values reach undecided voxels only.
        gumbel_seed: Adds Gumbel noise before the choice, and to the softmax of the gradient (straight-through Gumbel
            softmax). The noise is a function of the seed and the voxel: the same on every backend and device.

    Returns:
        One-hot tensor like ``logits``; the lowest index wins ties, NaN as in :func:`anatomad.kernels.label_map`.

    Raises:
        ValueError: wrong rank, integer logits, too many classes, or a temperature that is not positive.
    """
    _checks.scores(logits, "logits")
    _checks.positive(temperature, "temperature")
    return _ops.one_hot_argmax(logits, temperature, gumbel_seed)

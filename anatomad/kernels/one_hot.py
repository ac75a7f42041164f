"""Differentiable one-hot: a hard choice forward, the softmax's gradient backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from anatomad.kernels.label_map import label_map


def one_hot(label: Tensor, classes: int) -> Tensor:
    """Float one-hot [batch, class, *spatial] of a label map [batch, 1, *spatial]."""
    index = torch.arange(classes, device=label.device, dtype=label.dtype)
    return (label == index.view(1, -1, *[1] * (label.ndim - 2))).float()


class _OneHotArgmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, temperature: float) -> Tensor:
        ctx.save_for_backward(logits)
        ctx.temperature = temperature
        return one_hot(label_map(logits), logits.shape[1]).to(logits.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (logits,) = ctx.saved_tensors
        upstream = gradients[0].float()
        p = F.softmax(logits.float() / ctx.temperature, dim=1)
        gradient = p * (upstream - (p * upstream).sum(1, keepdim=True)) / ctx.temperature
        return gradient.to(logits.dtype), None


def _gumbel_like(logits: Tensor, seed: int) -> Tensor:
    generator = torch.Generator(logits.device).manual_seed(seed)
    uniform = torch.rand(logits.shape, generator=generator, device=logits.device)
    return -torch.log(-torch.log(uniform.clamp(1e-7, 1 - 1e-7)))


def one_hot_argmax(logits: Tensor, temperature: float = 1.0, gumbel_seed: int | None = None) -> Tensor:
    """One-hot of the largest logit, with a straight-through gradient.

    Forward ``y = e_argmax(logits)``; backward, with ``p = softmax(logits / temperature)``,
    ``dL/dlogits_k = p_k (g_k - sum_j p_j g_j) / temperature`` (Jang et al., ICLR 2017; Bengio et al., 2013).

    Args:
        logits: Class scores [batch, class, *spatial], floating point, 2D or 3D.
        temperature: Softness of the gradient, > 0. Small values reach undecided voxels only.
        gumbel_seed: Adds Gumbel noise drawn from this seed before the choice (straight-through Gumbel softmax).

    Returns:
        One-hot tensor like ``logits``; the lowest index wins ties.

    Raises:
        ValueError: wrong rank, integer logits or a temperature that is not positive.
    """
    if logits.ndim not in (4, 5) or not logits.is_floating_point():
        raise ValueError(
            "logits must be floating point [batch, class, *spatial] in 2D or 3D, "
            f"got {logits.dtype} {list(logits.shape)}"
        )
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    if gumbel_seed is not None:
        logits = logits + _gumbel_like(logits, gumbel_seed).to(logits.dtype)
    apply: Callable[[Tensor, float], Tensor] = _OneHotArgmax.apply
    return apply(logits, temperature)

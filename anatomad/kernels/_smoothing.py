"""A gradient that reaches beyond the voxels it arises at."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _SmoothGradient(torch.autograd.Function):
    """Identity forward; backward the tent filter, which is its own transpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, radii: tuple[int, ...]) -> Tensor:
        ctx.radii = radii
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return tent(gradient, ctx.radii), None


def smooth_gradient(x: Tensor, spacing: tuple[float, ...], reach: float) -> Tensor:
    """``x`` itself, whose gradient reaches ``reach`` mm farther along each spatial axis.

    The gradient ``g`` becomes ``B g`` with ``B = prod_d B_d``, ``r_d = round(reach / spacing_d)`` and
    ``B_d(p, q) = max(0, r_d + 1 - |p_d - q_d|) / (r_d + 1)^2``, nothing beyond the border. ``B`` is symmetric and
    positive definite (the tent is a box filter times its transpose), so ``<g, B g> > 0``: a step against the smoothed
    gradient descends like one against ``g``, with a smoother field of steps (Sundaramoorthi et al., Sobolev active
    contours, IJCV 2007).

    Args:
        x: [batch, channel, *spatial], floating point.
        spacing: Voxel size in mm along each spatial axis.
        reach: In mm, >= 0; less than half of every voxel changes nothing.
    """
    radii = tuple(round(reach / s) for s in spacing)
    result: Tensor = _SmoothGradient.apply(x, radii) if any(radii) else x  # type: ignore[no-untyped-call]
    return result


def tent(x: Tensor, radii: tuple[int, ...]) -> Tensor:
    """Separable tent filter over the spatial axes, in at least float32, as if zeros lay beyond the border."""
    result = x if x.dtype == torch.float64 else x.float()
    for dim, radius in enumerate(radii, start=2):
        if radius == 0:
            continue
        source, result = result, result / (radius + 1)
        for shift in range(1, min(radius, x.shape[dim] - 1) + 1):
            weight, left = (radius + 1 - shift) / (radius + 1) ** 2, x.shape[dim] - shift
            result.narrow(dim, shift, left).add_(source.narrow(dim, 0, left), alpha=weight)
            result.narrow(dim, 0, left).add_(source.narrow(dim, shift, left), alpha=weight)
    return result.to(x.dtype)

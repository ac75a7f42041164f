"""Label-change edges of a one-hot anatomy: its high-frequency information."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def edges(one_hot: Tensor, spacing: tuple[float, ...], *, per_class: bool = False) -> Tensor:
    """Thin edges between neighbouring voxels, one channel per axis.

    Along axis ``d`` the "any" edge is ``w_d (1 - <a(p), a(p + e_d)>)`` and the edge of class ``k`` is
    ``w_d (a_k(p) - a_k(p + e_d))^2``. For one-hot input both are ``w_d`` where the label (or class membership) changes
    and 0 elsewhere; both are smooth in ``a``, so gradients reach the logits through :func:`one_hot_argmax`.
    The weight ``w_d = min(spacing) / spacing_d`` makes an edge across thick slices count less.

    Args:
        one_hot: Anatomy [batch, class, *spatial], 2D or 3D.
        spacing: Voxel size in mm along each spatial axis.
        per_class: Return each class's edges instead of those of any class.

    Returns:
        [batch, axes, *spatial], or [batch, axes * class, *spatial] per class (axis-major); values in [0, 1].
        The last voxel along an axis has no neighbour and no edge.

    Raises:
        ValueError: rank and spacing that do not fit, or a spacing that is not positive.
    """
    axes = one_hot.ndim - 2
    if axes not in (2, 3) or len(spacing) != axes:
        raise ValueError(
            f"need one spacing per spatial axis of a 2D or 3D map, got {list(one_hot.shape)} and {spacing}"
        )
    if min(spacing) <= 0:
        raise ValueError(f"spacing must be positive, got {spacing}")
    channels = []
    for axis in range(axes):
        dim = axis + 2
        size = one_hot.shape[dim]
        here, there = one_hot.narrow(dim, 0, size - 1), one_hot.narrow(dim, 1, size - 1)
        change = (here - there) ** 2 if per_class else 1 - (here * there).sum(1, keepdim=True)
        padding = [0, 0] * (axes - 1 - axis) + [0, 1]
        channels.append(F.pad(change * (min(spacing) / spacing[axis]), padding))
    return torch.cat(channels, 1)

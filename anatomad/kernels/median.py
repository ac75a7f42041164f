"""Median filter of a score map."""

from __future__ import annotations

import torch
from torch import Tensor

from anatomad.kernels import _ops

_SIZES = (1, 3, 5, 7)
_LEVELS = 65535


def median(score: Tensor, size: int = 5) -> Tensor:
    """Exact median of the cube (2D: square) around every voxel; the border is repeated.

    uint8 and uint16 maps are filtered as they are. A floating-point map is first quantised to uint16 between its
    smallest and largest value; the result is within half a step, ``(max - min) / 131070``, of the exact median.

    Args:
        score: [batch, channel, *spatial], 2D or 3D; uint8, uint16 or finite floating point.
        size: Voxels along the window's side: 1, 3, 5 or 7.

    Returns:
        Like ``score``; there is no gradient.

    Raises:
        ValueError: wrong rank, type or size, or a value that is not finite.
    """
    if score.ndim not in (4, 5):
        raise ValueError(f"score must be [batch, channel, *spatial] in 2D or 3D, got {list(score.shape)}")
    if size not in _SIZES:
        raise ValueError(f"size must be one of {_SIZES}, got {size}")
    if score.dtype in (torch.uint8, torch.uint16):
        return _ops.median(score, size)
    if not score.is_floating_point():
        raise ValueError(f"score must be uint8, uint16 or floating point, got {score.dtype}")
    if score.numel() == 0:
        return score.clone()
    wide = score.detach() if score.dtype == torch.float64 else score.detach().float()
    low, high = wide.min(), wide.max()
    step = (high - low) / _LEVELS
    if not torch.isfinite(step):
        raise ValueError(f"score must be finite, got values from {float(low)} to {float(high)}")
    # A constant map has no step; any will do, since every level is 0.
    safe = torch.where(step > 0, step, torch.ones_like(step))
    levels = _ops.median(((wide - low) / safe).round().to(torch.uint16), size)
    return (levels.to(wide.dtype) * step + low).to(score.dtype)

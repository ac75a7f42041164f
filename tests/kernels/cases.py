"""Inputs that the operators' tests share, and how far from the truth a backend may be."""

from __future__ import annotations

import torch
from torch import Tensor

# 2D and 3D, odd, prime and single sizes, rows beyond one piece, an innermost axis of one voxel, nothing at all.
SHAPES = [
    (2, 4, 7, 13),
    (1, 9, 3, 131),
    (1, 2, 5, 300),
    (1, 2, 1, 6),
    (2, 3, 5, 7, 11),
    (1, 9, 19, 18, 101),
    (2, 3, 10, 11, 1),
    (1, 3, 1, 1, 1),
    (0, 3, 4, 4),
    (1, 3, 0, 4, 4),
]
HALVES = (torch.bfloat16, torch.float16)
FLOATS = (torch.float32, *HALVES)
SPACING = (1.0, 2.5, 0.8)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def patches(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Logits whose label map has regions of several voxels, as tissues do."""
    noise = normal(*shape, seed=seed)
    for dim in range(2, noise.ndim):
        noise = noise + noise.roll(1, dim) + noise.roll(2, dim)
    return (noise / 3).to(dtype)


def spacing(x: Tensor) -> tuple[float, ...]:
    return SPACING[: x.ndim - 2]


def assert_as_good_as_framework(result: Tensor, framework: Tensor, truth: Tensor) -> None:
    """At most twice the error of framework code in the same type, plus 1e-6 (float32) or 1e-2 (halves)."""
    assert result.dtype == framework.dtype
    assert result.shape == truth.shape
    if truth.numel():
        allowed = 2 * (framework.double() - truth).abs().max() + (1e-6 if result.dtype == torch.float32 else 1e-2)
        assert (result.double() - truth).abs().max() <= allowed

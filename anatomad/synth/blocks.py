"""Blocks of a chequer-board in space: restoration learns to fill one from its neighbours (Zavrtanik et al., RIAD)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BLOCK_MM = 18.0  # wider than a plaque, and narrower than what can be restored across


def chequered(
    shape: Sequence[int],
    spacing_mm: Sequence[float],
    device: torch.device,
    offset_mm: Sequence[float] = (0.0, 0.0, 0.0),
) -> Tensor:
    """Every other block of a volume [x, y, z], bool.

    Args:
        shape: Of the volume.
        spacing_mm: Of its voxels.
        device: Where the result lies.
        offset_mm: Where along each axis the first voxel lies in the pattern, which repeats after two blocks.
    """
    blocks = [
        ((torch.arange(n, device=device) * mm + offset) / BLOCK_MM)
        .long()
        .view([-1 if a == axis else 1 for a in range(3)])
        for axis, (n, mm, offset) in enumerate(zip(shape, spacing_mm, offset_mm, strict=True))
    ]
    return sum(blocks, torch.zeros((), dtype=torch.long, device=device)) % 2 == 0

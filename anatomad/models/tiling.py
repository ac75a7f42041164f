"""Whole volumes through a network that was trained on patches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor

_STEP = 0.75  # of a patch, at most, from one tile to the next


def _starts(low: int, high: int, size: int, patch: int) -> list[int]:
    """First voxels of the tiles that cover [low, high) of an axis."""
    extent = high - low
    if extent <= patch:
        starts = [low - (patch - extent) // 2]
    else:
        count = math.ceil((extent - patch) / (_STEP * patch)) + 1
        starts = [low + round(i * (extent - patch) / (count - 1)) for i in range(count)]
    return sorted({min(max(start, 0), size - patch) for start in starts})


def _window(patch: Sequence[int], device: torch.device) -> Tensor:
    """Weight of a tile's voxels: falls linearly towards its faces, where the network lacks context."""
    axes = [torch.minimum(torch.arange(1, n + 1), torch.arange(n, 0, -1)).to(device, torch.float32) for n in patch]
    return axes[0][:, None, None] * axes[1][None, :, None] * axes[2][None, None, :]


def tiled(network: Callable[[Tensor], Tensor], volume: Tensor, mask: Tensor, patch: Sequence[int]) -> Tensor:
    """Answer of ``network`` for a whole volume, from overlapping tiles of the size it was trained on.

    Normalisation layers see what a patch holds, so a whole volume, mostly background, would be foreign to them.

    Args:
        network: Maps [1, channel, *patch] to [1, class, *patch].
        volume: Input [1, channel, x, y, z], no side smaller than the patch's.
        mask: Brain [1, 1, x, y, z], bool, not empty; tiles cover its bounding box.
        patch: Size of a tile in voxels.

    Returns:
        Weighted mean of the tiles' answers [1, class, x, y, z], float32; 0 beyond the tiles.
    """
    inside = mask[0, 0].nonzero()
    low, high = inside.min(0).values.tolist(), (inside.max(0).values + 1).tolist()
    sides = volume.shape[2:]
    sizes = [min(p, n) for p, n in zip(patch, sides, strict=True)]
    window, total = _window(sizes, volume.device), torch.zeros(sides, device=volume.device)
    answer = torch.zeros((), device=volume.device)
    axes = [_starts(a, b, n, p) for a, b, n, p in zip(low, high, sides, sizes, strict=True)]
    for start in product(*axes):
        x, y, z = (slice(s, s + p) for s, p in zip(start, sizes, strict=True))
        tile = network(volume[:, :, x, y, z]).float() * window
        if answer.ndim == 0:
            answer = answer.new_zeros((1, tile.shape[1], *sides))
        answer[:, :, x, y, z] += tile
        total[x, y, z] += window
    return answer / total.clamp(min=1)

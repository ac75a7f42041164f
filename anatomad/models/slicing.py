"""Whole volumes through a network that was trained on slices."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from anatomad.planner.plan import SLICES


def sliced(network: Callable[[Tensor], Tensor], volume: Tensor, mask: Tensor, axis: int, size: Sequence[int]) -> Tensor:
    """Answer of ``network`` for every slice of a volume across one axis.

    Args:
        network: Maps slices [slice, channel, u, v, 1] to [slice, class, u, v, 1], sides that divide by its stride.
        volume: Input [1, channel, x, y, z].
        mask: Brain [1, 1, x, y, z], bool, not empty; slices without brain are left out.
        axis: 0, 1 or 2: the one that slices are numbered along.
        size: Slices (u, v) are padded with zeros, half at each end, to this size, the one the network was trained on:
            training has the brain in the middle too.

    Returns:
        [1, class, x, y, z], float32; 0 in slices without brain.
    """
    slices = volume.movedim(2 + axis, 0)[:, 0, ..., None]
    sides = slices.shape[2:4]
    (left, right), (above, below) = (_ends(side, wanted) for side, wanted in zip(sides, size[:2], strict=True))
    padding = [0, 0, above, below, left, right]
    chosen = mask.movedim(2 + axis, 0).flatten(1).any(1).nonzero()[:, 0]
    answers = [
        network(F.pad(slices[part], padding))[:, :, left : left + sides[0], above : above + sides[1], 0].float()
        for part in chosen.split(SLICES)
    ]
    answer = torch.zeros(len(slices), *answers[0].shape[1:], device=volume.device)
    answer[chosen] = torch.cat(answers)
    return answer.movedim(0, -1)[None].movedim(-1, 2 + axis)


def _ends(side: int, wanted: int) -> tuple[int, int]:
    """What is added before and after a side to make it as long as wanted."""
    missing = max(0, wanted - side)
    return missing // 2, missing - missing // 2

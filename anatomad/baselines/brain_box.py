"""Maps of the healthy brain, voxel by voxel of its bounding box: what the methods that only average have learnt.

A brain's box is mapped onto the atlas's: translation and scale along each axis.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from anatomad.models.dal import brain_position
from anatomad.planner.plan import Plan, Shape
from anatomad.predict.field import position_in_brain
from anatomad.synth.draws import FWHM, gaussian_blur

_SMOOTHING_MM = 3.0


def at_brain(atlas: Tensor, mask: Tensor) -> Tensor:
    """An atlas [channel, ...] at the voxels of a scan with brain ``mask`` [x, y, z]: [channel, x, y, z]."""
    points = position_in_brain(mask).flip(0).movedim(0, -1)[None]
    return F.grid_sample(atlas[None], points, padding_mode="border", align_corners=True)[0]


def at_box(volumes: Tensor, mask: Tensor, shape: Shape) -> Tensor:
    """Volumes [channel, x, y, z] of a brain ``mask`` on an atlas's grid: [channel, *shape]."""
    sides = torch.tensor(mask.shape, device=mask.device)
    inside = mask.nonzero().float()
    low, high = inside.min(0).values, inside.max(0).values
    ends = torch.tensor(shape, device=mask.device).float() - 1
    place = brain_position((slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])), 0 * ends, ends)
    voxel = (place.movedim(0, -1) + 1) / 2 * (high - low) + low
    points = (2 * voxel / (sides - 1) - 1).flip(-1)[None]
    return F.grid_sample(volumes[None], points, padding_mode="border", align_corners=True)[0]


def moments(pairs: Iterable[tuple[Tensor, Tensor]], plan: Plan) -> tuple[Tensor, Tensor]:
    """Weighted mean and SD [channel, *box] of volumes on an atlas's grid, smoothed by 3 mm.

    Args:
        pairs: Values [channel, *box] and weights [1, *box] or the like, at least one pair.
        plan: Spacing in mm.
    """
    sigma = [_SMOOTHING_MM / FWHM / mm for mm in plan.spacing_mm]
    sums: list[Tensor] = []
    for values, weight in pairs:
        terms = [weight, values * weight, values.square() * weight]
        sums = [a + b for a, b in zip(sums, terms, strict=True)] if sums else terms
    total, mean, square = (gaussian_blur(part[None], (sigma[0], sigma[1], sigma[2]))[0] for part in sums)
    mean, square = mean / total.clamp(min=1e-3), square / total.clamp(min=1e-3)
    return mean, (square - mean.square()).clamp(min=0).sqrt()

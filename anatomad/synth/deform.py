"""Random affine and elastic deformation of a stored case, sampled straight into a training patch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from anatomad.planner.plan import Plan, Randomisation
from anatomad.synth.draws import Draws

_CELL_MM = 24.0
_FILLED = 0.95  # of the brain box: the outermost slices hold next to nothing


@dataclass(frozen=True)
class CaseVolumes:
    """A training case on the device.

    Attributes:
        tissue_and_image: Probabilities of the tissues without background, then the image [tissue, x, y, z].
        low: Lower bound of the brain [3] in voxels, on the CPU.
        high: Upper bound of the brain [3] in voxels, on the CPU.
    """

    tissue_and_image: Tensor
    low: Tensor
    high: Tensor


@dataclass(frozen=True)
class Patch:
    """Deformed pieces of cases, each [batch, channel, ...]: tissue (4), image (1), mask (1) and position (3)."""

    tissue: Tensor
    image: Tensor
    mask: Tensor
    position: Tensor


def stacked(patches: Sequence[Patch]) -> Patch:
    """Several patches of one size as one batch."""
    parts = ([getattr(patch, field.name) for patch in patches] for field in fields(Patch))
    return Patch(*(torch.cat(part) for part in parts))


def _linear_map(draws: Draws, ranges: Randomisation) -> tuple[Tensor, float]:
    angles = [math.radians(draws.uniform(*ranges.rotation_deg)) for _ in range(3)]
    matrix = torch.eye(3)
    for axis, angle in enumerate(angles):
        i, j = [a for a in range(3) if a != axis]
        turn = torch.eye(3)
        turn[i, i] = turn[j, j] = math.cos(angle)
        turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
        matrix = turn @ matrix
    scale = draws.uniform(*ranges.scaling)
    if draws.chance(0.5):
        matrix[:, 0] *= -1  # left and right are exchangeable in health
    return matrix, scale


def draw_patch(case: CaseVolumes, plan: Plan, draws: Draws) -> Patch:
    """Deform a case and cut a patch of the plan's size at a random place that touches the brain.

    In a 2D configuration it is a slice across a random axis; that axis becomes the patch's last one.

    Positions are those of the undeformed patch in the scaled brain box, so a rotated or warped brain is as
    imprecisely placed in its box as real ones are.
    """
    ranges, device = plan.randomisation, case.tissue_and_image.device
    spacing = torch.tensor(plan.spacing_mm)
    shape = torch.tensor(case.tissue_and_image.shape[1:], dtype=torch.float32)
    matrix, scale = _linear_map(draws, ranges)
    low, high = case.low, case.high
    centre, extent = (low + high) / 2, (high - low) * scale
    across = draws.integer(0, 2) if plan.dimension == 2 else 2
    order = [axis for axis in range(3) if axis != across] + [across]  # the patch's axes among the case's
    room = (_FILLED * extent[order] - torch.tensor(plan.patch)).clamp(min=0) / 2
    shift = torch.tensor([draws.uniform(-1, 1) for _ in range(3)]) * room
    axes = [
        (torch.arange(n, dtype=torch.float32) - (n - 1) / 2 + s) * d
        for n, s, d in zip(plan.patch, shift, spacing[order], strict=True)
    ]
    offsets = torch.meshgrid(*axes, indexing="ij")
    offset_mm = torch.stack([offsets[order.index(axis)] for axis in range(3)], -1).to(device)
    half_extent_mm = (extent / 2 * spacing).clamp(min=1).to(device)
    position = (offset_mm / half_extent_mm).movedim(-1, 0)[None]
    source = offset_mm @ (matrix.T / scale).to(device)
    amplitude = draws.uniform(*ranges.elastic_mm)
    cells = tuple(max(2, int(n * d / _CELL_MM)) for n, d in zip(plan.patch, plan.spacing_mm, strict=True))
    source = source + amplitude * draws.field(plan.patch, cells, 3).movedim(0, -1)
    voxel = source / spacing.to(device) + centre.to(device)
    grid = (2 * voxel / (shape.to(device) - 1) - 1).flip(-1)[None]
    volumes = case.tissue_and_image[None]
    sampled = F.grid_sample(volumes, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    tissue, image = sampled[:, :-1].clamp(min=0), sampled[:, -1:]
    mask = tissue.sum(1, keepdim=True) > 0.5
    tissue = torch.where(mask, tissue / tissue.sum(1, keepdim=True).clamp(min=1e-3), 0.0)
    return Patch(torch.cat([(~mask).float(), tissue], 1), torch.where(mask, image, 0.0), mask, position)

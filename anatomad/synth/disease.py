"""Lesions as diseases make them: plaques, infarcts, and tumours with oedema that displace what is around them.

A score is chosen on them. They are not those that training paints (:mod:`anatomad.synth.lesions`): what a network has
learnt to look past would flatter every score. Their brightness follows from the scan's own tissues, towards CSF as
water makes it or away from it, so that no sequence and no polarity is preferred.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from anatomad.planner.plan import TISSUES, Plan
from anatomad.synth.deform import Patch
from anatomad.synth.draws import Draws
from anatomad.synth.lesions import blob, seed_voxel

_CSF, _GREY, _WHITE = (TISSUES.index(name) for name in ("csf", "grey matter", "white matter"))
_PURE = 0.8  # share of a voxel
_PLAQUES = (4, 14)
_NEAR_CSF_SHARE, _NEAR_CSF_MM = 0.6, 12.0
_NECROSIS_SHARE = 0.6
_MOST_PUSHED = 0.25  # of a tumour's diameter
_AWAY_SHARE = 0.3


Matter = Literal["watery", "solid", "liquid"]


class Part(NamedTuple):
    """How much of every voxel [x, y, z] a part of a lesion takes, 0 to 1, and what it is made of."""

    weight: Tensor
    matter: Matter


class Diseased(NamedTuple):
    """A brain, displaced where a lesion pushes it, and the parts of its lesions."""

    patch: Patch
    parts: list[Part]


def plaques(patch: Patch, draws: Draws, plan: Plan) -> Diseased:
    """Several small lesions of white matter, more of them near CSF than not."""
    white = patch.tissue[0, _WHITE] > _PURE
    near = white & within(patch.tissue[0, _CSF] > _PURE, _NEAR_CSF_MM, plan)
    parts = []
    for _ in range(draws.integer(*_PLAQUES)):
        where = near if draws.chance(_NEAR_CSF_SHARE) and bool(near.any()) else white
        depth = blob(patch, _centre(where, patch, draws), draws, plan, draws.uniform(*plan.corruption.small_mm))
        parts.append(Part((depth / 0.3).clamp(0, 1), "watery"))
    return Diseased(patch, parts)


def infarct(patch: Patch, draws: Draws, plan: Plan) -> Diseased:
    """A ragged territory of cortex and what lies beneath."""
    low, high = plan.corruption.large_mm
    centre = _centre(patch.tissue[0, _GREY] > _PURE, patch, draws)
    depth = blob(patch, centre, draws, plan, draws.uniform(low, (low + high) / 2))
    shape = tuple(depth.shape)
    ragged = draws.field(shape, tuple(max(3, int(n * mm / 8)) for n, mm in zip(shape, plan.spacing_mm, strict=True)))
    return Diseased(patch, [Part(((depth + 0.3 * ragged[0]) / 0.2).clamp(0, 1), "watery")])


def tumour(patch: Patch, draws: Draws, plan: Plan) -> Diseased:
    """A core, often with necrosis, in oedema that keeps to white matter; all around is pushed outwards."""
    low, high = plan.corruption.large_mm
    diameter = draws.uniform(low, 0.8 * high)
    centre = _centre(patch.tissue[0, _WHITE] > _PURE, patch, draws)
    patch = _pushed(patch, centre, diameter, draws.uniform(0, _MOST_PUSHED) * diameter, plan)
    core = blob(patch, centre, draws, plan, diameter)
    oedema = blob(patch, centre, draws, plan, diameter * draws.uniform(1.3, 2.0))
    oedema = oedema - 0.8 * (1 - patch.tissue[0, _WHITE])
    parts = [Part((oedema / 0.25).clamp(0, 1), "watery"), Part((core / 0.15).clamp(0, 1), "solid")]
    if draws.chance(_NECROSIS_SHARE):
        parts.append(Part(((core - draws.uniform(0.25, 0.6)) / 0.15).clamp(0, 1), "liquid"))
    return Diseased(patch, parts)


Disease = Callable[[Patch, Draws, Plan], Diseased]

DISEASES: tuple[Disease, ...] = (plaques, infarct, tumour)


def painted(image: Tensor, diseased: Diseased, draws: Draws) -> Tensor:
    """The image [1, 1, x, y, z] of a brain with its lesions in it.

    Args:
        image: Of ``diseased.patch``, about [0, 1], without noise.
        diseased: What to paint.
        draws: Randomness.
    """
    patch = diseased.patch
    means = [_median(image[0, 0][patch.tissue[0, tissue] > _PURE]) for tissue in (_CSF, _GREY, _WHITE)]
    shape = tuple(image.shape[2:])
    for weight, matter in diseased.parts:
        share = weight * draws.uniform(0.6, 1.0) * patch.mask
        texture = 0.05 * draws.field(shape, tuple(max(3, n // 4) for n in shape))[None]
        image = image * (1 - share) + share * (_BRIGHTNESS[matter](means, draws) + texture)
    return image


def _watery(means: list[float], draws: Draws) -> float:
    csf, _, white = means
    if draws.chance(_AWAY_SHARE):  # as where free water is suppressed but bound water is not
        return white - draws.uniform(0.3, 0.8) * (csf - white)
    return white + draws.uniform(0.2, 0.9) * (csf - white)


def _solid(means: list[float], draws: Draws) -> float:
    csf, grey, _ = means
    return grey + draws.uniform(-0.6, 0.6) * (csf - grey)


def _liquid(means: list[float], draws: Draws) -> float:
    csf, grey, _ = means
    return csf + draws.uniform(0, 0.4) * (grey - csf)


_BRIGHTNESS: dict[Matter, Callable[[list[float], Draws], float]] = {
    "watery": _watery,
    "solid": _solid,
    "liquid": _liquid,
}


def _median(values: Tensor) -> float:
    return float(values.median()) if values.numel() else 0.5


def _centre(where: Tensor, patch: Patch, draws: Draws) -> Tensor:
    """A voxel of a region, or of the brain where there is no such region."""
    return seed_voxel((where if bool(where.any()) else patch.mask[0, 0]).nonzero(), draws)


def within(region: Tensor, mm: float, plan: Plan) -> Tensor:
    """What lies within a box of so many mm around a region."""
    found = region[None, None].float()
    for axis, spacing in enumerate(plan.spacing_mm):
        reach = [round(mm / spacing) if a == axis else 0 for a in range(3)]
        x, y, z = (2 * r + 1 for r in reach)
        found = F.max_pool3d(found, (x, y, z), 1, reach)
    return found[0, 0] > 0


def _pushed(patch: Patch, centre: Tensor, diameter: float, by_mm: float, plan: Plan) -> Patch:
    """The brain with its inside pushed away from a centre, most at half a diameter from it."""
    device, shape = patch.mask.device, patch.mask.shape[2:]
    spacing = torch.tensor(plan.spacing_mm, device=device)
    axes = torch.meshgrid(*(torch.arange(n, device=device, dtype=torch.float32) for n in shape), indexing="ij")
    voxel = torch.stack(axes, -1)
    offset = (voxel - centre.to(device)) * spacing
    distance = offset.norm(dim=-1, keepdim=True).clamp(min=1e-3)
    push = by_mm * torch.exp(-((distance / (1.1 * diameter)) ** 2)) * (1 - torch.exp(-((4 * distance / diameter) ** 2)))
    source = voxel - push * offset / distance / spacing
    grid = (2 * source / (torch.tensor(shape, device=device) - 1) - 1).flip(-1)[None]
    moved = F.grid_sample(torch.cat([patch.tissue[:, 1:], patch.image], 1), grid, align_corners=True)
    tissue = moved[:, :-1].clamp(min=0) + 1e-6
    tissue = tissue / tissue.sum(1, keepdim=True) * patch.mask
    whole = torch.cat([(~patch.mask).float(), tissue], 1)
    return Patch(whole, moved[:, -1:] * patch.mask, patch.mask, patch.position)

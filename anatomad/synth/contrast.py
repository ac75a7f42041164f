"""Contrast randomisation: an anatomy seen through imaging that no scanner has (after SynthSeg, Billot et al., 2023)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from anatomad.kernels import contrast
from anatomad.planner.plan import Plan, Randomisation
from anatomad.synth.deform import Patch
from anatomad.synth.draws import FWHM, Draws, gaussian_blur

_KNOTS = 5
_REAL_SHARE = 0.35
_MIN_CONTRAST = 0.15
_REGIONAL = (
    0.04  # how far a tissue's mean may drift over the brain: deep and cortical grey matter differ in most sequences
)


def _tissue_means(draws: Draws, ranges: Randomisation, tissues: int) -> list[float]:
    """Means of the tissues, redrawn until every neighbour pair can be told apart."""
    for _ in range(20):
        means = [draws.uniform(*ranges.class_mean) for _ in range(tissues)]
        if all(abs(a - b) >= _MIN_CONTRAST for a, b in pairwise(means)):
            break
    return means


def from_tissue(patch: Patch, draws: Draws, ranges: Randomisation) -> Tensor:
    """Image [1, 1, ...] drawn from a tissue map: random means, drift over the brain and texture per tissue."""
    device, tissues = patch.tissue.device, patch.tissue.shape[1] - 1
    means = torch.tensor([0.0, *_tissue_means(draws, ranges, tissues)], device=device)
    spreads = torch.tensor([0.0] + [draws.uniform(*ranges.class_spread)] * tissues, device=device)
    regional = torch.tensor([draws.uniform(0, _REGIONAL) for _ in range(tissues)], device=device)
    drift = regional.view(-1, 1, 1, 1) * draws.field(tuple(patch.tissue.shape[2:]), (4, 4, 4), tissues)
    seed, none = draws.integer(0, 2**62), torch.zeros_like(means)
    # Texture goes on over neighbouring voxels, while the tissues' borders stay sharp: each is drawn on its own.
    image = contrast(patch.tissue, means, none, seed) + (patch.tissue[:, 1:] * drift).sum(1, keepdim=True)
    return image + gaussian_blur(contrast(patch.tissue, none, spreads, seed), (0.6, 0.6, 0.6)) * 2.5


def remapped(patch: Patch, draws: Draws) -> Tensor:
    """The real image under a random piecewise-linear intensity map, monotone (either way) or not."""
    values = torch.rand(_KNOTS, generator=draws.generator, device=draws.device)
    if draws.chance(0.7):
        values = values.sort(descending=draws.chance(0.5)).values
    place = patch.image.clamp(0, 0.9999) * (_KNOTS - 1)
    index = place.long()
    fraction = place - index
    return values[index] * (1 - fraction) + values[index + 1] * fraction


def thick_slices(image: Tensor, axis: int, factor: float) -> Tensor:
    """A volume [batch, channel, x, y, z] as slices ``factor`` voxels thick show it, on the grid that it had."""
    size = list(image.shape[2:])
    coarse = size.copy()
    coarse[axis] = max(4, round(size[axis] / factor))
    low = F.interpolate(image, size=coarse, mode="area")
    return F.interpolate(low, size=size, mode="trilinear", align_corners=False)


def scanned(image: Tensor, mask: Tensor, draws: Draws, plan: Plan) -> Tensor:
    """What a scanner adds: gamma, blur, thick slices, bias field and noise; then the input's own normalisation."""
    ranges, spacing = plan.randomisation, plan.spacing_mm
    image = image.clamp(0, 2) ** draws.uniform(*ranges.gamma)
    if draws.chance(0.3):
        sigma = draws.uniform(*ranges.blur_mm) / FWHM
        image = gaussian_blur(image, (sigma / spacing[0], sigma / spacing[1], sigma / spacing[2]))
    if draws.chance(0.2):
        axis = draws.integer(0, sum(n > 1 for n in image.shape[2:]) - 1)
        factor = draws.uniform(*ranges.slice_mm) / spacing[axis]
        image = thick_slices(image, axis, factor) if factor > 1.05 else image
    image = image * torch.exp(draws.uniform(*ranges.bias) * draws.field(tuple(image.shape[2:]), (4, 4, 4)))
    image = image + draws.uniform(*ranges.noise) * draws.normal(*image.shape)
    return normalised(image, mask)


def normalised(image: Tensor, mask: Tensor) -> Tensor:
    """Robust range of the brain to [0, 1], as :func:`anatomad.preprocess.normalise.normalise` does."""
    inside = image[mask]
    if len(inside) < 8:
        return torch.zeros_like(image)
    ordered = inside[:: max(1, len(inside) // 20000)].sort().values
    low, high = ordered[int(0.005 * (len(ordered) - 1))], ordered[int(0.995 * (len(ordered) - 1))]
    return torch.where(mask, ((image - low) / (high - low).clamp(min=1e-3)).clamp(-0.5, 2.0), 0.0)


def rendered(patch: Patch, draws: Draws, plan: Plan) -> tuple[Tensor, bool]:
    """Noise-free image of a patch in a random contrast, and whether it came from the real scan."""
    if draws.chance(_REAL_SHARE):
        return remapped(patch, draws), True
    return from_tissue(patch, draws, plan.randomisation), False

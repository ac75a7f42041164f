"""Closed-form recoupling: the imaging information of a scan as robust tissue means, spreads and a low-order gain.

It needs no training and knows no sequence, so it stands beside the learned decoder as its always reported alternative.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_ROUNDS = 6
_TUKEY = 3.0
_MIN_SPREAD = 0.02
_MAX_GAIN = 0.5
_ORDER = 2


@dataclass(frozen=True)
class Recoupled:
    """A pseudo-healthy image and how surely it is known.

    Attributes:
        image: PHI [x, y, z], same unit as the scan; 0 outside the brain.
        spread: Predicted SD of a healthy voxel [x, y, z]: spread within its tissue and doubt between tissues.
        means: Robust tissue means [tissue].
        spreads: Robust tissue SDs [tissue].
    """

    image: Tensor
    spread: Tensor
    means: Tensor
    spreads: Tensor


def _basis(mask: Tensor) -> Tensor:
    """Polynomials up to second order over the brain's bounding box, without the constant: [voxel, 9]."""
    place = mask.nonzero().float()
    low, high = place.min(0).values, place.max(0).values
    u = 2 * (place - low) / (high - low).clamp(min=1) - 1
    terms = [u[:, i] for i in range(3)] + [u[:, i] * u[:, j] for i in range(3) for j in range(i, _ORDER + 1)]
    return torch.stack(terms, 1)


def _median_spread(values: Tensor) -> tuple[Tensor, Tensor]:
    centre = values.median()
    return centre, (1.4826 * (values - centre).abs().median()).clamp(min=_MIN_SPREAD)


def _tukey(residual: Tensor) -> Tensor:
    return (1 - (residual / _TUKEY).square()).clamp(min=0).square()


def _solve(design: Tensor, target: Tensor, weight: Tensor, ridge: float) -> Tensor:
    scaled = design * weight[:, None]
    normal = scaled.T @ design + ridge * len(design) * torch.eye(design.shape[1], device=design.device)
    return torch.linalg.solve(normal, scaled.T @ target)


def recouple(image: Tensor, tissue: Tensor, mask: Tensor) -> Recoupled:
    """Recouple an anatomy with the imaging information of a scan, robustly.

    Starts from the median of each tissue's own voxels and reweights by Tukey's biweight in units of each tissue's own
    spread: one spread for all would reject the whole CSF of a T2-weighted scan, and a mean would follow a lesion.

    Args:
        image: Scan [x, y, z] about [0, 1].
        tissue: Probabilities [tissue, x, y, z] of the restored anatomy without background; they sum to one in the brain.
        mask: Brain [x, y, z], bool.
    """
    x, p = image[mask], tissue[:, mask]
    label = p.argmax(0)
    whole = _median_spread(x)
    starts = [_median_spread(x[label == k]) if (label == k).sum() > 30 else whole for k in range(len(p))]
    means = torch.stack([s[0] for s in starts])
    spreads = torch.stack([s[1] for s in starts])
    basis, gain = _basis(mask), torch.ones_like(x)
    for _ in range(_ROUNDS):
        weight = _tukey((x - gain * (means @ p)) / (spreads @ p))
        shift = _solve(p.T * gain[:, None], x - gain * (means @ p), weight, 1e-5)
        means = means + shift
        expected = means @ p
        weight = _tukey((x - gain * expected) / (spreads @ p)) / (spreads @ p).square()
        slope = _solve(basis * expected[:, None], x - expected, weight / weight.mean().clamp(min=1e-6), 1e-4)
        gain = 1 + (basis @ slope).clamp(-_MAX_GAIN, _MAX_GAIN)
        residual = (x - gain * expected).abs()
        spreads = torch.stack(
            [
                (1.4826 * residual[label == k].median()).clamp(min=_MIN_SPREAD) if (label == k).sum() > 30 else s
                for k, s in enumerate(spreads)
            ]
        )
    expected = means @ p
    doubt = (means.square() @ p - expected.square()).clamp(min=0)
    phi, spread = torch.zeros_like(image), torch.ones_like(image)
    phi[mask] = gain * expected
    spread[mask] = (spreads.square() @ p + doubt).sqrt()
    return Recoupled(phi, spread, means, spreads)

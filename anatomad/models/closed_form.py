"""Closed-form recoupling: the imaging information of a scan as robust tissue means, spreads and a low-order gain.

It needs no training and knows no sequence, so it stands beside the learned decoder as its always reported alternative.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from anatomad.kernels import label_map

_ROUNDS = 6
_TUKEY = 3.0
_MIN_SPREAD = 0.02
_MAX_GAIN = 0.5
_MIN_VOXELS = 30


@dataclass(frozen=True)
class Recoupled:
    """A pseudo-healthy image and how surely it is known.

    Attributes:
        image: PHI [x, y, z], same unit as the scan; 0 outside the brain.
        spread: Predicted SD of a healthy voxel [x, y, z]: spread within its tissue and doubt between tissues; 1 outside
            the brain.
    """

    image: Tensor
    spread: Tensor


@dataclass(frozen=True)
class Imaging:
    """Imaging information of a scan.

    Attributes:
        gain: Smooth gain (bias field) [x, y, z], 0.5 to 1.5; 1 outside the brain.
        means: Robust tissue means [tissue], unit of the scan.
        spreads: Robust tissue SDs [tissue].
    """

    gain: Tensor
    means: Tensor
    spreads: Tensor

    def recouple(self, tissue: Tensor, mask: Tensor) -> Recoupled:
        """The image that an anatomy has under this imaging information.

        Args:
            tissue: Probabilities [tissue, x, y, z] without background, one in sum in the brain.
            mask: Brain [x, y, z], bool.
        """
        p = tissue[:, mask]
        return _placed(self.gain[mask] * (self.means @ p), _predicted(self, p), mask)

    def distances(self, image: Tensor) -> Tensor:
        """How far a scan [x, y, z] is from the brightness of each tissue [tissue, x, y, z], signed, in SDs of it."""
        means, spreads = (part[:, None, None, None] for part in (self.means, self.spreads))
        return (image - self.gain * means) / spreads


def _basis(mask: Tensor) -> Tensor:
    """Polynomials up to second order over the brain's bounding box, without the constant: [voxel, 9]."""
    place = mask.nonzero().float()
    low, high = place.min(0).values, place.max(0).values
    u = 2 * (place - low) / (high - low).clamp(min=1) - 1
    terms = [u[:, i] for i in range(3)] + [u[:, i] * u[:, j] for i in range(3) for j in range(i, 3)]
    return torch.stack(terms, 1)


def _median_spread(values: Tensor) -> tuple[Tensor, Tensor]:
    centre = values.median()
    return centre, (1.4826 * (values - centre).abs().median()).clamp(min=_MIN_SPREAD)


def _labels(p: Tensor) -> Tensor:
    """Most likely tissue of voxels [tissue, voxel]."""
    return label_map(p[None, :, None])[0, 0, 0]


def _tukey(residual: Tensor) -> Tensor:
    return (1 - (residual / _TUKEY).square()).clamp(min=0).square()


def _solve(design: Tensor, target: Tensor, weight: Tensor, ridge: float) -> Tensor:
    scaled = design * weight[:, None]
    normal = scaled.T @ design + ridge * len(design) * torch.eye(design.shape[1], device=design.device)
    return torch.linalg.solve(normal, scaled.T @ target)


def _fit_gain(x: Tensor, expected: Tensor, spread: Tensor, basis: Tensor, gain: Tensor) -> Tensor:
    """One reweighted least-squares update of the smooth gain with which ``expected`` explains ``x``."""
    weight = _tukey((x - gain * expected) / spread) / spread.square()
    slope = _solve(basis * expected[:, None], x - expected, weight / weight.mean().clamp(min=1e-6), 1e-4)
    return 1 + (basis @ slope).clamp(-_MAX_GAIN, _MAX_GAIN)


def _spreads(residual: Tensor, label: Tensor, previous: Tensor) -> Tensor:
    rows = []
    for k, old in enumerate(previous):
        own = residual[label == k]
        rows.append((1.4826 * own.median()).clamp(min=_MIN_SPREAD) if len(own) > _MIN_VOXELS else old)
    return torch.stack(rows)


def imaging_of(image: Tensor, tissue: Tensor, mask: Tensor) -> Imaging:
    """Read the imaging information of a scan under its anatomy, robustly.

    Starts from the median of each tissue's own voxels and reweights by Tukey's biweight in units of each tissue's own
    spread: one spread for all would reject the whole CSF of a T2-weighted scan, and a mean would follow a lesion.

    Args:
        image: Scan [x, y, z] about [0, 1].
        tissue: Probabilities [tissue, x, y, z] of the restored anatomy without background, one in sum in the brain.
        mask: Brain [x, y, z], bool.
    """
    x, p = image[mask], tissue[:, mask]
    label = _labels(p)
    whole = _median_spread(x)
    starts = [_median_spread(x[label == k]) if (label == k).sum() > _MIN_VOXELS else whole for k in range(len(p))]
    means = torch.stack([s[0] for s in starts])
    spreads = torch.stack([s[1] for s in starts])
    basis, gain = _basis(mask), torch.ones_like(x)
    for _ in range(_ROUNDS):
        weight = _tukey((x - gain * (means @ p)) / (spreads @ p))
        means = means + _solve(p.T * gain[:, None], x - gain * (means @ p), weight, 1e-5)
        gain = _fit_gain(x, means @ p, spreads @ p, basis, gain)
        spreads = _spreads((x - gain * (means @ p)).abs(), label, spreads)
    return Imaging(torch.ones_like(image).masked_scatter(mask, gain), means, spreads)


def recouple(image: Tensor, tissue: Tensor, mask: Tensor) -> Recoupled:
    """Recouple an anatomy with the imaging information of a scan; arguments as of :func:`imaging_of`."""
    return imaging_of(image, tissue, mask).recouple(tissue, mask)


def _predicted(imaging: Imaging, p: Tensor) -> Tensor:
    """SD of the mixture of tissues: the mean of their variances plus the variance of their means."""
    doubt = (imaging.means.square() @ p - (imaging.means @ p).square()).clamp(min=0)
    return (imaging.spreads.square() @ p + doubt).sqrt()


def _placed(phi: Tensor, spread: Tensor, mask: Tensor) -> Recoupled:
    image, width = torch.zeros(mask.shape, device=mask.device), torch.ones(mask.shape, device=mask.device)
    image[mask], width[mask] = phi, spread
    return Recoupled(image, width)


def regain(image: Tensor, phi: Tensor, tissue: Tensor, mask: Tensor, start: Imaging) -> Recoupled:
    """Fit the smooth gain and the tissue spreads of a pseudo-healthy image that something else has drawn.

    Args:
        image: Scan [x, y, z].
        phi: Its pseudo-healthy image without bias field [x, y, z].
        tissue: Probabilities [tissue, x, y, z] of the restored anatomy.
        mask: Brain [x, y, z], bool.
        start: The closed form's imaging information: its means are kept, its spreads are where the fit begins.
    """
    x, p, expected = image[mask], tissue[:, mask], phi[mask]
    label, basis, gain, spreads = _labels(p), _basis(mask), torch.ones_like(x), start.spreads
    for _ in range(_ROUNDS):
        gain = _fit_gain(x, expected, spreads @ p, basis, gain)
        spreads = _spreads((x - gain * expected).abs(), label, spreads)
    return _placed(gain * expected, _predicted(replace(start, spreads=spreads), p), mask)

"""The anomaly score: how far a voxel and its surroundings lie from health, in brightness and in tissue."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.nn import functional as F

from anatomad.planner.plan import Shape
from anatomad.predict.field import Field, field_at, position_in_brain
from anatomad.predict.reader import Parts
from anatomad.synth.draws import FWHM, gaussian_blur

_LEVEL = 0.7  # a lesion of a tenth of the brain moves this quantile of magnitudes by little
_LEAST_LEVEL = 0.1  # of the usual one: a scan that equals its restoration is not blown up to look like the others

Kind = tuple[str, float]


class Evidence(BaseModel):
    """One volume of evidence, read at several widths, and what one unit of it is.

    Attributes:
        kind: Name of a residual of the method or of a supplement.
        smoothing_mm: Gaussian FWHMs; what is signed is smoothed with its sign, so that misplaced borders, bright on one
            side and dark on the other, cancel while lesions, which keep their sign, stay.
        fields: For each width, how large its magnitude usually is where in a healthy brain
            (:func:`anatomad.predict.field.measure_field`); none: the same everywhere.
        usual: For each width, the level (:func:`level`) that healthy scans usually have. A scan's magnitudes are read
            over its own level, so that a sequence which restores less well is not anomalous as a whole; none: as they
            are.
        units: 99th percentile of each in healthy brains. In these units the evidence is the mean over the widths: a
            lesion shows at several scales, a vessel or a misplaced border at one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str
    smoothing_mm: tuple[float, ...]
    fields: tuple[Field, ...] = ()
    usual: tuple[float, ...] = ()
    units: tuple[float, ...]

    def of(self, parts: Parts, spacing_mm: tuple[float, float, float], scored: Tensor) -> Tensor:
        """Evidence [x, y, z], at least 0; 0 where nothing is scored; see :func:`reading`."""
        readings = [reading(parts, (self.kind, width), spacing_mm, scored) for width in self.smoothing_mm]
        if self.fields:
            place = position_in_brain(parts.mask)
            readings = [r / field_at(field, place) for r, field in zip(readings, self.fields, strict=True)]
        if self.usual:
            readings = [r / level(r[scored], usual) for r, usual in zip(readings, self.usual, strict=True)]
        return torch.stack([r / unit for r, unit in zip(readings, self.units, strict=True)]).mean(0)


class Score(BaseModel):
    """What the score of a voxel is: the evidence of a residual, and shares of other evidence.

    Attributes:
        residual: The residual that is read; of our own method, its kind names the pseudo-healthy image that the scan is
            compared with.
        supplements: Evidence that is added to it, where that finds more.
        shares: So much of each is added.
        symmetry: So much of the square of what a voxel shares with the other side of the brain (:func:`opposite`) is
            taken off its own: vessels, choroid plexus and unusual nuclei come in pairs, most lesions do not.
        usual: The level (:func:`own_level`) that the sum usually has in healthy scans; 0: the sum stays as it is. Where
            a scan's level is higher, as in a sequence that the encoder reads less well, the sum is read over it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    residual: Evidence
    supplements: tuple[Evidence, ...] = ()
    shares: tuple[float, ...] = ()
    symmetry: float = 0.0
    usual: float = 0.0

    def of(self, parts: Parts, spacing_mm: tuple[float, float, float], rim: Shape) -> Tensor:
        """Score [x, y, z], at least 0; 0 outside the brain and in its rim."""
        return self.over_level(self.total(parts, spacing_mm, rim), inner(parts.mask, rim))

    def total(self, parts: Parts, spacing_mm: tuple[float, float, float], rim: Shape) -> Tensor:
        """Sum of the evidence [x, y, z], at least 0, not yet over the scan's level; 0 outside the scored brain."""
        return self.summed(self.evidence(parts, spacing_mm, rim), parts.mask, rim)

    def evidence(self, parts: Parts, spacing_mm: tuple[float, float, float], rim: Shape) -> list[Tensor]:
        """Of the residual and of each supplement [x, y, z], at least 0; 0 outside the scored brain."""
        scored = inner(parts.mask, rim)
        return [each.of(parts, spacing_mm, scored) for each in (self.residual, *self.supplements)]

    def summed(self, evidence: Sequence[Tensor], mask: Tensor, rim: Shape) -> Tensor:
        """Sum of the evidence, each its share, without what both sides of the brain share."""
        found = evidence[0]
        for each, share in zip(evidence[1:], self.shares, strict=True):
            found = found + share * each
        shared = torch.minimum(found, opposite(found, mask, rim))
        return (found**2 - self.symmetry * shared**2).sqrt()

    def over_level(self, total: Tensor, scored: Tensor) -> Tensor:
        """Score from the sum of the evidence, and where the brain without its rim is: both [x, y, z] or [voxel]."""
        # a scan that lies nearer to its restoration than usual has earned it: nothing is made larger
        return total / max(1.0, level(total[scored], self.usual))


def reading(parts: Parts, kind: Kind, spacing_mm: tuple[float, float, float], scored: Tensor) -> Tensor:
    """Magnitude of smoothed evidence [x, y, z], of several parts the root of their squares' sum; 0 elsewhere.

    Args:
        parts: A scan taken apart.
        kind: Name of the evidence, and Gaussian FWHM in mm.
        spacing_mm: Of the working grid.
        scored: Where it is wanted [x, y, z], bool: the brain without its rim (:func:`inner`).
    """
    name, width = kind
    found = smoothed(parts.residual(name), parts.mask, width, spacing_mm)
    return (found.abs() if found.ndim == 3 else found.norm(dim=0)) * scored


def opposite(evidence: Tensor, mask: Tensor, reach: Shape) -> Tensor:
    """What the other side of the brain shows [x, y, z]: the largest evidence within ``reach`` voxels of a voxel's place
    in the mirror image of the brain's bounding box. The first axis runs from one side to the other."""
    sides = mask.flatten(1).any(1).nonzero()
    brain = slice(int(sides[0]), int(sides[-1]) + 1)
    mirrored = torch.zeros_like(evidence)
    mirrored[brain] = evidence[brain].flip(0)
    x, y, z = (2 * side + 1 for side in reach)
    return F.max_pool3d(mirrored[None, None], (x, y, z), 1, reach)[0, 0]


def level(magnitudes: Tensor, usual: float) -> float:
    """How large a scan's magnitudes [voxel] are in most of its brain, relative to ``usual`` in healthy scans.

    Not less than a tenth of what is usual; 1 where there usually is nothing (a method that clips most voxels to 0).
    """
    return max(_LEAST_LEVEL, own_level(magnitudes) / usual) if usual > 0 else 1.0


def own_level(magnitudes: Tensor) -> float:
    """70th percentile of magnitudes [voxel]; 0 of none."""
    count = magnitudes.numel()
    return float(magnitudes.kthvalue(max(1, round(_LEVEL * count))).values) if count else 0.0


def inner(mask: Tensor, rim: Shape) -> Tensor:
    """The brain without its rim of so many voxels, where skull stripping leaves remains and partial volume rules."""
    x, y, z = (2 * side + 1 for side in rim)
    return F.max_pool3d((~mask)[None, None].float(), (x, y, z), 1, rim)[0, 0] < 0.5


def smoothed(residual: Tensor, mask: Tensor, fwhm_mm: float, spacing_mm: Sequence[float]) -> Tensor:
    """Residual [x, y, z], or parts of it [part, x, y, z], smoothed within the brain by a Gaussian of ``fwhm_mm``."""
    if fwhm_mm <= 0:
        return residual
    x, y, z = (fwhm_mm / FWHM / s for s in spacing_mm)
    weight = gaussian_blur(mask[None, None].float(), (x, y, z))
    mean = gaussian_blur((residual * mask).reshape(1, -1, *mask.shape), (x, y, z)) / weight.clamp(min=0.05)
    return torch.where(mask, mean.reshape(residual.shape), 0.0)

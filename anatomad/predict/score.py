"""The anomaly score: how far a voxel and its surroundings lie from the pseudo-healthy image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.nn import functional as F

from anatomad.predict.field import Field, field_at, position_in_brain
from anatomad.predict.reader import Parts
from anatomad.synth.draws import gaussian_blur

_FWHM = 2.3548

Kind = tuple[str, float]


class Score(BaseModel):
    """Which residual is read, at which widths, and what one unit of it is.

    Attributes:
        recoupling: Which of the method's residuals is read; of our own method, whose pseudo-healthy image the scan is
            compared with.
        smoothing_mm: Gaussian FWHMs; the signed residual is smoothed, so that misplaced borders, bright on one side
            and dark on the other, cancel while lesions, which keep their sign, stay.
        fields: For each width, how large its residual usually is where in a healthy brain
            (:func:`anatomad.predict.field.measure_field`); none: the same everywhere.
        units: 99th percentile of each smoothed residual, over its field, in healthy brains. In these units the score
            is the largest of them: a voxel is as anomalous as at the scale that suits its lesion best (a bank of
            matched filters; Lindeberg, Int J Comput Vis 1998).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    recoupling: str
    smoothing_mm: tuple[float, ...]
    fields: tuple[Field, ...] = ()
    units: tuple[float, ...]

    def of(self, parts: Parts, spacing_mm: tuple[float, float, float]) -> Tensor:
        """Score [x, y, z], at least 0; 0 outside the brain and in its outermost voxel."""
        readings = [reading(parts, (self.recoupling, width), spacing_mm) for width in self.smoothing_mm]
        if self.fields:
            place = position_in_brain(parts.mask)
            readings = [r / field_at(field, place) for r, field in zip(readings, self.fields, strict=True)]
        return torch.stack([r / unit for r, unit in zip(readings, self.units, strict=True)]).amax(0)


def reading(parts: Parts, kind: Kind, spacing_mm: tuple[float, float, float]) -> Tensor:
    """Magnitude of the smoothed residual [x, y, z]; 0 outside the brain and in its outermost voxel.

    Args:
        parts: A scan taken apart.
        kind: Recoupling, and Gaussian FWHM in mm.
        spacing_mm: Of the working grid.
    """
    recoupling, width = kind
    return smoothed(parts.residual(recoupling), parts.mask, width, spacing_mm).abs() * inner(parts.mask)


def inner(mask: Tensor) -> Tensor:
    """The brain without its outermost voxel, where skull stripping leaves remains and partial volume rules."""
    return F.max_pool3d((~mask)[None, None].float(), 3, 1, 1)[0, 0] < 0.5


def smoothed(residual: Tensor, mask: Tensor, fwhm_mm: float, spacing_mm: Sequence[float]) -> Tensor:
    """Residual [x, y, z] smoothed within the brain by a Gaussian of ``fwhm_mm``."""
    if fwhm_mm <= 0:
        return residual
    x, y, z = (fwhm_mm / _FWHM / s for s in spacing_mm)
    weight = gaussian_blur(mask[None, None].float(), (x, y, z))
    mean = gaussian_blur((residual * mask)[None, None], (x, y, z)) / weight.clamp(min=0.05)
    return torch.where(mask, mean[0, 0], 0.0)

"""How large residuals usually are where: healthy brains are harder to redraw at their base than in their middle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from anatomad.models.dal import brain_position

CELLS = (12, 14, 12)  # of the brain's bounding box, some 13 mm each: coarser than anatomy that differs between people
_SMOOTHING_CELLS = 1.0
_PRIOR_VOXELS = 20.0  # so many voxels of average size are thought into every cell

Field = tuple[float, ...]


def position_in_brain(mask: Tensor) -> Tensor:
    """Position [3, x, y, z] in the bounding box of a brain [x, y, z]: -1 to 1 along each axis."""
    inside = mask.nonzero().float()
    whole = (slice(0, mask.shape[0]), slice(0, mask.shape[1]), slice(0, mask.shape[2]))
    return brain_position(whole, inside.min(0).values, inside.max(0).values)


def measure_field(readings: Sequence[NDArray[np.float32]], positions: Sequence[Tensor]) -> Field:
    """Root mean square of healthy readings per cell of the brain box, relative to each scan's own; 1 on average.

    Args:
        readings: Per scan, the magnitudes of its residual in some voxels [voxel].
        positions: Per scan, where in the brain these voxels lie [3, voxel], -1 to 1.

    Returns:
        ``CELLS`` values, the last axis running fastest.
    """
    squares, counts = np.zeros(CELLS), np.zeros(CELLS)
    for values, place in zip(readings, positions, strict=True):
        power = values.astype(np.float64) ** 2
        sides = np.array(CELLS)[:, None]
        cell = tuple(np.clip(((place.cpu().numpy() + 1) / 2 * sides).astype(int), 0, sides - 1))
        np.add.at(squares, cell, power / max(power.mean(), 1e-12))
        np.add.at(counts, cell, 1)
    squares, counts = (ndimage.gaussian_filter(a, _SMOOTHING_CELLS) for a in (squares, counts))
    field = np.sqrt((squares + _PRIOR_VOXELS) / (counts + _PRIOR_VOXELS))
    return tuple(round(float(value), 4) for value in field.ravel())


def field_at(field: Field, position: Tensor) -> Tensor:
    """A field [...] at positions [3, ...] in the brain box (-1 to 1), linear between the cells' centres."""
    cells = torch.tensor(field, device=position.device).view(1, 1, *CELLS)
    points = position.flip(0).flatten(1).T.view(1, -1, 1, 1, 3)
    found = F.grid_sample(cells, points, mode="bilinear", padding_mode="border", align_corners=False)
    return found.view(position.shape[1:])

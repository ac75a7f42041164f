"""The one post-processing that every method gets alike; none of its numbers was chosen by us.

A median over a cube of about 5 mm and the removal of small components are what the field's comparisons do (Baur et al.,
Med Image Anal 69:101952, 2021; Meissen et al., 2021). A median commutes with thresholding, so that the median of a mask
is the mask of the median of its map, whatever the threshold was.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatomad.evaluate.cases import Maps

MEDIAN_MM = 5.0
SMALLEST_ML = 0.02
_SIZES = (1, 3, 5, 7)
_CONNECTIVITY_26 = np.ones((3, 3, 3), bool)


def postprocess(maps: Maps) -> Maps:
    """Median of the map and of the mask; components of the mask under 0.02 ml are removed."""
    size = window(maps.spacing)
    box = _box(maps, size)
    anomaly = maps.anomaly.copy()
    anomaly[box] = _median(maps.anomaly[box], size)
    if maps.mask is None:
        return replace(maps, anomaly=anomaly)
    mask = np.zeros_like(maps.mask)
    mask[box] = _without_small(_median(maps.mask[box].astype(np.uint8), size) > 0, maps.voxel_ml)
    return replace(maps, anomaly=anomaly, mask=mask)


def window(spacing: tuple[float, float, float]) -> int:
    """Voxels along the side of the median's cube: the odd number whose size in mm comes closest to 5 mm."""
    voxel = float(np.prod(spacing)) ** (1 / 3)
    return min(_SIZES, key=lambda size: abs(size * voxel - MEDIAN_MM))


def _box(maps: Maps, margin: int) -> tuple[slice, ...]:
    """What surrounds all that counts: voxels beyond it are 0 and stay so."""
    inside = maps.brain | (maps.anomaly != 0)
    found = ndimage.find_objects(inside.astype(np.uint8))
    if not found:
        return (slice(0, 0),) * 3
    return tuple(slice(max(0, axis.start - margin), axis.stop + margin) for axis in found[0])


def _median(volume: NDArray[Any], size: int) -> NDArray[Any]:
    import torch

    from anatomad.kernels.median import median

    tensor = torch.from_numpy(np.ascontiguousarray(volume))[None, None]
    return np.asarray(median(tensor, size)[0, 0].numpy())


def _without_small(mask: NDArray[np.bool_], voxel_ml: float) -> NDArray[np.bool_]:
    labels, _ = ndimage.label(mask, _CONNECTIVITY_26)
    large = np.bincount(labels.ravel()) * voxel_ml >= SMALLEST_ML
    large[0] = False
    return np.asarray(large[labels], bool)

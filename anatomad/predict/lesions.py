"""Anomalous regions of a case: the mask that holds them, and their table."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatomad.planner.plan import Postprocessing

_LARGEST = 50
_ROUNDING = 1 - 1e-6  # of the affine: a region of just the smallest volume stays
_TOUCHING = np.ones((3, 3, 3))


def anomalous(anomaly: NDArray[np.float32], affine: NDArray[np.float64], settings: Postprocessing) -> NDArray[np.bool_]:
    """Mask (x, y, z) of the voxels that are anomalous enough, in 26-connected regions that are large enough.

    Args:
        anomaly: -log10 p (x, y, z), native grid.
        affine: Voxel to mm.
        settings: What is enough.
    """
    mask: NDArray[np.bool_] = anomaly >= -math.log10(settings.mask_p)
    labels, _ = ndimage.label(mask, _TOUCHING)
    large = np.bincount(labels.ravel()) * _voxel_mm3(affine) >= settings.smallest_mm3 * _ROUNDING
    kept: NDArray[np.bool_] = mask & large[labels]
    return kept


def lesion_table(mask: NDArray[np.bool_], anomaly: NDArray[np.float32], affine: NDArray[np.float64]) -> dict[str, Any]:
    """The 26-connected regions of a mask: their number, and the 50 largest, largest first.

    Args:
        mask: Anomalous voxels (x, y, z), native grid.
        anomaly: -log10 p (x, y, z).
        affine: Voxel to mm.

    Returns:
        ``lesion_count``, and ``lesions``, per region: centre of gravity and peak position in mm (RAS), volume in ml
        and peak -log10 p.
    """
    labels, count = ndimage.label(mask, _TOUCHING)
    voxel_ml = _voxel_mm3(affine) / 1000
    sizes = np.bincount(labels.ravel())[1:]
    largest = (np.argsort(-sizes, kind="stable")[:_LARGEST] + 1).tolist()
    centres = ndimage.center_of_mass(mask, labels, largest)
    peaks = ndimage.maximum_position(anomaly, labels, largest)
    rows = [
        {
            "centre_mm": _to_mm(affine, centre),
            "peak_mm": _to_mm(affine, peak),
            "volume_ml": round(float(sizes[k - 1]) * voxel_ml, 4),
            "peak": round(float(anomaly[tuple(peak)]), 3),
        }
        for k, centre, peak in zip(largest, centres, peaks, strict=True)
    ]
    return {"lesion_count": count, "lesions": rows}


def _voxel_mm3(affine: NDArray[np.float64]) -> float:
    return abs(float(np.linalg.det(affine[:3, :3])))


def _to_mm(affine: NDArray[np.float64], voxel: tuple[float, ...]) -> list[float]:
    return [round(float(v), 1) for v in affine[:3, :3] @ np.asarray(voxel) + affine[:3, 3]]

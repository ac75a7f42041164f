"""The lesion table: connected anomalous regions of a case."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_LARGEST = 50


def lesion_table(
    mask: NDArray[np.bool_], anomaly: NDArray[np.float32], affine: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """The 50 largest 26-connected regions of a mask, largest first.

    Args:
        mask: Anomalous voxels (x, y, z), native grid.
        anomaly: -log10 p (x, y, z).
        affine: Voxel to mm.

    Returns:
        Per region: centre of gravity and peak position in mm (RAS), volume in ml and peak -log10 p.
    """
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if count == 0:
        return []
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    sizes = np.bincount(labels.ravel())[1:]
    largest = (np.argsort(-sizes, kind="stable")[:_LARGEST] + 1).tolist()
    centres = ndimage.center_of_mass(mask, labels, largest)
    peaks = ndimage.maximum_position(anomaly, labels, largest)
    return [
        {
            "centre_mm": _to_mm(affine, centre),
            "peak_mm": _to_mm(affine, peak),
            "volume_ml": round(float(sizes[k - 1]) * voxel_ml, 4),
            "peak": round(float(anomaly[tuple(peak)]), 3),
        }
        for k, centre, peak in zip(largest, centres, peaks, strict=True)
    ]


def _to_mm(affine: NDArray[np.float64], voxel: tuple[float, ...]) -> list[float]:
    return [round(float(v), 1) for v in affine[:3, :3] @ np.asarray(voxel) + affine[:3, 3]]

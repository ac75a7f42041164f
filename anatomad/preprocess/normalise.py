"""Robust intensity normalisation within the brain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anatomad.errors import IntensityError

PERCENTILES = (0.5, 99.5)
CLIP = (-0.5, 2.0)
MAX_NONFINITE_SHARE = 0.2

Range = tuple[float, float]


def check_intensities(data: NDArray[np.float32], name: str) -> None:
    """Refuse intensities that leave nothing to work with.

    Args:
        data: (x, y, z) any finite or non-finite values.
        name: what the message calls the image, normally its path.

    Raises:
        IntensityError: more than 20 % NaN or infinite voxels, or one single value everywhere.
    """
    finite = np.isfinite(data)
    share = 1.0 - np.count_nonzero(finite) / max(finite.size, 1)
    if share > MAX_NONFINITE_SHARE:
        raise IntensityError(
            f"{name}: {share:.0%} of the voxels are NaN or infinite, at most {MAX_NONFINITE_SHARE:.0%} can be used; "
            "export the scan again, or replace the non-finite background by a number"
        )
    low = float(np.min(data, where=finite, initial=np.inf))
    high = float(np.max(data, where=finite, initial=-np.inf))
    if low >= high:
        raise IntensityError(
            f"{name}: every voxel has the value {low:g}, an image with contrast was expected; export the scan again"
        )


def intensity_window(
    data: NDArray[np.float32], mask: NDArray[np.bool_], name: str = "image", percentiles: Range = PERCENTILES
) -> Range:
    """Find the intensities that ``normalise`` maps to 0 and 1: robust percentiles of the finite brain voxels.

    Raises:
        IntensityError: the brain is empty, constant, or more than 20 % of it is non-finite.
    """
    brain = data[mask]
    finite = brain[np.isfinite(brain)]
    if finite.size < (1 - MAX_NONFINITE_SHARE) * brain.size or finite.size == 0:
        raise IntensityError(
            f"{name}: only {finite.size} of {brain.size} brain voxels hold finite values, at least "
            f"{1 - MAX_NONFINITE_SHARE:.0%} were expected; export the scan again, or skull-strip it first"
        )
    low, high = (float(v) for v in np.percentile(finite, percentiles))
    if not high > low:
        raise IntensityError(
            f"{name}: the brain has one intensity, {low:g}, in nearly all its voxels, contrast was expected; "
            "export the scan again, or skull-strip it first"
        )
    return low, high


def fill_nonfinite(data: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return ``data`` with NaN and infinities replaced by the median of the finite brain voxels."""
    finite = np.isfinite(data)
    if finite.all():
        return data
    inside = data[mask & finite]
    return np.where(finite, data, np.float32(np.median(inside) if inside.size else 0.0))


def normalise(
    data: NDArray[np.float32], mask: NDArray[np.bool_], name: str = "image", percentiles: Range = PERCENTILES
) -> NDArray[np.float32]:
    """Map two percentiles of the brain to 0 and 1.

    Args:
        data: (x, y, z) intensities in any unit; NaN and infinities become the brain's median.
        mask: (x, y, z) brain.
        name: what error messages call the image.
        percentiles: which; 0 to 100, ascending.

    Returns:
        (x, y, z) float32 in [-0.5, 2]; 0 outside the brain.

    Raises:
        IntensityError: the brain is empty, constant, or more than 20 % of it is non-finite.
    """
    low, high = intensity_window(data, mask, name, percentiles)
    scaled = (fill_nonfinite(data, mask).astype(np.float64) - low) / (high - low)
    return np.where(mask, np.clip(scaled, *CLIP), 0.0).astype(np.float32)

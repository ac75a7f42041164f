"""Bias-field correction (N4) at a coarse resolution."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from anatomad.preprocess.normalise import fill_nonfinite

WORKING_MM = 4.0
ITERATIONS = (40, 40, 30)
MAX_LOG_FIELD = 1.5
MIN_VOXELS = 64


def correct_bias(
    data: NDArray[np.float32], mask: NDArray[np.bool_], spacing: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Divide a scan by its smooth multiplicative field, estimated by N4 on a grid of about 4 mm.

    Not for scans to be judged: N4 explains part of a large lesion as field.

    Args:
        data: (x, y, z) intensities in any unit; zeros, negatives and non-finite voxels are allowed.
        mask: (x, y, z) brain; the field is fitted there and has mean 1 (geometric) there.
        spacing: voxel size in mm.

    Returns:
        (x, y, z) float32 in the unit of ``data``.
    """
    data = fill_nonfinite(data, mask)
    if np.count_nonzero(mask) < MIN_VOXELS:
        return data
    ground, floor = _positive_range(data[mask])
    positive = np.maximum(data - ground, floor)
    field = _log_field(positive, mask & (data - ground > floor), spacing)
    field = np.clip(field - field[mask].mean(), -MAX_LOG_FIELD, MAX_LOG_FIELD)
    return np.asarray((data - ground) * np.exp(-field) + ground, dtype=np.float32)


def _positive_range(brain: NDArray[np.float32]) -> tuple[float, float]:
    """Return (offset to subtract, smallest value whose logarithm is taken).

    Intensities of a scanner start at 0 and keep that zero, where the field multiplies. Centred ones (z-scores, an
    offset from resampling) are shifted so that nearly all of the brain is positive.
    """
    low, middle = (float(v) for v in np.percentile(brain, (1, 50)))
    ground = 0.0 if low > 0 else low - 0.05 * max(middle - low, 1e-6)
    if low <= 0 and np.mean(brain <= 0) < 0.02:
        ground = 0.0  # a few ringing voxels at the rim are no reason to move the zero
    return ground, max(0.02 * (middle - ground), 1e-6)


def _log_field(
    positive: NDArray[np.float32], inside: NDArray[np.bool_], spacing: tuple[float, float, float]
) -> NDArray[np.float32]:
    shrink = [max(1, round(WORKING_MM / mm)) for mm in reversed(spacing)]  # SimpleITK's axes, as in _image
    share = sitk.BinShrink(_image(inside.astype(np.float32), spacing), shrink)
    total = sitk.BinShrink(_image(np.where(inside, positive, np.float32(0)), spacing), shrink)
    mean = sitk.Divide(total, sitk.Maximum(share, 0.01))  # of the brain voxels alone: the rim is not darkened
    mask = sitk.BinaryThreshold(share, 0.5, 2.0, 1, 0)
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetNumberOfThreads(1)  # the same field whatever the machine
    n4.SetMaximumNumberOfIterations(list(ITERATIONS))
    n4.Execute(sitk.Maximum(mean, float(positive.min())), mask)
    return np.asarray(sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(_image(positive, spacing))), dtype=np.float32)


def _image(volume: NDArray[np.float32], spacing: tuple[float, float, float]) -> sitk.Image:
    image = sitk.GetImageFromArray(volume.astype(np.float32))  # axes become z, y, x
    image.SetSpacing([float(mm) for mm in reversed(spacing)])
    return image

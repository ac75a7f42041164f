"""Affine registration of the brain atlas to a whole head of any contrast.

The volumes are those of the 2 mm grid on the scan's own axes, in canonical order. SimpleITK sees them with reversed
axes (z, y, x), so its points, matrices and centres are in that order too.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from anatomad.preprocess.atlas import load_atlas

Mask = NDArray[np.bool_]
Volume = NDArray[np.float32]
Contrast = Literal["dark CSF", "bright CSF"]

STEP_MM = 2.0
PAD = 8
MARGIN_MM = 8.0
SCALP_MM = 12.0
START_SCALES = (0.8, 0.9)
START_PITCHES = (-20.0, 0.0, 20.0)
SCALE_CUBED = (0.2, 1.02)  # of the atlas's 1966 ml
BRIGHT_CSF_RATIO = 0.92
TISSUE_LEVELS = (0.0, 1.0, 0.55, 0.35)  # background, CSF, grey, white as in T2


def register_head(
    head: Volume, centre_mm: NDArray[np.float64], crown_mm: float
) -> tuple[sitk.AffineTransform, Contrast]:
    """Register the atlas to a head from several sizes and pitches.

    A T1-like atlas alone would grow to the size of the scalp in a T2 scan, whose rim of CSF is bright; a T2-like one,
    composed of the tissue maps, decides first which kind the scan is.

    Args:
        head: (x, y, z) non-negative intensities.
        centre_mm: (x, y) of the head's upper part.
        crown_mm: z of its highest point.

    Returns:
        Transform from atlas to scan (mm), and the scan's kind.

    Raises:
        RuntimeError: SimpleITK finds no overlap.
    """
    scan = as_image(head)
    contrast: Contrast = "bright CSF"
    transform = _best_start(scan, contrast, centre_mm, crown_mm)
    if _csf_to_white(transform, scan) < BRIGHT_CSF_RATIO:
        contrast = "dark CSF"
        transform = _best_start(scan, contrast, centre_mm, crown_mm)
    improve(transform, scan, contrast, shrink=2, step=1.0, iterations=150)
    return transform, contrast


def improve(
    transform: sitk.AffineTransform, scan: sitk.Image, contrast: Contrast, *, shrink: int, step: float, iterations: int
) -> float:
    """Improve an affine transform in place by mutual information around the atlas brain; returns its negative.

    Raises:
        RuntimeError: SimpleITK finds no overlap.
    """
    atlas, near = _fixed(contrast)
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # sums in one order: the same mask whatever the machine
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.4, seed=1)
    method.SetMetricFixedMask(near)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(step, 2e-3, iterations, relaxationFactor=0.7)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([shrink])
    method.SetSmoothingSigmasPerLevel([float(shrink)])
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(atlas, scan)
    return float(method.GetMetricValue())


def atlas_in_scan(transform: sitk.AffineTransform, scan: sitk.Image) -> Mask:
    """Return the atlas's brain on the scan's grid."""
    brain = as_image(atlas_brain().astype(np.float32))
    warped = sitk.Resample(brain, scan, transform.GetInverse(), sitk.sitkLinear, 0.0)
    mask: Mask = sitk.GetArrayFromImage(warped) > 0.5
    return mask


def as_image(volume: Volume) -> sitk.Image:
    """Wrap a 2 mm volume for SimpleITK."""
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing((STEP_MM, STEP_MM, STEP_MM))
    return image


@cache
def atlas_brain() -> Mask:
    """Return the atlas's brain, with a margin so that the surroundings take part in the metric."""
    brain: Mask = np.pad(load_atlas().tissue[0] < 0.5, PAD)
    return brain


@cache
def _fixed(contrast: Contrast) -> tuple[sitk.Image, sitk.Image]:
    atlas = load_atlas()
    volume = atlas.t1 if contrast == "dark CSF" else np.tensordot(np.array(TISSUE_LEVELS), atlas.tissue, 1)
    near = ndimage.distance_transform_edt(~atlas_brain()) * STEP_MM <= MARGIN_MM
    mask = sitk.Cast(as_image(near.astype(np.float32)), sitk.sitkUInt8)
    return as_image(np.pad(volume, PAD).astype(np.float32)), mask


def _best_start(
    scan: sitk.Image, contrast: Contrast, centre_mm: NDArray[np.float64], crown_mm: float
) -> sitk.AffineTransform:
    """Register at 8 mm from every start; of the results that have the size of a brain, keep the best."""
    points = np.argwhere(atlas_brain()) * STEP_MM
    middle, top = points.mean(0), float(points[:, 2].max())
    found = []
    for scale, pitch in product(START_SCALES, START_PITCHES):
        start = np.array([*centre_mm, crown_mm - SCALP_MM - scale * (top - middle[2])])
        transform = sitk.AffineTransform(3)
        transform.SetCenter(middle[::-1].tolist())
        transform.SetTranslation((start - middle)[::-1].tolist())
        transform.SetMatrix((scale * _pitched(pitch)).ravel().tolist())
        value = improve(transform, scan, contrast, shrink=4, step=1.0, iterations=60)
        size = float(np.linalg.det(np.reshape(transform.GetMatrix(), (3, 3))))
        found.append((not SCALE_CUBED[0] <= size <= SCALE_CUBED[1], value, transform))
    return min(found, key=lambda entry: entry[:2])[2]


def _pitched(degrees: float) -> NDArray[np.float64]:
    """Nod by an angle, in SimpleITK's axis order (z, y, x)."""
    sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def _csf_to_white(transform: sitk.AffineTransform, scan: sitk.Image) -> float:
    tissue = np.pad(load_atlas().tissue, ((0, 0), *[(PAD, PAD)] * 3))
    grid = as_image(tissue[0])
    values = sitk.GetArrayFromImage(sitk.Resample(scan, grid, transform, sitk.sitkLinear, 0.0))
    csf, white = values[tissue[1] > 0.5], values[tissue[3] > 0.5]
    return float(np.mean(csf)) / max(float(np.median(white)), 1e-6)

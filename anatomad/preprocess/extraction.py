"""Compute the brain mask of a whole head: atlas registration, refined by intensities and morphology.

All of it runs at 2 mm on the scan's own axes in canonical order, so that the atlas starts in the right orientation.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from anatomad.errors import BrainMaskError
from anatomad.io.geometry import working_grid
from anatomad.preprocess.atlas import load_atlas
from anatomad.preprocess.stripped import close_and_fill, largest_component

Mask = NDArray[np.bool_]
Volume = NDArray[np.float32]

STEP_MM = 2.0
SPACING = (STEP_MM, STEP_MM, STEP_MM)
PAD = 8
FIXED_MARGIN_MM = 8.0
SCALP_MM = 12.0
START_SCALES = (0.85, 0.95)
CORE_MM = 8.0
LEVEL_SIGMA_MM = 20.0
DARKEST = 0.55
BRIGHTEST_MARGIN = 1.15
MAX_MORPHOLOGY_ML = 1900.0
MIN_CORE_VOXELS = 2000


def extract_brain(data: Volume, affine: NDArray[np.float64], name: str) -> tuple[Mask, float]:
    """Find the brain in a whole-head scan.

    Args:
        data: (x, y, z) finite intensities of any contrast.
        affine: 4x4 voxel-to-world matrix.
        name: what error messages call the image.

    Returns:
        (x, y, z) mask on the native grid; Dice between the registered atlas and a mask from morphology alone.

    Raises:
        BrainMaskError: nothing like a head is in the image, or the registration fails.
    """
    grid = working_grid((data.shape[0], data.shape[1], data.shape[2]), affine, SPACING)
    head = _clipped(grid.to_working(data, order=1))
    moving = _image(head)
    try:
        transform = _coarse(moving, _start_centre(head, name))
        _register(transform, moving, shrink=2, step=1.0)
        first = _refined(head, _warped(transform, moving), reach_mm=10.0, name=name)
        # Without scalp and skull, the metric sees the brain's own surface.
        alone = np.where(_dilated(first, 4.0), head, np.float32(0))
        _register(transform, _image(alone), shrink=2, step=0.5)
        atlas = _warped(transform, moving)
    except RuntimeError as error:
        raise _no_brain(name, f"the atlas could not be registered ({str(error).strip().splitlines()[-1]})") from None
    brain = _refined(head, atlas, reach_mm=8.0, name=name)
    mask: Mask = grid.to_native(brain.astype(np.float32), order=1) >= 0.5
    return mask, dice(atlas, _morphology(head))


def dice(first: Mask, second: Mask) -> float:
    """Dice overlap of two masks; 0 when both are empty."""
    both = np.count_nonzero(first) + np.count_nonzero(second)
    return 2.0 * float(np.count_nonzero(first & second)) / both if both else 0.0


def _no_brain(name: str, reason: str) -> BrainMaskError:
    return BrainMaskError(f"{name}: no brain found, {reason}; give a mask of the brain (--mask)")


def _clipped(working: Volume) -> Volume:
    low, high = np.percentile(working, (0.1, 99.0))
    clipped: Volume = (np.clip(working, low, high) - low).astype(np.float32)
    return clipped


def _image(volume: Volume) -> sitk.Image:
    image = sitk.GetImageFromArray(volume)  # axes become z, y, x; every point below is in that order
    image.SetSpacing(SPACING)
    return image


def _dilated(mask: Mask, mm: float) -> Mask:
    result: Mask = ndimage.distance_transform_edt(~mask) * STEP_MM <= mm
    return result


def _eroded(mask: Mask, mm: float) -> Mask:
    # the volume's border is no surface: a head may be cut off there
    result: Mask = ndimage.distance_transform_edt(mask) * STEP_MM > mm
    return result


def _opened(mask: Mask, mm: float) -> Mask:
    return _dilated(_eroded(mask, mm), mm) & mask


def _atlas_brain() -> Mask:
    brain: Mask = np.pad(load_atlas().tissue[0] < 0.5, PAD)
    return brain


def _start_centre(head: Volume, name: str) -> tuple[NDArray[np.float64], float]:
    """Return the middle of the head's upper 10 cm in the plane (x, y) and its crown (z), in mm."""
    threshold = _otsu(head, 1)[0]
    inside = largest_component(ndimage.binary_opening(head > 0.6 * threshold))
    if np.count_nonzero(inside) < MIN_CORE_VOXELS:
        raise _no_brain(name, "the foreground is too small for a head")
    crown = float(np.percentile(np.nonzero(inside)[2], 99.9))
    slab = np.argwhere(inside[:, :, max(0, int(crown) - 50) : int(crown) + 1])
    middle = (slab.min(0) + slab.max(0)) / 2
    return middle[:2] * STEP_MM, crown * STEP_MM


def _otsu(volume: Volume, thresholds: int) -> list[float]:
    otsu = sitk.OtsuMultipleThresholdsImageFilter()
    otsu.SetNumberOfThresholds(thresholds)
    otsu.SetNumberOfThreads(1)
    otsu.Execute(sitk.GetImageFromArray(volume))
    return [float(value) for value in otsu.GetThresholds()]


def _coarse(moving: sitk.Image, place: tuple[NDArray[np.float64], float]) -> sitk.AffineTransform:
    """Start below the crown at two sizes, register at 8 mm, keep the better one."""
    middle, crown = place
    points = np.argwhere(_atlas_brain()) * STEP_MM
    centre, top = points.mean(0), float(points[:, 2].max())
    found = []
    for scale in START_SCALES:
        start = np.array([*middle, crown - SCALP_MM - scale * (top - centre[2])])
        transform = sitk.AffineTransform(3)
        transform.SetCenter(centre[::-1].tolist())
        transform.SetTranslation((start - centre)[::-1].tolist())
        transform.SetMatrix((scale * np.eye(3)).ravel().tolist())
        found.append((_register(transform, moving, shrink=4, step=1.0), transform))
    return min(found, key=lambda pair: pair[0])[1]


def _register(transform: sitk.AffineTransform, moving: sitk.Image, shrink: int, step: float) -> float:
    """Improve an affine transform (atlas to scan) in place; returns the negative mutual information."""
    near = _dilated(_atlas_brain(), FIXED_MARGIN_MM)
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # sums in one order: the same mask whatever the machine
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.4, seed=1)
    method.SetMetricFixedMask(sitk.Cast(_image(near.astype(np.float32)), sitk.sitkUInt8))
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(step, 2e-3, 150, relaxationFactor=0.7)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([shrink])
    method.SetSmoothingSigmasPerLevel([float(shrink)])
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(_image(np.pad(load_atlas().t1, PAD)), moving)
    return float(method.GetMetricValue())


def _warped(transform: sitk.AffineTransform, scan: sitk.Image) -> Mask:
    brain = _image(_atlas_brain().astype(np.float32))
    warped = sitk.Resample(brain, scan, transform.GetInverse(), sitk.sitkLinear, 0.0)
    mask: Mask = sitk.GetArrayFromImage(warped) > 0.5
    return mask


def _refined(head: Volume, atlas: Mask, reach_mm: float, name: str) -> Mask:
    """Grow or shrink the atlas brain to the tissue that its core shows, at most ``reach_mm`` beyond it."""
    core = _eroded(atlas, CORE_MM)
    if np.count_nonzero(core) < MIN_CORE_VOXELS:
        raise _no_brain(name, "the atlas did not find its place")
    relative = head / _local_level(head, core)
    brightest = BRIGHTEST_MARGIN * float(np.percentile(relative[core], 99.5))  # the scalp's fat is brighter in T1
    tissue = (relative > DARKEST) & (relative < brightest) & _dilated(atlas, reach_mm)
    joined = largest_component(_opened(tissue | core, STEP_MM + 0.1) | core)
    # Sulci and the rim of dark CSF belong to the brain; what hangs on by a thread does not.
    return largest_component(_opened(close_and_fill(joined, SPACING, 8.0), 6.0) | core)


def _local_level(head: Volume, core: Mask) -> Volume:
    """Return the smooth brightness of typical tissue, so that a bias field moves the thresholds along."""
    middle = float(np.median(head[core]))
    typical = core & (head > 0.6 * middle) & (head < 1.6 * middle)
    sigma = LEVEL_SIGMA_MM / STEP_MM
    weight = ndimage.gaussian_filter(typical.astype(np.float32), sigma)
    total = ndimage.gaussian_filter(np.where(typical, head, np.float32(0)), sigma)
    level: Volume = np.maximum(total / np.maximum(weight, 1e-4), 1e-3 * max(middle, 1e-6)).astype(np.float32)
    return level


def _morphology(head: Volume) -> Mask:
    """Cut the brain loose from the scalp by erosion alone: the cheap second opinion."""
    bright = head > _otsu(head, 2)[0]
    brain = bright
    for radius in (4.0, 6.0, 8.0):
        brain = _dilated(largest_component(_eroded(bright, radius)), radius + 1.0) & bright
        if np.count_nonzero(brain) * STEP_MM**3 / 1000.0 < MAX_MORPHOLOGY_ML:
            break
    return close_and_fill(largest_component(brain), SPACING, 6.0)

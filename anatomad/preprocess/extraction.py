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
from anatomad.preprocess.head_registration import STEP_MM, as_image, atlas_in_scan, improve, register_head
from anatomad.preprocess.stripped import close_and_fill, largest_component, volume_ml

Mask = NDArray[np.bool_]
Volume = NDArray[np.float32]

SPACING = (STEP_MM, STEP_MM, STEP_MM)
UPPER_HEAD_MM = 100.0
HEAD_HEIGHT_MM = 150.0
BRAIN_BELOW_CROWN_MM = 75.0
CORE_MM = 8.0
LEVEL_SIGMA_MM = 20.0
DARKEST = 0.55
BRIGHTEST_MARGIN = 1.15
RIM_BRIGHTEST = 1.1
LEAST_DEPTH_MM = 6.0
MAX_SHALLOW_SHARE = 0.01
MOST_MORPHOLOGY_ML = 2000.0
MIN_CORE_VOXELS = 2000
MIN_PIECE = 0.02
CLOSING_MM = 10.0


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
    outline = _outline(head, name)
    depth = _depth(outline)
    centre, crown = _place(outline)
    try:
        transform, contrast = register_head(head, centre, crown)
        first = _refined(head, depth, atlas_in_scan(transform, as_image(head)), reach_mm=10.0, name=name)
        # Without scalp and skull, the metric sees the brain's own surface.
        alone = as_image(np.where(_dilated(first, 4.0), head, np.float32(0)))
        improve(transform, alone, contrast, shrink=2, step=0.5, iterations=100)
        atlas = atlas_in_scan(transform, alone)
    except RuntimeError as error:
        raise _no_brain(name, f"the atlas could not be registered ({str(error).strip().splitlines()[-1]})") from None
    brain = _refined(head, depth, atlas, reach_mm=7.0, name=name)
    if contrast == "dark CSF":
        brain = _with_rim(brain, head, depth)
    mask: Mask = grid.to_native(brain.astype(np.float32), order=1) >= 0.5
    return mask, dice(atlas, _morphology(head, depth, centre, crown))


def dice(first: Mask, second: Mask) -> float:
    """Dice overlap of two masks; 0 when both are empty."""
    both = np.count_nonzero(first) + np.count_nonzero(second)
    return 2.0 * float(np.count_nonzero(first & second)) / both if both else 0.0


def _no_brain(name: str, reason: str) -> BrainMaskError:
    return BrainMaskError(f"{name}: no brain found, {reason}; skull-strip it first")


def _clipped(working: Volume) -> Volume:
    low, high = np.percentile(working, (0.1, 99.0))
    clipped: Volume = (np.clip(working, low, high) - low).astype(np.float32)
    return clipped


def _dilated(mask: Mask, mm: float) -> Mask:
    result: Mask = ndimage.distance_transform_edt(~mask) * STEP_MM <= mm
    return result


def _eroded(mask: Mask, mm: float) -> Mask:
    # the volume's border is no surface: a head may be cut off there
    result: Mask = ndimage.distance_transform_edt(mask) * STEP_MM > mm
    return result


def _opened(mask: Mask, mm: float) -> Mask:
    return _dilated(_eroded(mask, mm), mm) & mask


def _outline(head: Volume, name: str) -> Mask:
    """Return the whole head as one solid piece: sinuses, ear canals and the gap of the skull are closed."""
    bright = ndimage.binary_opening(head > 0.6 * _otsu(head, 1)[0])
    labels, _ = ndimage.label(bright)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    # The dark skull may part scalp and brain altogether; specks of noise are no part of a head.
    pieces = (sizes > MIN_PIECE * sizes.sum())[labels]
    outline = largest_component(close_and_fill(pieces, SPACING, CLOSING_MM))
    if np.count_nonzero(outline) < MIN_CORE_VOXELS:
        raise _no_brain(name, "the foreground is too small for a head")
    return outline


def _depth(outline: Mask) -> Volume:
    """Return the distance in mm to the head's surface; no brain lies just below it."""
    depth: Volume = ndimage.distance_transform_edt(outline) * STEP_MM
    return depth


def _place(outline: Mask) -> tuple[NDArray[np.float64], float]:
    """Return the middle of the head's upper part in the plane (x, y) and its crown (z), in mm."""
    crown = float(np.percentile(np.nonzero(outline)[2], 99.9))
    slab = np.argwhere(outline[:, :, max(0, round(crown - UPPER_HEAD_MM / STEP_MM)) : int(crown) + 1])
    middle = (slab.min(0) + slab.max(0)) / 2
    return middle[:2] * STEP_MM, crown * STEP_MM


def _otsu(volume: Volume, thresholds: int) -> list[float]:
    otsu = sitk.OtsuMultipleThresholdsImageFilter()
    otsu.SetNumberOfThresholds(thresholds)
    otsu.SetNumberOfThreads(1)
    otsu.Execute(sitk.GetImageFromArray(volume))
    return [float(value) for value in otsu.GetThresholds()]


def _refined(head: Volume, depth: Volume, atlas: Mask, reach_mm: float, name: str) -> Mask:
    """Grow or shrink the atlas brain to the tissue that its core shows, at most ``reach_mm`` beyond it."""
    core = _eroded(atlas, CORE_MM)
    if np.count_nonzero(core) < MIN_CORE_VOXELS:
        raise _no_brain(name, "the atlas did not find its place")
    relative = head / _local_level(head, core)
    brightest = BRIGHTEST_MARGIN * float(np.percentile(relative[core], 99.5))  # the scalp's fat is brighter in T1
    allowed = _dilated(atlas, reach_mm) & (depth > LEAST_DEPTH_MM)
    tissue = (relative > DARKEST) & (relative < brightest) & allowed
    joined = largest_component(_opened(tissue | core, STEP_MM + 0.1) | core)
    # Sulci and the rim of dark CSF belong to the brain; what hangs on by a thread does not.
    return largest_component(_opened(close_and_fill(joined, SPACING, 8.0), 6.0) | core)


def _with_rim(brain: Mask, head: Volume, depth: Volume) -> Mask:
    """Add the rim of dark CSF, one voxel wide, that skull-stripped scans keep; bright scalp and marrow stay out."""
    ring = _dilated(brain, STEP_MM) & (depth > LEAST_DEPTH_MM) & (head < RIM_BRIGHTEST * np.median(head[brain]))
    return brain | ring


def _local_level(head: Volume, core: Mask) -> Volume:
    """Return the smooth brightness of typical tissue, so that a bias field moves the thresholds along."""
    middle = float(np.median(head[core]))
    typical = core & (head > 0.6 * middle) & (head < 1.6 * middle)
    sigma = LEVEL_SIGMA_MM / STEP_MM
    weight = ndimage.gaussian_filter(typical.astype(np.float32), sigma)
    total = ndimage.gaussian_filter(np.where(typical, head, np.float32(0)), sigma)
    level: Volume = np.maximum(total / np.maximum(weight, 1e-4), 1e-3 * max(middle, 1e-6)).astype(np.float32)
    return level


def _morphology(head: Volume, depth: Volume, centre: NDArray[np.float64], crown: float) -> Mask:
    """Cut the brain loose from the scalp by erosion alone: the cheap second opinion."""
    bright = head > _otsu(head, 2)[0]
    bright[:, :, : max(0, round((crown - HEAD_HEIGHT_MM) / STEP_MM))] = False
    middle = np.array([*centre, crown - BRAIN_BELOW_CROWN_MM]) / STEP_MM
    brain = bright
    for radius in (4.0, 6.0, 8.0, 10.0):
        seed = _central_component(_eroded(bright, radius), middle)
        brain = _dilated(seed, radius + 1.0) & bright
        shallow = np.count_nonzero(brain & (depth < LEAST_DEPTH_MM))
        if shallow <= MAX_SHALLOW_SHARE * np.count_nonzero(brain) and volume_ml(brain, SPACING) < MOST_MORPHOLOGY_ML:
            break
    return close_and_fill(largest_component(brain), SPACING, 6.0)


def _central_component(mask: Mask, middle: NDArray[np.float64], radius_mm: float = 50.0) -> Mask:
    """Keep the component with most voxels near the middle of the head."""
    labels, _ = ndimage.label(mask)
    around = tuple(slice(max(0, round(m - radius_mm / STEP_MM)), round(m + radius_mm / STEP_MM)) for m in middle)
    sizes = np.bincount(labels[around].ravel(), minlength=1)
    sizes[0] = 0
    result: Mask = (labels == sizes.argmax()) & mask
    return result

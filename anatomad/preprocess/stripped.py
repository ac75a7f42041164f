"""Recognise a skull-stripped scan by its background, and take the brain from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

Spacing = tuple[float, float, float]
Mask = NDArray[np.bool_]

VOLUME_ML = (400.0, 2200.0)
CLOSING_MM = 2.0
MIN_BORDER_SHARE = 0.5
MIN_CONNECTED_SHARE = 0.9
MAX_VALLEY = 1.2  # seen: stripped scans up to 1.06, heads with zeroed air from 1.34
SHELL_MM = 2.0
SHELLS = 12
RINGING_SHARE = 0.1
RINGING_AMPLITUDE = 0.15
MAX_SHELLS = 20


@dataclass(frozen=True)
class Background:
    """The value outside the brain or head: its centre, and the deviation from which a voxel is something else."""

    value: float
    tolerance: float
    border_share: float


def volume_ml(mask: Mask, spacing: Spacing) -> float:
    """Volume of a mask in ml; ``spacing`` in mm."""
    return float(np.count_nonzero(mask)) * float(np.prod(spacing)) / 1000.0


def largest_component(mask: Mask) -> Mask:
    """Keep the largest face-connected component."""
    labels, count = ndimage.label(mask)
    if count <= 1:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    result: Mask = labels == sizes.argmax()
    return result


def close_and_fill(mask: Mask, spacing: Spacing, radius_mm: float) -> Mask:
    """Close gaps narrower than twice ``radius_mm`` and fill enclosed holes."""
    radius = [max(1, round(radius_mm / mm)) for mm in reversed(spacing)]
    margin = max(radius)
    image = sitk.GetImageFromArray(np.pad(mask, margin).astype(np.uint8))
    closing = sitk.BinaryMorphologicalClosingImageFilter()
    closing.SetKernelRadius(radius)
    closing.SetNumberOfThreads(1)
    closed = sitk.GetArrayFromImage(sitk.BinaryFillhole(closing.Execute(image)))
    inner = slice(margin, -margin)
    result: Mask = closed[inner, inner, inner] > 0
    return result


def estimate_background(data: NDArray[np.float32]) -> Background:
    """Find the background from the most frequent value of the border voxels.

    Args:
        data: (x, y, z) finite intensities.
    """
    border = np.concatenate([face.ravel() for axis in range(3) for face in (data.take(0, axis), data.take(-1, axis))])
    value = _mode(border)
    deviation = np.abs(border - value)
    scale = float(np.percentile(np.abs(data - value), 99))
    near = deviation[deviation < 0.1 * scale]
    spread = 1.4826 * float(np.median(near)) if near.size else 0.0
    tolerance = max(1e-5 * scale, 5 * spread)
    return Background(value, tolerance, float(np.mean(deviation <= tolerance)))


def _mode(values: NDArray[np.float32]) -> float:
    """Most frequent value; of values that hardly repeat, the centre of the fullest histogram bin."""
    unique, counts = np.unique(values, return_counts=True)
    best = counts.argmax()
    if counts[best] >= 0.2 * values.size:
        return float(unique[best])
    low, high = np.percentile(values, (0.5, 99.5))
    counts, edges = np.histogram(values, bins=64, range=(float(low), float(max(high, low + 1e-6))))
    first = int(counts.argmax())
    inside = values[(values >= edges[first]) & (values <= edges[first + 1])]
    return float(np.median(inside))


def foreground(data: NDArray[np.float32], background: Background, spacing: Spacing) -> tuple[Mask, float]:
    """Everything that is not background: largest component, gaps closed, holes filled.

    Resampling with sharp kernels leaves shells of alternating sign around a stripped brain. Where the outermost voxels
    fall on both sides of the background by little, the lesser side gives the height of the ringing, and the threshold
    rises to it, shell by shell. A sharp edge keeps its darkest CSF.

    Returns:
        (x, y, z) mask; the share of all voxels beyond the threshold that the largest component holds.
    """
    deviation = data - np.float32(background.value)
    magnitude = np.abs(deviation)
    support = largest_component(magnitude > background.tolerance)
    threshold = background.tolerance
    ceiling = RINGING_AMPLITUDE * float(np.percentile(magnitude[support], 90)) if support.any() else 0.0
    for _ in range(MAX_SHELLS):
        height = _ringing(deviation, support)
        if not threshold < height < ceiling:
            break
        threshold = height
        support &= magnitude > threshold
    beyond = magnitude > threshold
    if threshold > background.tolerance:
        beyond = ndimage.binary_opening(beyond)
    kept = largest_component(beyond)
    share = float(np.count_nonzero(kept)) / max(float(np.count_nonzero(beyond)), 1.0)
    return close_and_fill(kept, spacing, CLOSING_MM), share


def _ringing(deviation: NDArray[np.float32], support: Mask) -> float:
    """Return 1.5 times the upper quartile of the lesser sign in the outermost voxels; 0 where they are of one sign."""
    rim = deviation[support & ~ndimage.binary_erosion(support)]
    below = rim < 0
    lesser = rim[below] if 2 * np.count_nonzero(below) < rim.size else rim[~below]
    if lesser.size <= RINGING_SHARE * rim.size:
        return 0.0
    return 1.5 * float(np.percentile(np.abs(lesser), 75))


def find_stripped(data: NDArray[np.float32], spacing: Spacing) -> Mask | None:
    """Return the brain of a skull-stripped scan, or ``None`` for a whole head.

    A stripped scan is one compact piece of brain volume whose border voxels are background, and its brightness has no
    valley below the surface; a head is larger, or has the dark skull between bright scalp and bright brain.

    Args:
        data: (x, y, z) finite intensities; the background may be any constant, with or without noise.
        spacing: voxel size in mm.
    """
    background = estimate_background(data)
    if background.border_share < MIN_BORDER_SHARE:
        return None
    brain, share = foreground(data, background, spacing)
    if share < MIN_CONNECTED_SHARE or not VOLUME_ML[0] <= volume_ml(brain, spacing) <= VOLUME_ML[1]:
        return None
    return None if valley(data, brain, spacing) > MAX_VALLEY else brain


def valley(data: NDArray[np.float32], brain: Mask, spacing: Spacing) -> float:
    """Depth of the darkest valley in the median brightness of 2 mm shells below the surface (1: none).

    A shell's figure is the lesser of the brightest shells above and below it, divided by its own brightness.
    """
    step = tuple(slice(None, None, max(1, round(SHELL_MM / mm))) for mm in spacing)
    inside = np.pad(brain[step], 1)
    sampling = [mm * (s.step or 1) for mm, s in zip(spacing, step, strict=True)]
    depth = ndimage.distance_transform_edt(inside, sampling=sampling)[1:-1, 1:-1, 1:-1]
    values = data[step]
    ground = float(np.percentile(values[brain[step]], 0.5))
    shell = np.ceil(depth / SHELL_MM).astype(int)
    medians = [float(np.median(v - ground)) for k in range(1, SHELLS + 1) if (v := values[shell == k]).size]
    floor = 1e-3 * max(medians, default=0.0)
    if floor <= 0:
        return 1.0  # one intensity throughout: normalising refuses it
    valleys = [
        min(max(medians[:k]), max(medians[k + 1 :])) / max(medians[k], floor) for k in range(1, len(medians) - 1)
    ]
    return max(valleys, default=1.0)

"""One scan, ready for a network: brain mask, working grid, normalised intensities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anatomad.errors import BrainMaskError
from anatomad.io.geometry import WorkingGrid, working_grid
from anatomad.io.nifti import Image
from anatomad.preprocess.bias import correct_bias
from anatomad.preprocess.brain_mask import BrainMask, brain_mask
from anatomad.preprocess.normalise import (
    CLIP,
    PERCENTILES,
    check_intensities,
    fill_nonfinite,
    intensity_window,
    normalise,
)

THICK_SLICE_MM = 3.5
MAX_SILENT_CLIPPED = 0.01


@dataclass(frozen=True)
class Scan:
    """A prepared scan.

    Attributes:
        image: (X, Y, Z) float32 on the working grid, normalised to [-0.5, 2], 0 outside the brain.
        mask: (X, Y, Z) bool brain on the working grid.
        grid: how the working grid lies in the native one.
        brain: the brain mask on the native grid, with its source and doubts.
        window: native intensities that became 0 and 1; image * (window[1] - window[0]) + window[0] undoes it.
        warnings: sentences for the user; empty when all is well.
    """

    image: NDArray[np.float32]
    mask: NDArray[np.bool_]
    grid: WorkingGrid
    brain: BrainMask
    window: tuple[float, float]
    warnings: tuple[str, ...]


def prepare_scan(
    image: Image,
    spacing_mm: tuple[float, float, float],
    box: tuple[int, int, int] | None = None,
    multiple: tuple[int, int, int] = (1, 1, 1),
    given_mask: NDArray[np.bool_] | BrainMask | None = None,
    bias_correct: bool = False,
    percentiles: tuple[float, float] = PERCENTILES,
) -> Scan:
    """Find the brain, resample it to the working grid and normalise it.

    Args:
        image: the scan as read, native grid.
        spacing_mm: working spacing in canonical (RAS) axis order.
        box: working shape in voxels; grows when the brain does not fit; ``None``: the brain's bounding box.
        multiple: the sides of a box that is found or grown are multiples of these.
        given_mask: (x, y, z) brain on the native grid, or a ``BrainMask`` found earlier (another channel of the case).
        bias_correct: apply N4 on the working grid; only for scans known to be healthy.
        percentiles: of the brain's intensities, that become 0 and 1.

    Raises:
        IntensityError: constant image, or more than 20 % non-finite voxels in the image or the brain.
        BrainMaskError: no plausible brain, or a given mask of another shape.
    """
    name, data = str(image.path), np.asarray(image.data, dtype=np.float32)
    check_intensities(data, name)
    brain = given_mask if isinstance(given_mask, BrainMask) else brain_mask(image, given_mask)
    if brain.mask.shape != data.shape:
        raise BrainMaskError(
            f"{image.path}: the brain mask has shape {brain.mask.shape}, the image {data.shape}; "
            "give a mask on the image's own grid"
        )
    grid = working_grid(image.shape, image.affine, spacing_mm, mask=brain.mask, box=box, multiple=multiple)
    working, mask = _resample(data, brain.mask, grid)
    if bias_correct:
        working = correct_bias(working, mask, spacing_mm)
    window = intensity_window(working, mask, name, percentiles)
    return Scan(
        image=normalise(working, mask, name, percentiles),
        mask=mask,
        grid=grid,
        brain=brain,
        window=window,
        warnings=_warnings(image, brain, grid, box, working[mask], window),
    )


def _resample(
    data: NDArray[np.float32], mask: NDArray[np.bool_], grid: WorkingGrid
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Resample brain voxels only: what lies outside is unknown, not black, so the rim takes no part of it."""
    brain = np.where(mask, fill_nonfinite(data, mask), np.float32(0))
    weight = np.clip(grid.to_working(mask.astype(np.float32), order=1), 0, 1)
    inside = weight >= 0.5
    values = grid.to_working(brain, order=1)
    return np.where(inside, values / np.maximum(weight, 0.5), 0).astype(np.float32), inside


def _warnings(
    image: Image,
    brain: BrainMask,
    grid: WorkingGrid,
    box: tuple[int, int, int] | None,
    values: NDArray[np.float32],
    window: tuple[float, float],
) -> tuple[str, ...]:
    found = [brain.doubt] if brain.doubt else []
    if image.nonfinite_share > 0:
        found.append(
            f"{image.nonfinite_share:.2%} of the voxels were NaN or infinite and were replaced by the brain's median."
        )
    thickest = max(image.spacing)
    if thickest > THICK_SLICE_MM:
        found.append(f"Slices are {thickest:.1f} mm thick; small lesions between them cannot be seen.")
    scaled = (values - window[0]) / (window[1] - window[0])
    clipped = float(np.mean((scaled < CLIP[0]) | (scaled > CLIP[1])))
    if clipped > MAX_SILENT_CLIPPED:
        found.append(f"{clipped:.1%} of the brain lies far outside the usual intensity range and was clipped.")
    if box is not None and tuple(grid.box) != tuple(box):
        found.append(f"The brain does not fit the model's box of {box} voxels; a box of {grid.box} was used.")
    return tuple(found)

"""The brain of a scan: given, recognised as skull-stripped, or computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from anatomad.errors import BrainMaskError
from anatomad.io.nifti import Image
from anatomad.planner.plan import Treatment
from anatomad.preprocess.extraction import extract_brain
from anatomad.preprocess.normalise import check_intensities
from anatomad.preprocess.stripped import estimate_background, find_stripped, volume_ml

USUAL_ML = (900.0, 2000.0)
POSSIBLE_ML = (400.0, 2500.0)
MIN_AGREEMENT = 0.9

Source = Literal["given", "stripped", "computed"]


@dataclass(frozen=True)
class BrainMask:
    """A brain mask and how far to trust it.

    Attributes:
        mask: (x, y, z) bool on the image's native grid.
        source: given by the user, recognised as a skull-stripped scan, or computed.
        doubt: a sentence when the mask should be looked at, else ``None``.
        volume_ml: its volume in ml.
        agreement: Dice between two independent methods, for computed masks.
    """

    mask: NDArray[np.bool_]
    source: Source
    doubt: str | None
    volume_ml: float
    agreement: float | None


def brain_mask(image: Image, given: NDArray[np.bool_] | None = None, treatment: Treatment = "auto") -> BrainMask:
    """Find the brain.

    Args:
        image: the scan as read.
        given: (x, y, z) mask on the same grid, used as it is; any non-zero voxel is brain.
        treatment: without a given mask: ``auto`` keeps that of a skull-stripped scan and finds it in a whole head,
            ``stripped`` refuses whole heads, ``extract`` finds it in every scan.

    Raises:
        IntensityError: constant image or more than 20 % non-finite voxels.
        BrainMaskError: the given mask has another shape, no brain of 400 to 2500 ml is found, or a whole head was
            refused.
    """
    data = np.asarray(image.data, dtype=np.float32)
    check_intensities(data, str(image.path))
    if given is not None:
        return _judged(image, _checked(image, given), "given", None)
    finite = np.isfinite(data)
    if not finite.all():
        # background, so that a hole of NaN inside the brain is filled and one outside is not taken for tissue
        known = np.where(finite, data, np.float32(np.median(data[finite])))
        data = np.where(finite, data, np.float32(estimate_background(known).value))
    stripped = None if treatment == "extract" else find_stripped(data, image.spacing)
    if stripped is not None:
        return _judged(image, stripped, "stripped", None)
    if treatment == "stripped":
        raise BrainMaskError(
            f"{image.path}: a whole head, or remains of one, where the plan expects skull-stripped scans "
            "(brain_mask is 'stripped'); strip it, or plan with --set brain_mask=auto"
        )
    mask, agreement = extract_brain(data, image.affine, str(image.path))
    return _judged(image, mask, "computed", agreement)


def _checked(image: Image, given: NDArray[np.bool_]) -> NDArray[np.bool_]:
    if given.shape != image.data.shape:
        raise BrainMaskError(
            f"{image.path}: the given brain mask has shape {given.shape}, the image {image.data.shape}; "
            "give a mask on the image's own grid"
        )
    return np.asarray(given != 0)


def _judged(image: Image, mask: NDArray[np.bool_], source: Source, agreement: float | None) -> BrainMask:
    volume = volume_ml(mask, image.spacing)
    if not POSSIBLE_ML[0] <= volume <= POSSIBLE_ML[1]:
        raise BrainMaskError(
            f"{image.path}: the {source} brain mask holds {volume:.0f} ml, a brain has {POSSIBLE_ML[0]:.0f} to "
            f"{POSSIBLE_ML[1]:.0f} ml; skull-strip it first, or check the voxel size in the header"
        )
    doubts = []
    if not USUAL_ML[0] <= volume <= USUAL_ML[1]:
        doubts.append(f"its volume of {volume:.0f} ml is unusual for an adult")
    if agreement is not None and agreement < MIN_AGREEMENT:
        doubts.append(f"two methods agree only to a Dice of {agreement:.2f} (at least {MIN_AGREEMENT} is usual)")
    doubt = f"The {source} brain mask is doubtful: {' and '.join(doubts)}; look at it." if doubts else None
    return BrainMask(mask, source, doubt, volume, agreement)

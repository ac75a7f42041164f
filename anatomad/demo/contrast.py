"""What a scanner makes of a generated anatomy: three contrasts, each subject's own, with the usual disturbances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatomad.demo.anatomy import Anatomy, Volume, smooth_field
from anatomad.demo.lesions import Layer

_JITTER = 0.03  # SD of a tissue's brightness between subjects
_TEXTURE, _TEXTURE_MM = 0.03, 4.0  # within a tissue
_BLUR_VOXELS = 0.35
_BIAS_MM = 45.0
_BIAS_SD, _NOISE_SD = (0.04, 0.12), (0.015, 0.035)
_GAIN = (300.0, 1500.0)


@dataclass(frozen=True)
class Contrast:
    """A sequence: its name and the brightness of CSF, grey and white matter in [0, 1]."""

    name: str
    tissue: tuple[float, float, float]


CONTRASTS = (
    Contrast("T1-like", (0.20, 0.56, 0.85)),
    Contrast("T2-like", (0.95, 0.55, 0.38)),
    Contrast("FLAIR-like", (0.15, 0.60, 0.46)),
)


def render(
    anatomy: Anatomy, contrast: int, layers: Sequence[Layer], spacing: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int16]:
    """Scan an anatomy with ``CONTRASTS[contrast]``.

    Args:
        anatomy: who is scanned.
        contrast: index into `CONTRASTS`.
        layers: lesions, painted in this order.
        spacing: voxel size in mm.
        rng: of this scan alone.

    Returns:
        (x, y, z) arbitrary units, at least 1 in the brain and 0 outside, as of a skull-stripped scan.
    """
    shape = anatomy.brain.shape
    levels = [level + rng.normal(0, _JITTER) for level in CONTRASTS[contrast].tissue]
    image: Volume = np.tensordot(np.array(levels, np.float32), anatomy.tissue[1:], 1)
    for layer in layers:
        image += layer.weight * (layer.levels[contrast] + rng.normal(0, _JITTER) - image)
    image *= 1 + _TEXTURE * smooth_field(shape, spacing, _TEXTURE_MM, rng)
    image = _blurred(image, anatomy.brain)
    image *= np.exp(rng.uniform(*_BIAS_SD) * smooth_field(shape, spacing, _BIAS_MM, rng))
    noise = rng.uniform(*_NOISE_SD) * rng.standard_normal((2, *shape))
    image = np.hypot(image + noise[0], noise[1])  # magnitude images have Rician noise
    scaled = np.round(image * np.exp(rng.uniform(*np.log(_GAIN))))
    return np.where(anatomy.brain, np.clip(scaled, 1, np.iinfo(np.int16).max), 0).astype(np.int16)


def _blurred(image: Volume, brain: NDArray[np.bool_]) -> Volume:
    weight = ndimage.gaussian_filter(brain.astype(np.float32), _BLUR_VOXELS)
    return np.asarray(ndimage.gaussian_filter(image * brain, _BLUR_VOXELS) / np.maximum(weight, 1e-3))

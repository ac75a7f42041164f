"""Healthy anatomies that nobody has: the average atlas, warped at two scales, its tissue borders moved and sharpened.

The atlas is the mean of many brains, so its cortex is a blur of folds that all share. Warping at the scale of gyri and
smooth random shifts of the log-probabilities give each subject sulci, cortex and ventricles of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.spatial.transform import Rotation

from anatomad.preprocess.atlas import Atlas

CSF, GREY, WHITE = 1, 2, 3
SPACING_MM = 3.0  # coarse, so that a few minutes of training go a long way

_MARGIN_MM = 6.0  # around the atlas, for brains that are larger
_WARPS_MM = ((24.0, 2.2), (9.0, 1.5))  # SD of the Gaussian that makes a displacement smooth, and of its size
_WARP_MAX_MM = 8.0
_SHRINK, _SCALE_SD = 0.07, 0.035  # the average of aligned brains is larger than the average brain
_ROTATION_DEG = 4.0
_SHIFT_MM, _SHIFT_SD = 4.0, 0.5  # smoothness of the shifts of the log-probabilities, and their size
_ATROPHY, _ATROPHY_SD = 0.4, 0.5  # the same for CSF everywhere: some have wider ventricles and sulci than others
_SHARPNESS = 1.7  # of the log-probabilities: the border of two tissues becomes about as wide as a voxel
_FLOOR = 1e-3

Volume = NDArray[np.float32]
Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Anatomy:
    """A brain.

    Attributes:
        tissue: fractions (4, x, y, z) in [0, 1] of background, CSF, grey and white matter; they sum to one.
        brain: (x, y, z).
        affine: voxel to mm, (4, 4), RAS.
    """

    tissue: Volume
    brain: NDArray[np.bool_]
    affine: NDArray[np.float64]


def draw_anatomy(atlas: Atlas, rng: np.random.Generator) -> Anatomy:
    """Draw a healthy anatomy on a grid of `SPACING_MM` around the atlas; the brain has no background in it."""
    spacing = np.full(3, SPACING_MM)
    extent = np.array(atlas.t1.shape) * atlas.spacing_mm + 2 * _MARGIN_MM
    shape = (int(extent[0] / SPACING_MM), int(extent[1] / SPACING_MM), int(extent[2] / SPACING_MM))
    at = _deformation(atlas, shape, spacing, rng)
    prior = np.stack([ndimage.map_coordinates(p, at, order=1, mode="nearest") for p in atlas.tissue])
    brain = _largest(prior[0] < 0.5)
    logits = np.log(prior[1:] + _FLOOR)
    logits += _SHIFT_SD * np.stack([smooth_field(shape, spacing, _SHIFT_MM, rng) for _ in logits])
    logits[CSF - 1] += rng.normal(_ATROPHY, _ATROPHY_SD)
    inside = np.exp(_SHARPNESS * (logits - logits.max(0))) * brain
    tissue = np.concatenate([~brain[None], inside / np.maximum(inside.sum(0), _FLOOR)])
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -spacing * (np.array(shape) - 1) / 2
    return Anatomy(tissue.astype(np.float32), brain, affine)


def smooth_field(shape: Triple, spacing: NDArray[np.float64], sigma_mm: float, rng: np.random.Generator) -> Volume:
    """Draw a random field (x, y, z) of mean 0 and SD 1: white noise seen through a Gaussian of ``sigma_mm``."""
    sigma = sigma_mm / spacing
    # The transform is periodic; the margin keeps opposite faces apart.
    padded = [fft.next_fast_len(n + int(np.ceil(3 * s)), real=True) for n, s in zip(shape, sigma, strict=True)]
    spectrum = fft.rfftn(rng.standard_normal(padded, dtype=np.float32))
    field = fft.irfftn(ndimage.fourier_gaussian(spectrum, sigma, n=padded[-1]), padded)
    field = field[tuple(map(slice, shape))]
    return np.asarray((field - field.mean()) / field.std(), dtype=np.float32)


def _deformation(atlas: Atlas, shape: Triple, spacing: NDArray[np.float64], rng: np.random.Generator) -> Volume:
    """Where each voxel comes from, in atlas voxels (3, x, y, z): scaled, turned and smoothly displaced."""
    angles = rng.uniform(-_ROTATION_DEG, _ROTATION_DEG, 3)
    matrix = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * np.exp(rng.normal(_SHRINK, _SCALE_SD, 3))
    voxel = np.indices(shape, dtype=np.float32).reshape(3, -1).T
    mm = (voxel - (np.array(shape) - 1) / 2) * spacing @ matrix.T
    warp = sum(
        rng.uniform(0.5, 1.3) * sd * np.stack([smooth_field(shape, spacing, sigma, rng).ravel() for _ in range(3)], 1)
        for sigma, sd in _WARPS_MM
    )
    centre = (np.array(atlas.t1.shape) - 1) / 2
    at = (mm + np.clip(warp, -_WARP_MAX_MM, _WARP_MAX_MM)) / atlas.spacing_mm + centre
    return np.asarray(at.T.reshape(3, *shape), dtype=np.float32)


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    filled = ndimage.binary_fill_holes(ndimage.binary_opening(mask))
    labels, _ = ndimage.label(filled)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())

"""Where a brain lies and which way round, by comparison with the atlas at low resolution."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatomad.preprocess.atlas import load_atlas

Volume = NDArray[np.float32]
Mask = NDArray[np.bool_]
Array = NDArray[np.float64]
Triple = tuple[float, float, float]

CUBE_SIDE, CUBE_MM = 28, 8.0
SETTLING = 3
NODS = (-16.0, 0.0, 16.0)
OUTSIDE = 0.9
_PRIOR_FWHM_MM = 8.0
_DETAIL_SIGMA = 1.5
_LEAST_SHARE = 0.3


@dataclass(frozen=True)
class Place:
    """Where a brain lies: centre and SD of its voxels' positions along the axes, mm from the first voxel's centre."""

    centre: Array
    spread: Array

    def relative(self, points_mm: Array) -> Array:
        """Positions (n, 3) in units of the brain's spread from its centre."""
        relative: Array = (points_mm - self.centre) / self.spread
        return relative


@dataclass(frozen=True)
class Pose:
    """Which way round a brain lies.

    Attributes:
        axes: where the axes called R, A and S point, like ``RAS`` when that is right.
        margin: agreement with the atlas as it lies, less that of the best other way; -1 to 1.
        symmetry: correlation of the brain with its mirror image, -1 to 1.
    """

    axes: str
    margin: float
    symmetry: float


def settle(points_mm: Array) -> tuple[Place, Array]:
    """Lay the atlas over a brain by centre and spread, heedless of what hangs on outside the brain.

    Args:
        points_mm: (n, 3) positions of the mask's voxels in RAS order.

    Returns:
        The brain's place, and the atlas's probabilities (n, 4) of background, CSF, grey and white matter there.
    """
    inside = np.ones(len(points_mm), bool)
    for _ in range(SETTLING):
        place = _place(points_mm[inside])
        prior = atlas_at(points_mm, place)
        inside = prior[:, 0] <= OUTSIDE
        if np.count_nonzero(inside) < 2:
            break
    return place, prior


def atlas_at(points_mm: Array, place: Place) -> Array:
    """Return the smoothed atlas's tissue probabilities (n, 4) at positions (n, 3) of a brain at ``place``."""
    home, atlas = _atlas_place(), _smooth_atlas()
    mm = place.relative(points_mm) * home.spread + home.centre
    index = np.round(mm / load_atlas().spacing_mm).astype(np.intp)
    within: Mask = np.logical_and.reduce((index >= 0) & (index < atlas.shape[1:]), axis=1)
    x, y, z = np.where(within, index.T, 0)
    return np.where(within[:, None], atlas[:, x, y, z].T, (1.0, 0.0, 0.0, 0.0)).astype(np.float64)


def in_cube(data: Volume, mask: Mask, spacing: Triple, place: Place) -> tuple[Volume, Volume]:
    """Put a brain into a cube of `CUBE_SIDE` voxels: centred, and as large as the atlas's brain.

    Returns:
        Mean intensity of the brain in each voxel (0 outside), and the share of the voxel that is brain.
    """
    share = _sampled(mask.astype(np.float32), spacing, place)
    total = _sampled(np.where(mask, data, np.float32(0)), spacing, place)
    return np.where(share > _LEAST_SHARE, total / np.maximum(share, _LEAST_SHARE), 0).astype(np.float32), share


def pose(values: Volume, share: Volume) -> Pose:
    """Compare a brain in its cube with the atlas in each of the 24 ways that it may lie.

    The agreement is the mean of two figures in [0, 1]: the overlap of the brains' shapes (soft Dice), and the share of
    the intensities' variance that the atlas's tissues explain, whatever their brightness; the best of a few nods of the
    head counts. Sides are not told apart: a brain is its own mirror image but for details far below this resolution.
    """
    turns = [turn for turn in product(permutations(range(3)), product((1, -1), repeat=3)) if turn[1][0] == 1]
    brain = values[share > 0.5]
    clipped = np.clip(values, *np.percentile(brain, (2, 98))) if brain.size else values
    scores = np.array([_agreement(turned(clipped, *turn), turned(share, *turn)) for turn in turns])
    order, signs = turns[int(scores.argmax())]
    axes = [""] * 3
    for code, axis, sign in zip(("RL", "AP", "SI"), order, signs, strict=True):
        axes[axis] = code[sign < 0]
    mirror = np.corrcoef(values.ravel(), values[::-1].ravel())[0, 1]
    return Pose("".join(axes), float(scores[0] - scores[1:].max()), float(mirror))


def turned(volume: Volume, order: tuple[int, ...], signs: tuple[int, ...]) -> Volume:
    """Permute and flip the axes of a cube."""
    return volume.transpose(order)[tuple(slice(None, None, sign) for sign in signs)]


def detail(values: Volume, share: Volume) -> NDArray[np.int8]:
    """What is this person's own in a brain in its cube: fine structure, as small numbers of zero mean."""
    level = np.float32(np.median(values[share > 0.5])) if (share > 0.5).any() else np.float32(1)
    relative = np.where(share > _LEAST_SHARE, values / (level or np.float32(1)), 0)
    fine = (relative - ndimage.gaussian_filter(relative, _DETAIL_SIGMA))[_atlas_cube()[0] < 0.5]
    fine -= fine.mean()
    return np.round(np.clip(fine / max(float(fine.std()), 1e-6), -4, 4) * 31).astype(np.int8)


def _place(points_mm: Array) -> Place:
    return Place(points_mm.mean(0), np.maximum(points_mm.std(0), 1.0))


def _sampled(volume: Volume, spacing: Triple, place: Place) -> Volume:
    scale = float(np.cbrt(np.prod(place.spread) / np.prod(_atlas_place().spread)))
    widths = [CUBE_MM * scale / mm for mm in spacing]
    smooth = volume
    for axis, width in enumerate(widths):
        smooth = ndimage.uniform_filter1d(smooth, max(1, round(width)), axis=axis, mode="constant")
    corner = [c / mm - w * (CUBE_SIDE - 1) / 2 for c, mm, w in zip(place.centre, spacing, widths, strict=True)]
    result: Volume = ndimage.affine_transform(smooth, widths, corner, (CUBE_SIDE,) * 3, order=1)
    return result


def _agreement(values: Volume, share: Volume) -> float:
    inside = share > 0.5
    return max(_overlap(share, atlas) + _explained(values, inside, atlas) for atlas in _nods()) / 2


def _overlap(share: Volume, atlas: Volume) -> float:
    brain = 1 - atlas[0]
    return 2 * float(np.minimum(share, brain).sum()) / float(share.sum() + brain.sum())


def _explained(values: Volume, inside: Mask, atlas: Volume) -> float:
    both = inside & (atlas[0] < 0.5)
    basis, found = atlas[1:, both].astype(np.float64), values[both].astype(np.float64)
    if found.size <= len(basis):
        return 0.0
    levels = np.linalg.solve(basis @ basis.T + 1e-6 * np.eye(len(basis)), basis @ found)
    return 1.0 - float(np.mean((found - levels @ basis) ** 2)) / max(float(np.var(found)), 1e-12)


@cache
def _nods() -> tuple[Volume, ...]:
    """The atlas in its cube, the head nodding by several angles; outside is background."""
    upright = _atlas_cube()
    return tuple(
        np.stack(
            [
                ndimage.rotate(tissue, degrees, (1, 2), reshape=False, order=1, cval=float(index == 0))
                for index, tissue in enumerate(upright)
            ]
        )
        for degrees in NODS
    )


@cache
def _atlas_place() -> Place:
    atlas = load_atlas()
    return _place(np.argwhere(atlas.tissue[0] < 0.5) * np.asarray(atlas.spacing_mm))


@cache
def _atlas_cube() -> Volume:
    atlas, place = load_atlas(), _atlas_place()
    tissue = np.stack([_sampled(t, atlas.spacing_mm, place) for t in atlas.tissue[1:]])
    return np.concatenate([1 - tissue.sum(0, keepdims=True), tissue]).astype(np.float32)


@cache
def _smooth_atlas() -> Volume:
    atlas = load_atlas()
    sigma = _PRIOR_FWHM_MM / 2.355 / atlas.spacing_mm[0]
    smooth: Volume = ndimage.gaussian_filter(atlas.tissue, (0, sigma, sigma, sigma))
    return smooth

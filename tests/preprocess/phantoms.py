"""Generated brains and heads; nothing here comes from a person but the bundled atlas average."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatomad.io.nifti import Image, read_image
from anatomad.preprocess.atlas import load_atlas

Volume = NDArray[np.float32]
Mask = NDArray[np.bool_]
Spacing = tuple[float, float, float]

SPACING = (2.5, 2.5, 2.5)
SHAPE = (72, 84, 68)
HEAD_PADDING = ((14, 14), (14, 14), (24, 14))
HALF_AXES_MM = (66.0, 82.0, 62.0)
VOLUME_ML = 4 / 3 * np.pi * float(np.prod(HALF_AXES_MM)) / 1000

# CSF, grey matter, white matter, scalp
T1 = (0.25, 0.65, 1.0, 0.9)
T2 = (2.0, 1.0, 0.7, 0.8)


def distance() -> Volume:
    """1 on the surface of the ellipsoid brain, 0 in its centre."""
    place = np.indices(SHAPE) - (np.array(SHAPE)[:, None, None, None] - 1) / 2
    scaled = place * np.array(SPACING)[:, None, None, None] / np.array(HALF_AXES_MM)[:, None, None, None]
    return np.sqrt((scaled**2).sum(0)).astype(np.float32)


def ellipsoid(
    levels: tuple[float, float, float, float] = T1, noise: float = 0.03, seed: int = 0
) -> tuple[Volume, Mask]:
    """A stripped brain on background 0: ventricle, white matter, grey matter and a rim of CSF, around 1000."""
    radius = distance()
    csf, grey, white, _ = levels
    layers = np.select([radius < 0.2, radius < 0.7, radius < 0.93, radius < 1], [csf, white, grey, csf], 0.0)
    texture = 1 + noise * np.random.default_rng(seed).standard_normal(SHAPE)
    return (1000 * layers * texture).astype(np.float32), radius < 1


def with_skull(brain: Volume, scalp: float = 1000.0) -> Volume:
    """Put a dark skull and a bright scalp around an ellipsoid brain; the air is exactly 0."""
    radius = distance()
    head = np.where((radius >= 1) & (radius < 1.08), 20.0, brain)
    return np.where((radius >= 1.08) & (radius < 1.15), scalp, head).astype(np.float32)


def atlas_tissue() -> Volume:
    """Share of grey and white matter, on the grid of ``atlas_head``."""
    return np.pad(load_atlas().tissue[2:].sum(0), HEAD_PADDING)


@cache
def atlas_head(levels: tuple[float, float, float, float], spacing: float = 1.75) -> tuple[Volume, Mask]:
    """A whole head around the atlas's brain, with neck, Rician noise and a bias field; ``spacing`` makes it small."""
    tissue = np.pad(load_atlas().tissue, ((0, 0), *HEAD_PADDING))
    tissue[0] = 1 - tissue[1:].sum(0)
    brain = tissue[0] < 0.5
    outside = ndimage.distance_transform_edt(~brain) * spacing
    csf, grey, white, scalp = levels
    head = np.tensordot((0, csf, grey, white), tissue, 1)
    head = np.where(~brain, 0.05, head)
    head = np.where(~brain & (outside < 2), csf, head)
    head = np.where((outside > 7) & (outside < 14), scalp, head)
    neck = np.zeros_like(brain)
    neck[35:70, 35:80, :26] = True
    head = np.where(neck & (outside > 7), scalp, head)
    head = np.where((outside >= 14) & ~neck, 0, head)
    rng = np.random.default_rng(1)
    field = ndimage.zoom(rng.normal(0, 0.15, (3, 3, 3)), np.array(head.shape) / 3, order=3)
    head = head * np.exp(field)
    noisy = np.hypot(head + rng.normal(0, 0.03, head.shape), rng.normal(0, 0.03, head.shape))
    return (600 * noisy).astype(np.float32), brain


def as_image(
    data: NDArray[Any], path: Path, spacing: Spacing = SPACING, affine: NDArray[np.float64] | None = None
) -> Image:
    """Write a volume as float32 NIfTI and read it back as the package does."""
    affine = np.diag([*spacing, 1.0]) if affine is None else affine
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data.astype(np.float32), affine), path)
    return read_image(path)


def dice(first: Mask, second: Mask) -> float:
    return 2.0 * float((first & second).sum()) / float(first.sum() + second.sum())

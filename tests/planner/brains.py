"""Skull-stripped brains made from the bundled atlas, and ways to spoil them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatomad.io.nifti import read_image
from anatomad.planner.measure import measure_image
from anatomad.planner.records import ChannelFingerprint
from anatomad.planner.thumbnails import Thumbnail
from anatomad.preprocess.atlas import load_atlas

Volume = NDArray[np.float32]

T1, T2, FLAIR = (0.25, 0.6, 0.9), (1.0, 0.6, 0.4), (0.2, 0.75, 0.65)
SPACING_MM = 2.0
PADDING = 12


def brain(levels: tuple[float, float, float] = T1, noise: float = 0.02, seed: int = 0, person: int = 0) -> Volume:
    """A brain on a RAS grid of 2 mm, about 1000 where it is brightest; ``person`` bends its anatomy."""
    tissue = np.pad(load_atlas().tissue[1:], ((0, 0), *[(PADDING, PADDING)] * 3))
    if person:
        rng = np.random.default_rng(person)
        bend = [ndimage.gaussian_filter(rng.normal(0, 1, tissue.shape[1:]), 6) for _ in range(3)]
        where = [grid + 3 * b / b.std() for grid, b in zip(np.indices(tissue.shape[1:]), bend, strict=True)]
        tissue = np.stack([ndimage.map_coordinates(t, where, order=1) for t in tissue])
    share = tissue.sum(0)
    clean = np.tensordot(levels, tissue, 1) / np.maximum(share, 0.5)
    noisy = clean + np.random.default_rng(seed).normal(0, noise, clean.shape)
    return np.where(share > 0.5, 1000 * np.maximum(noisy, 0.02), 0).astype(np.float32)


def centred_on(data: Volume) -> tuple[Volume, Volume, Volume]:
    """Distance in mm from the brain's centre along x, y and z, ready to broadcast."""
    middle = np.argwhere(data > 0).mean(0)
    x, y, z = (SPACING_MM * (np.arange(size) - centre) for size, centre in zip(data.shape, middle, strict=True))
    return x[:, None, None], y[:, None], z


def with_neck(data: Volume) -> Volume:
    """Leave 90 ml of neck below the brain stem."""
    x, y, z = centred_on(data)
    bottom = SPACING_MM * (np.argwhere(data > 0)[:, 2].min() - np.argwhere(data > 0)[:, 2].mean())
    neck = (x**2 + (y + 15) ** 2 < 30**2) & (z >= bottom - 22) & (z <= bottom + 10)
    return np.where(neck & (data == 0), np.float32(500), data)


def with_bright_area(data: Volume, times: float = 1.8) -> Volume:
    """Brighten a ball of 45 mm."""
    x, y, z = centred_on(data)
    return np.where((x - 25) ** 2 + (y + 20) ** 2 + (z - 15) ** 2 < 22**2, times * data, data).astype(np.float32)


def write(path: Path, data: Volume, affine: NDArray[np.float64] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, np.diag([*[SPACING_MM] * 3, 1.0]) if affine is None else affine), path)
    return path


def measure(
    path: Path, data: Volume, affine: NDArray[np.float64] | None = None
) -> tuple[ChannelFingerprint, Thumbnail]:
    return measure_image(read_image(write(path, data, affine)))

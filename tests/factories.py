"""Generated NIfTI files and volumes for tests; nothing here comes from a person.

Headers are written by hand, not by ``nibabel.save``, so that any field can hold what a test wants.
"""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[Any]
Triple = tuple[int, int, int]


def volume(shape: tuple[int, ...] = (9, 8, 7), dtype: str = "i2", seed: int = 0) -> Array:
    """Smooth-free random volume whose values fit every integer type."""
    return np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)


def blob(shape: Triple, centre: tuple[float, float, float], sigma: tuple[float, float, float]) -> Array:
    """One Gaussian blob of height 1, centre and SD in voxels, float32."""
    axes = [np.exp(-0.5 * ((np.arange(n) - c) / s) ** 2) for n, c, s in zip(shape, centre, sigma, strict=True)]
    return np.einsum("i,j,k->ijk", *axes).astype(np.float32)


def orientations() -> Iterator[Array]:
    """Yield the 48 signed 3x3 permutation matrices."""
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            yield np.eye(3)[:, order] * signs


def make_affine(
    orientation: Array | None = None,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    angles: tuple[float, float, float] = (0.0, 0.0, 0.0),
    shear: float = 0.0,
    origin: tuple[float, float, float] = (-10.0, 20.0, -30.0),
) -> Array:
    """4x4 affine: native axes by ``orientation``, then rotated (degrees about x, y, z) and sheared in world space."""
    base = np.eye(3) if orientation is None else orientation
    skew = np.eye(3)
    skew[0, 1] = shear
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ skew @ base * spacing
    affine[:3, 3] = origin
    return affine


def make_header(
    shape: tuple[int, ...],
    dtype: str = "i2",
    affine: Array | None = None,
    *,
    version: int = 1,
    order: str = "<",
    sform_code: int = 1,
    qform_code: int = 1,
    **fields: Any,
) -> nib.Nifti1Header:
    """A header that describes (shape, dtype, affine), with any field overwritten by name."""
    header = (nib.Nifti1Header if version == 1 else nib.Nifti2Header)(endianness=order)
    header.set_data_dtype(np.dtype(dtype))
    header["dim"][: len(shape) + 1] = (len(shape), *shape)
    affine = make_affine() if affine is None else affine
    header.set_sform(affine, sform_code)
    header.set_qform(affine, qform_code)
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["vox_offset"] = int(header["sizeof_hdr"]) + 4
    for name, value in fields.items():
        header[name] = value
    return header


def nifti_bytes(data: Array, affine: Array | None = None, **options: Any) -> bytes:
    """The bytes of a .nii; ``options`` as of ``make_header``."""
    header = make_header(data.shape, data.dtype.newbyteorder("=").str[1:], affine, **options)
    stored = data.astype(data.dtype.newbyteorder(header.endianness))
    return bytes(header.binaryblock) + bytes(4) + stored.tobytes(order="F")


def write_nifti(path: Path, data: Array, affine: Array | None = None, **options: Any) -> Path:
    """Write a .nii or .nii.gz (by its name); ``options`` as of ``make_header``."""
    content = nifti_bytes(data, affine, **options)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, 6, mtime=0) if path.name.endswith(".gz") else content)
    return path

"""What a NIfTI header promises, checked before anything is allocated or believed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.quaternions import quat2mat
from numpy.typing import NDArray

from anatomad.errors import HeaderError, TooLargeImageError, TruncatedImageError, UnsupportedImageError

NIFTI1_SIZE, NIFTI2_SIZE = 348, 540
SPACING_RANGE_MM = (0.01, 100.0)
_CONVERT = "convert it to one .nii.gz file per 3D volume, e.g. with dcm2niix, mri_convert or nibabel"
_MAGIC = {NIFTI1_SIZE: b"n+1\0", NIFTI2_SIZE: b"n+2\0\r\n\x1a\n"}
_REFUSED_ENDINGS = {
    (".hdr", ".img", ".hdr.gz", ".img.gz"): "a header/image pair (NIfTI pair or Analyze 7.5)",
    (".mgh", ".mgz", ".mgh.gz"): "a FreeSurfer MGH image",
    (".nii.bz2", ".nii.zst", ".nii.xz", ".nii.zip"): "compressed by another program than gzip",
    (".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".mnc"): "another image format than NIfTI",
}
_FOREIGN_MAGIC = {
    b"BZh": "bzip2 data",
    b"\x28\xb5\x2f\xfd": "Zstandard data",
    b"\xfd7zXZ": "xz data",
    b"PK\x03\x04": "a zip archive",
    b"NRRD": "an NRRD image",
    b"\x89HDF": "an HDF5 (MINC) file",
    b"\0\0\0\x01": "a FreeSurfer MGH image",
    b"\x1f\x8b": "gzip within gzip",
}
_REFUSED_TYPES = {
    1: "1-bit",
    32: "complex",
    1536: "128-bit float",
    1792: "complex",
    2048: "complex",
    128: "RGB colour",
    2304: "RGBA colour",
}
_TYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}


@dataclass(frozen=True)
class Limits:
    """Largest image that is read: voxels, and bytes of its decoded file or its float32 volume."""

    max_voxels: int = 1024**3
    max_bytes: int = 8 * 2**30


@dataclass(frozen=True)
class Layout:
    """Where the voxels of a file lie: shape (x, y, z), type in the file, first byte and bytes in all."""

    shape: tuple[int, int, int]
    dtype: np.dtype[np.generic]
    offset: int
    total: int


def refuse_ending(path: Path) -> None:
    """Refuse file names of formats that are not single-file NIfTI.

    Raises:
        UnsupportedImageError: with the format and the way out.
    """
    for endings, kind in _REFUSED_ENDINGS.items():
        if path.name.lower().endswith(endings):
            raise UnsupportedImageError(f"{path}: {kind}, which anatomad does not read; {_CONVERT}")


def header_size(path: Path, block: bytes) -> int:
    """Return 348 or 540 from the first bytes of a file.

    Raises:
        TruncatedImageError: less than a header.
        UnsupportedImageError: another format.
        HeaderError: no NIfTI at all.
    """
    for magic, kind in _FOREIGN_MAGIC.items():
        if block.startswith(magic):
            raise UnsupportedImageError(f"{path}: this is {kind}, not NIfTI; {_CONVERT}")
    if len(block) < NIFTI1_SIZE:
        raise TruncatedImageError(
            f"{path}: {len(block)} bytes, less than a NIfTI header of {NIFTI1_SIZE}; copy or download the file again"
        )
    little, big = (int.from_bytes(block[:4], order, signed=True) for order in ("little", "big"))
    size = little if little in _MAGIC else big
    if size not in _MAGIC:
        raise HeaderError(
            f"{path}: sizeof_hdr is {little}, a NIfTI file has {NIFTI1_SIZE} or {NIFTI2_SIZE}; "
            f"if this is another format, {_CONVERT}"
        )
    return size


def parse_header(path: Path, block: bytes) -> nib.Nifti1Header:
    """Decode a header block of 348 (NIfTI-1) or 540 (NIfTI-2) bytes, byte order as in the file.

    Raises:
        TruncatedImageError: the block is shorter than its first field says.
        UnsupportedImageError: a header that belongs to a separate .img file.
        HeaderError: an unknown magic string.
    """
    size = header_size(path, block)
    if len(block) < size:
        raise TruncatedImageError(f"{path}: {len(block)} bytes, less than its header of {size}; copy the file again")
    magic = block[344:348] if size == NIFTI1_SIZE else block[4:12]
    if magic[:3] in (b"ni1", b"ni2", b"\0\0\0"):
        raise UnsupportedImageError(f"{path}: the header of a NIfTI or Analyze pair (.hdr/.img); {_CONVERT}")
    if magic != _MAGIC[size]:
        raise HeaderError(f"{path}: magic is {magic!r}, expected {_MAGIC[size]!r}; export the image again")
    order = "<" if int.from_bytes(block[:4], "little") == size else ">"
    kind = nib.Nifti1Header if size == NIFTI1_SIZE else nib.Nifti2Header
    return kind(block[:size], endianness=order, check=False)  # type: ignore[no-untyped-call]


def header_layout(path: Path, header: nib.Nifti1Header, limits: Limits) -> Layout:
    """Check sizes and types of a header and say where the voxels are.

    Raises:
        HeaderError: a value that contradicts the standard or another one.
        UnsupportedImageError: 2D, 4D, colour or complex images.
        TooLargeImageError: beyond ``limits``.
    """
    shape = _shape(path, header)
    dtype = _dtype(path, header)
    offset = _offset(path, header)
    voxels = math.prod(shape)
    total = offset + voxels * dtype.itemsize
    if voxels > limits.max_voxels or max(total, 4 * voxels) > limits.max_bytes:
        raise TooLargeImageError(
            f"{path}: {'x'.join(map(str, shape))} voxels of {dtype.itemsize} bytes are {voxels} voxels and {total} "
            f"bytes; the limits are {limits.max_voxels} voxels and {limits.max_bytes} bytes, resample or crop the image"
        )
    return Layout(shape, dtype, offset, total)


def _shape(path: Path, header: nib.Nifti1Header) -> tuple[int, int, int]:
    dim = [int(value) for value in header["dim"]]
    if not 1 <= dim[0] <= 7:
        raise HeaderError(f"{path}: dim[0] is {dim[0]}, expected 1 to 7; export the image again")
    sizes = dim[1 : dim[0] + 1]
    if min(sizes) < 1:
        raise HeaderError(f"{path}: dim is {sizes}, every axis needs at least 1 voxel; export the image again")
    x, y, z, *more = [*sizes, 1, 1][: max(3, len(sizes))]
    if min(x, y, z) == 1:
        raise UnsupportedImageError(
            f"{path}: a single slice ({x}x{y}x{z}), anatomad reads 3D volumes; join the slices of the scan into one "
            "volume, e.g. with fslmerge -z or nibabel.concat_images"
        )
    if math.prod(more) > 1:
        raise UnsupportedImageError(
            f"{path}: {math.prod(more)} volumes in one file (dim {sizes}); split it into 3D files, e.g. with "
            "fslsplit or nibabel.four_to_three, and choose one or their mean"
        )
    return x, y, z


def _dtype(path: Path, header: nib.Nifti1Header) -> np.dtype[np.generic]:
    code, bits = int(header["datatype"]), int(header["bitpix"])
    if code in _REFUSED_TYPES:
        raise UnsupportedImageError(
            f"{path}: {_REFUSED_TYPES[code]} voxels (datatype {code}), expected one real number per voxel; save the "
            "magnitude or one grey-value channel as float32"
        )
    if code not in _TYPES:
        raise HeaderError(f"{path}: datatype {code} is no NIfTI voxel type; export the image again")
    dtype: np.dtype[np.generic] = np.dtype(header.endianness + _TYPES[code])
    if bits != 8 * dtype.itemsize:
        raise HeaderError(
            f"{path}: bitpix is {bits}, datatype {code} needs {8 * dtype.itemsize}; export the image again"
        )
    return dtype


def _offset(path: Path, header: nib.Nifti1Header) -> int:
    offset, least = float(header["vox_offset"]), int(header["sizeof_hdr"]) + 4
    if not (math.isfinite(offset) and offset >= least and offset.is_integer()):
        raise HeaderError(
            f"{path}: vox_offset is {offset:g}, expected a whole number of at least {least}; export the image again"
        )
    return int(offset)


def header_scaling(path: Path, header: nib.Nifti1Header) -> tuple[float, float]:
    """Return (slope, intercept) of stored to true values; (1, 0) where the standard says unscaled (slope 0).

    Raises:
        HeaderError: NaN or infinite scaling, which readers are known to treat differently.
    """
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0:
        return 1.0, 0.0
    if not (math.isfinite(slope) and math.isfinite(inter)):
        raise HeaderError(
            f"{path}: scl_slope {slope:g} and scl_inter {inter:g} must be finite; the true intensities are unknown, "
            "export the image again"
        )
    return slope, inter


def header_affine(path: Path, header: nib.Nifti1Header) -> NDArray[np.float64]:
    """Return the 4x4 float64 voxel-to-world affine in mm: sform, else qform, else voxel sizes alone.

    A coded form that is not usable (NaN, singular, absurd voxel size) gives way to the other coded one.

    Raises:
        HeaderError: no usable form.
    """
    candidates = []
    if int(header["sform_code"]) > 0:
        candidates.append(("sform", _sform(header)))
    if int(header["qform_code"]) > 0:
        candidates.append(("qform", _qform(header)))
    if not candidates:
        candidates.append(("pixdim", header.get_base_affine()))
    for _, affine in candidates:
        if affine_problem(affine) is None:
            return np.asarray(affine, dtype=np.float64)
    problems = "; ".join(f"{name} {affine_problem(affine)}" for name, affine in candidates)
    raise HeaderError(f"{path}: no usable position in the header: {problems}; mend it, e.g. with nibabel or fslorient")


def _sform(header: nib.Nifti1Header) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3] = [header[f"srow_{name}"] for name in "xyz"]
    return affine


def _qform(header: nib.Nifti1Header) -> NDArray[np.float64]:
    """Decode the quaternion as the reference C library does: a sum of squares of 1 or more is a half turn."""
    vector = np.array([header[f"quatern_{name}"] for name in "bcd"], dtype=np.float64)
    square = float(vector @ vector)
    real = math.sqrt(max(0.0, 1.0 - square))
    if square > 1:
        vector /= math.sqrt(square)
    zooms = np.array(header["pixdim"][1:4], dtype=np.float64)
    if float(header["pixdim"][0]) < 0:
        zooms[2] *= -1
    affine = np.eye(4)
    if square < 1.01 and np.isfinite(zooms).all():
        affine[:3, :3] = quat2mat([real, *vector]) * zooms
    else:
        affine[:3, :3] = np.nan
    affine[:3, 3] = [header[f"qoffset_{name}"] for name in "xyz"]
    return affine


def affine_problem(affine: NDArray[np.float64]) -> str | None:
    """Say what makes a 4x4 affine unusable, or None."""
    if not np.isfinite(affine).all():
        return "has values that are not finite or not a rotation"
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    least, most = SPACING_RANGE_MM
    if zooms.min() < least or zooms.max() > most:
        return f"has voxels of {' x '.join(f'{zoom:g}' for zoom in zooms)} mm, expected {least:g} to {most:g}"
    # Two axes closer than about half a degree make positions meaningless.
    if abs(np.linalg.det(affine[:3, :3] / zooms)) < 1e-2:
        return "is singular"
    return None

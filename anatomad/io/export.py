"""Writing a volume into the grid of the scan it was made from."""

from __future__ import annotations

import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import DTypeLike, NDArray

from anatomad.errors import ImageError, ResourceError, UsageError
from anatomad.io.commit import write_bytes
from anatomad.io.nifti import Image, read_raw

# What places a volume in space is copied bit for bit; names, comments of other programs and extensions, which may tell
# who the patient is, are not.
_KEPT = (
    "dim_info",
    "pixdim",
    "qform_code",
    "sform_code",
    *(f"quatern_{name}" for name in "bcd"),
    *(f"qoffset_{name}" for name in "xyz"),
    *(f"srow_{name}" for name in "xyz"),
    "xyzt_units",
    "descrip",
)
_LEVEL = 3


def write_image(path: Path | str, data: NDArray[np.generic], like: Image, *, dtype: DTypeLike = np.float32) -> None:
    """Write ``data`` (x, y, z) on the grid of ``like`` as .nii or .nii.gz, atomically, read back and compared.

    Affine, both form codes, qfac, units and description are those of ``like``; scl 1/0; cal_min and cal_max are the
    range of the data. Equal input gives equal bytes.

    Raises:
        ImageError: another shape than ``like``, non-finite values, or values that ``dtype`` cannot hold exactly.
        UsageError: a name that ends otherwise, or a place where nothing may be written.
        ResourceError: no space left, or the disk returned other bytes than were written.
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise UsageError(f"{path}: an image is written as .nii.gz or .nii; change the name")
    if data.shape != like.shape:
        raise ImageError(f"{path}: not written, the volume is {data.shape} and the scan {like.path} {like.shape}")
    volume = _convert(path, data, np.dtype(dtype))
    header = _header(volume, like.header)

    def verify(temporary: Path) -> None:
        _, stored = read_raw(temporary)
        if not np.array_equal(stored, volume):
            raise ResourceError(f"{path}: the file does not hold the voxels written; check the disk and memory")

    write_bytes(path, _encode(header, volume, path.name.endswith(".gz")), verify)


def write_new_image(
    path: Path | str, data: NDArray[np.generic], affine: NDArray[np.float64], *, dtype: DTypeLike = np.float32
) -> None:
    """Write ``data`` (x, y, z) that was made from no scan; ``affine`` (4, 4) voxel to mm, RAS. As ``write_image``.

    Raises:
        ImageError, UsageError, ResourceError: as ``write_image``.
    """
    header = nib.Nifti1Header()
    header.set_data_shape(data.shape)
    header.set_sform(affine, "aligned")
    header.set_qform(affine, "aligned")
    header.set_xyzt_units("mm")
    write_image(path, data, Image(np.empty(data.shape, np.float32), header, Path(path)), dtype=dtype)


def _convert(path: Path, data: NDArray[np.generic], dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    with np.errstate(over="ignore", invalid="ignore"):
        volume = data.astype(dtype)
    if dtype.kind == "f" and not np.isfinite(volume).all():
        raise ImageError(f"{path}: not written, the volume has values that are not finite in {dtype}")
    if dtype.kind != "f" and not np.array_equal(volume, data):
        raise ImageError(f"{path}: not written, {dtype} cannot hold the values exactly; round them or use float32")
    return volume


def _header(volume: NDArray[np.generic], source: nib.Nifti1Header) -> nib.Nifti1Header:
    header = type(source)(endianness="<")
    for name in _KEPT:
        header[name] = source[name]
    header["dim"] = (3, *volume.shape, 1, 1, 1, 1)
    header.set_data_dtype(volume.dtype)
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["cal_min"], header["cal_max"] = float(volume.min()), float(volume.max())
    header["vox_offset"] = int(header["sizeof_hdr"]) + 4
    return header


def _encode(header: nib.Nifti1Header, volume: NDArray[np.generic], gzipped: bool) -> bytes:
    head = header.binaryblock + bytes(4)  # four zeros: no extensions
    voxels = volume.astype(volume.dtype.newbyteorder("<"), copy=False)
    slices = (voxels[:, :, z].tobytes(order="F") for z in range(voxels.shape[2]))
    if not gzipped:
        return b"".join([head, *slices])
    # zlib's own gzip header has no time and no name, so equal volumes give equal files.
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, wbits=31)
    return b"".join([deflate.compress(head), *map(deflate.compress, slices), deflate.flush()])

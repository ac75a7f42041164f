"""Reading an Analyze 7.5 pair (.hdr, .img), whose header does not say which way its axes point."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt

from anatomad.errors import HeaderError, MissingImageError, TruncatedImageError, UnsupportedImageError
from anatomad.io.nifti import Image


def read_analyze(path: Path | str, axes: str) -> Image:
    """Read the pair of which ``path`` names the .img, as float32 with a NIfTI header; the volume's middle is at 0.

    Args:
        path: the .img; the .hdr lies beside it. A fourth axis of length 1 is dropped.
        axes: directions to which the axes point, like ``LAS``: left, anterior, superior.

    Raises:
        MissingImageError: one of the two files is not there.
        HeaderError: the header cannot be read.
        TruncatedImageError: the .img has another size than the header says.
        UnsupportedImageError: not a volume.
    """
    path = Path(path)
    header = _read_header(path)
    shape = tuple(int(size) for size in header.get_data_shape())
    volume = shape[:3] if shape[3:] in ((), (1,)) else shape
    if len(volume) != 3 or min(volume, default=0) < 1:
        raise UnsupportedImageError(f"{path}: {shape} voxels, expected a single 3D volume; split it")
    expected, found = int(np.prod(volume)) * header.get_data_dtype().itemsize, path.stat().st_size
    if found != expected:
        raise TruncatedImageError(f"{path}: {found} bytes, its header promises {expected}; copy or download it again")
    stored = np.fromfile(path, header.get_data_dtype()).reshape(volume, order="F")
    return Image(np.asarray(stored, np.float32, order="F"), _nifti_header(volume, header, axes), path)


def _read_header(path: Path) -> nib.AnalyzeHeader:
    beside = path.with_suffix(".hdr")
    for file in (path, beside):
        if not file.is_file():
            raise MissingImageError(f"{file}: no such file; an Analyze image is a pair of .hdr and .img")
    try:
        with beside.open("rb") as stream:
            return nib.AnalyzeHeader.from_fileobj(stream)
    except (nib.spatialimages.HeaderDataError, nib.wrapstruct.WrapStructError, OSError) as error:
        raise HeaderError(f"{beside}: not an Analyze 7.5 header ({error}); copy or download it again") from None


def _nifti_header(shape: tuple[int, ...], source: nib.AnalyzeHeader, axes: str) -> nib.Nifti1Header:
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, ((axis, sign), zoom) in enumerate(zip(axcodes2ornt(axes), source.get_zooms(), strict=False)):
        affine[int(axis), column] = sign * float(zoom)
    affine[:3, 3] = -affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(source.get_data_dtype().newbyteorder("="))
    header.set_sform(affine, "aligned")
    header.set_qform(affine, "aligned")
    header.set_xyzt_units("mm")
    return header

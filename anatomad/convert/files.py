"""The files of one case, from where they were published to where the raw layout has them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatomad.convert.description import DataSet, Mask
from anatomad.convert.find import CaseFiles
from anatomad.convert.sets import known_set
from anatomad.errors import DataError
from anatomad.io.analyze import read_analyze
from anatomad.io.atomic import link_file, write_bytes, write_image
from anatomad.io.nifti import Image, read_image, read_labels
from anatomad.io.stream import GZIP_MAGIC

_SAME_AFFINE = 1e-3  # what preprocessing takes for one grid
_MOST_VOXELS_AWAY = 0.1  # two headers that place a voxel this near to each other mean the same grid
_LEVEL = 3
_FWHM = 2.3548


def targets(data_set: DataSet, case: CaseFiles, folder: Path) -> dict[Path, Path]:
    """The files to write for a case, and from which each is made."""
    images = folder / ("imagesTr" if data_set.healthy else "imagesTs")
    files = {images / f"{case.id}_{number:04d}.nii.gz": path for number, path in case.channels.items()}
    return files | ({folder / "labelsTs" / f"{case.id}.nii.gz": case.mask} if case.mask else {})


def write_case(name: str, case: CaseFiles, folder: Path, link: bool) -> None:
    """Write what is missing of a case; everything is read and checked first.

    Args:
        name: of the data set.
        case: its files.
        folder: of the raw data set.
        link: link to files that need no change instead of copying them.

    Raises:
        DataError: a file cannot be read, grids do not fit, or a label has a value that is not known.
        ResourceError: no space left.
        UsageError: nothing may be written there.
    """
    data_set = known_set(name)
    images = {number: _read(path, data_set) for number, path in case.channels.items()}
    base = images[data_set.onto] if data_set.onto in images else next(iter(images.values()))
    files = targets(data_set, case, folder)
    writing = [_scan(image, base, data_set.onto is not None, link) for image in images.values()]
    if case.mask and data_set.mask:
        writing.append(_lesion(case.mask, data_set.mask, base))
    for target, write in zip(files, writing, strict=True):
        if not target.exists():
            write(target)


def _read(path: Path, data_set: DataSet) -> Image:
    return read_analyze(path, data_set.axes) if data_set.axes and path.suffix == ".img" else read_image(path)


def _scan(image: Image, base: Image, resample: bool, link: bool) -> Callable[[Path], None]:
    """How to write a scan of a case whose grid is that of ``base``."""
    placed = _on_grid(image, base, resample)
    if placed is not image:
        return lambda target: write_image(target, placed.data, placed)
    if image.path.suffix == ".img":
        return lambda target: write_image(target, image.data, image, dtype=image.header.get_data_dtype())
    return lambda target: _copy(image.path, target, link)


def _copy(source: Path, target: Path, link: bool) -> None:
    content = source.read_bytes()
    if not content.startswith(GZIP_MAGIC):
        write_bytes(target, gzip.compress(content, _LEVEL, mtime=0))
    elif link and source.name.endswith(".gz"):
        link_file(target, source)
    else:
        write_bytes(target, content)


def _lesion(path: Path, mask: Mask, base: Image) -> Callable[[Path], None]:
    """How to write a lesion mask on the grid of ``base``."""
    labels = read_labels(path)
    values = [int(value) for value in np.unique(labels.data)]
    if unknown := [value for value in values if value not in mask.meaning]:
        expected = ", ".join(map(str, mask.meaning))
        raise DataError(f"{path}: label {unknown[0]}, expected only {expected}; is it a label of this data set?")
    meaning = np.zeros(max(mask.meaning) + 1, np.uint8)
    meaning[list(mask.meaning)] = list(mask.meaning.values())
    if not _fits(labels, base):
        raise DataError(f"{path} lies on another grid than {base.path}; a label lies on the grid of its scan")
    return lambda target: write_image(target, meaning[labels.data], base, dtype=np.uint8)


def _on_grid(image: Image, base: Image, resample: bool) -> Image:
    """The image itself where it has the grid of ``base``, else one that has."""
    if image.shape == base.shape and np.allclose(image.affine, base.affine, atol=_SAME_AFFINE):
        return image
    if _fits(image, base):
        return Image(image.data, base.header, image.path)
    if resample:
        return Image(_resampled(image, base), base.header, image.path)
    raise DataError(f"{image.path} and {base.path} lie on different grids; scans of a case share one")


def _fits(image: Image, base: Image) -> bool:
    if image.shape != base.shape:
        return False
    corners = np.array(np.meshgrid(*((0, size - 1) for size in base.shape))).reshape(3, -1)
    away = (image.affine - base.affine)[:3] @ np.vstack([corners, np.ones(8)])
    return float(np.linalg.norm(away, axis=0).max()) <= _MOST_VOXELS_AWAY * min(base.spacing)


def _resampled(image: Image, base: Image) -> NDArray[np.float32]:
    """Values at the voxels of ``base``, linear, after a low-pass along axes where its voxels are larger; 0 outside."""
    step = np.linalg.inv(image.affine) @ base.affine
    voxels = np.linalg.norm(step[:3, :3], axis=1)
    sigma = np.sqrt(np.maximum(0.0, voxels**2 - 1)) / _FWHM
    smooth = ndimage.gaussian_filter(np.nan_to_num(image.data, posinf=0, neginf=0), sigma)
    values = ndimage.affine_transform(smooth, step[:3, :3], step[:3, 3], base.shape, order=1, mode="grid-constant")
    return np.asarray(values, np.float32, order="F")

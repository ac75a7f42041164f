"""Small pictures of the scans, kept beside the fingerprint so that nothing is read twice."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anatomad.io.atomic import read_tensors, write_tensors

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Thumbnail:
    """One scan in working orientation (RAS), at about 2 mm.

    Attributes:
        axial: (x, y) slice through the middle of the brain, 0 to 255.
        axial_tissue: (x, y) 0 outside the brain, 1 CSF, 2 grey, 3 white matter.
        sagittal: (y, z) slice through the middle of the brain, 0 to 255.
        sagittal_tissue: (y, z) likewise.
        detail: (n,) int8 of zero mean, the anatomy that is this person's own; compared by correlation.
    """

    axial: Picture
    axial_tissue: Picture
    sagittal: Picture
    sagittal_tissue: Picture
    detail: NDArray[np.int8]


def write_thumbnails(folder: Path, case_id: str, thumbnails: dict[int, Thumbnail]) -> None:
    """Write a case's thumbnails, by channel, into ``folder``."""
    tensors = {
        f"{channel:04d}.{field.name}": np.ascontiguousarray(getattr(thumbnail, field.name))
        for channel, thumbnail in thumbnails.items()
        for field in fields(Thumbnail)
    }
    write_tensors(_path(folder, case_id), tensors)


def read_thumbnails(folder: Path, case_id: str) -> dict[int, Thumbnail]:
    """Read a case's thumbnails, by channel.

    Raises:
        DataError: missing or damaged.
    """
    tensors = read_tensors(_path(folder, case_id))
    channels = sorted({int(name.split(".")[0]) for name in tensors})
    names = [field.name for field in fields(Thumbnail)]
    return {c: Thumbnail(**{name: tensors[f"{c:04d}.{name}"] for name in names}) for c in channels}


def _path(folder: Path, case_id: str) -> Path:
    return folder / f"{case_id}.safetensors"

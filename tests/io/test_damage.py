"""Damaged .nii.gz files: no flipped bit and no cut may ever give other voxels without an error."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from anatomad.errors import ImageError
from anatomad.io.nifti import read_image
from tests.factories import nifti_bytes, volume


def _volume(dtype: str, shape: tuple[int, int, int]) -> np.ndarray:
    smooth = np.add.outer(np.add.outer(np.arange(shape[0]), np.arange(shape[1])), np.arange(shape[2]))
    return (smooth + volume(shape)).astype(dtype)


def _accepted_differently(path: Path, content: bytes, good: bytes) -> bool:
    """Whether a changed file is read as anything else than the good one without an error that names it."""
    path.write_bytes(content)
    try:
        image = read_image(path)
    except ImageError as error:
        return str(path) not in str(error)  # an error that names no file is as bad
    path.write_bytes(good)
    other = read_image(path)
    return not (np.array_equal(image.data, other.data) and image.header.binaryblock == other.header.binaryblock)


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4"])
@pytest.mark.parametrize(("shape", "flips"), [((9, 8, 7), 400), ((64, 64, 40), 150)])
def test_bit_flips(tmp_path: Path, dtype: str, shape: tuple[int, int, int], flips: int) -> None:
    good = gzip.compress(nifti_bytes(_volume(dtype, shape)), 6, mtime=0)
    rng = np.random.default_rng(1)
    bits = rng.choice(len(good) * 8, flips, replace=False)
    silent = []
    for bit in map(int, bits):
        content = bytearray(good)
        content[bit // 8] ^= 1 << bit % 8
        if _accepted_differently(tmp_path / "a.nii.gz", bytes(content), good):
            silent.append(bit)
    assert silent == []


def test_every_bit_of_the_gzip_frame(tmp_path: Path) -> None:
    good = gzip.compress(nifti_bytes(volume()), 6, mtime=0)
    size = len(good)
    for position in [*range(10), *range(size - 8, size)]:
        for bit in range(8):
            content = bytearray(good)
            content[position] ^= 1 << bit
            assert not _accepted_differently(tmp_path / "a.nii.gz", bytes(content), good), (position, bit)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("shape", [(9, 8, 7), (64, 64, 40)])
def test_truncations(tmp_path: Path, name: str, shape: tuple[int, int, int]) -> None:
    content = nifti_bytes(_volume("i2", shape))
    if name.endswith(".gz"):
        content = gzip.compress(content)
    rng = np.random.default_rng(2)
    edges = [*range(12), 347, 348, 351, 352, 353, *(len(content) - k for k in range(1, 20))]
    cuts = {cut for cut in [*edges, *map(int, rng.integers(0, len(content), 120))] if cut < len(content)}
    assert len(cuts) >= 100
    for cut in cuts:
        (tmp_path / name).write_bytes(content[:cut])
        with pytest.raises(ImageError):
            read_image(tmp_path / name)

"""Files that must be refused: by the right error, with name, value and way out, quickly and in little memory."""

from __future__ import annotations

import gzip
import math
import os
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anatomad.errors import (
    AnatomadError,
    CorruptImageError,
    HeaderError,
    ImageError,
    MissingImageError,
    ResourceError,
    TooLargeImageError,
    TruncatedImageError,
    UnsupportedImageError,
)
from anatomad.io import nifti
from anatomad.io.nifti import Limits, read_header, read_image
from tests.factories import make_header, nifti_bytes, volume

nan, inf = math.nan, math.inf

FIELDS: dict[str, tuple[type[ImageError], str, dict[str, Any]]] = {
    "dim0 zero": (HeaderError, r"dim\[0\] is 0", {"dim": [0, 9, 8, 7, 1, 1, 1, 1]}),
    "dim0 eight": (HeaderError, r"dim\[0\] is 8", {"dim": [8, 9, 8, 7, 1, 1, 1, 1]}),
    "dim0 negative": (HeaderError, r"dim\[0\] is -3", {"dim": [-3, 9, 8, 7, 1, 1, 1, 1]}),
    "dim zero": (HeaderError, "at least 1 voxel", {"dim": [3, 9, 0, 7, 1, 1, 1, 1]}),
    "dim negative": (HeaderError, "-8", {"dim": [3, 9, -8, 7, 1, 1, 1, 1]}),
    "dim time zero": (HeaderError, "at least 1 voxel", {"dim": [4, 9, 8, 7, 0, 1, 1, 1]}),
    "1D": (UnsupportedImageError, "single slice", {"dim": [1, 504, 1, 1, 1, 1, 1, 1]}),
    "2D": (UnsupportedImageError, "single slice", {"dim": [2, 72, 7, 1, 1, 1, 1, 1]}),
    "one slice": (UnsupportedImageError, "fslmerge", {"dim": [3, 72, 7, 1, 1, 1, 1, 1]}),
    "one sagittal slice": (UnsupportedImageError, "single slice", {"dim": [3, 1, 72, 7, 1, 1, 1, 1]}),
    "4D": (UnsupportedImageError, "2 volumes.*fslsplit", {"dim": [4, 9, 4, 7, 2, 1, 1, 1]}),
    "5D": (UnsupportedImageError, "2 volumes", {"dim": [5, 9, 4, 7, 1, 2, 1, 1]}),
    "larger than the file": (TruncatedImageError, "promises", {"dim": [3, 90, 80, 70, 1, 1, 1, 1]}),
    "smaller than the file": (CorruptImageError, "more bytes", {"dim": [3, 9, 8, 6, 1, 1, 1, 1]}),
    "54 TB": (TooLargeImageError, "limits", {"dim": [3, 30000, 30000, 30000, 1, 1, 1, 1]}),
    "bitpix": (HeaderError, "bitpix is 8", {"bitpix": 8}),
    "bitpix zero": (HeaderError, "bitpix is 0", {"bitpix": 0}),
    "datatype unknown": (HeaderError, "datatype 0", {"datatype": 0}),
    "datatype unassigned": (HeaderError, "datatype 3", {"datatype": 3}),
    "datatype negative": (HeaderError, "datatype -4", {"datatype": -4}),
    "bits": (UnsupportedImageError, "1-bit", {"datatype": 1, "bitpix": 1}),
    "RGB": (UnsupportedImageError, "RGB colour.*grey", {"datatype": 128, "bitpix": 24}),
    "RGBA": (UnsupportedImageError, "RGBA", {"datatype": 2304, "bitpix": 32}),
    "complex64": (UnsupportedImageError, "complex.*magnitude", {"datatype": 32, "bitpix": 64}),
    "complex128": (UnsupportedImageError, "complex", {"datatype": 1792, "bitpix": 128}),
    "complex256": (UnsupportedImageError, "complex", {"datatype": 2048, "bitpix": 256}),
    "float128": (UnsupportedImageError, "128-bit", {"datatype": 1536, "bitpix": 128}),
    "another type than stored": (TruncatedImageError, "promises", {"datatype": 16, "bitpix": 32}),
    "offset zero": (HeaderError, "vox_offset is 0", {"vox_offset": 0}),
    "offset in the header": (HeaderError, "vox_offset is 348", {"vox_offset": 348}),
    "offset negative": (HeaderError, "vox_offset is -352", {"vox_offset": -352}),
    "offset fraction": (HeaderError, "whole number", {"vox_offset": 352.5}),
    "offset NaN": (HeaderError, "vox_offset is nan", {"vox_offset": nan}),
    "offset infinite": (HeaderError, "vox_offset is inf", {"vox_offset": inf}),
    "offset beyond the file": (TruncatedImageError, "promises", {"vox_offset": 1e9}),
    "offset beyond reason": (TooLargeImageError, "limits", {"vox_offset": 1e30}),
    "offset later": (TruncatedImageError, "promises", {"vox_offset": 368}),
    "slope NaN": (HeaderError, "scl_slope nan", {"scl_slope": nan}),
    "slope infinite": (HeaderError, "scl_slope inf", {"scl_slope": inf}),
    "intercept NaN": (HeaderError, "scl_inter nan", {"scl_inter": nan}),
    "voxels of a nanometre": (HeaderError, "1e-06", {"srow_x": [1e-6, 0, 0, 0], "qform_code": 0}),
    "voxels of a kilometre": (HeaderError, "1e\\+06", {"srow_x": [1e6, 0, 0, 0], "qform_code": 0}),
    "sform singular": (HeaderError, "singular", {"srow_x": [1, 1, 0, 0], "srow_y": [1, 1, 0, 0], "qform_code": 0}),
    "sform NaN": (HeaderError, "not finite", {"srow_y": nan, "qform_code": 0}),
    "offset NaN in space": (HeaderError, "not finite", {"srow_y": [0, 1, 0, nan], "qform_code": 0}),
    "qform no rotation": (HeaderError, "qform", {"quatern_b": 2, "sform_code": 0}),
    "qform NaN": (HeaderError, "qform", {"quatern_c": nan, "sform_code": 0}),
    "pixdim zero": (HeaderError, "qform", {"pixdim": [1, 1, 0, 1, 1, 1, 1, 1], "sform_code": 0}),
    "pixdim NaN": (HeaderError, "pixdim", {"pixdim": [1, 1, nan, 1, 1, 1, 1, 1], "sform_code": 0, "qform_code": 0}),
    "magic": (HeaderError, "magic", {"magic": b"n+3"}),
    "magic of a pair": (UnsupportedImageError, "pair", {"magic": b"ni1"}),
    "magic of Analyze": (UnsupportedImageError, "Analyze", {"magic": b""}),
    "sizeof_hdr": (HeaderError, "sizeof_hdr is 349", {"sizeof_hdr": 349}),
}


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("case", FIELDS)
def test_header_fields(tmp_path: Path, case: str, order: str, name: str) -> None:
    error, words, fields = FIELDS[case]
    if case == "sizeof_hdr" and order == ">":
        words = "sizeof_hdr"
    content = bytearray(nifti_bytes(volume(), order=order))
    header = make_header((9, 8, 7), order=order)
    for key, value in fields.items():
        header[key] = value
    content[:348] = header.binaryblock
    path = tmp_path / name
    path.write_bytes(gzip.compress(bytes(content)) if name.endswith(".gz") else bytes(content))
    with pytest.raises(error, match=words) as caught:
        read_image(path)
    assert type(caught.value) is error
    assert str(path) in str(caught.value)


NIFTI2 = {
    "dim": (HeaderError, {"dim": [3, 9, -(2**62), 7, 1, 1, 1, 1]}),
    "product beyond 64 bits": (TooLargeImageError, {"dim": [3, 2**62, 2**62, 2**62, 1, 1, 1, 1]}),
    "offset": (HeaderError, {"vox_offset": 352}),
    "offset beyond 64 bits": (TooLargeImageError, {"vox_offset": 2**63 - 1}),
    "magic": (HeaderError, {"magic": b"n+1"}),
    "magic changed by a text transfer": (HeaderError, {"eol_check": [10, 26, 10, 0]}),
    "pair": (UnsupportedImageError, {"magic": b"ni2"}),
}


@pytest.mark.parametrize("case", NIFTI2)
def test_nifti2_fields(tmp_path: Path, case: str) -> None:
    error, fields = NIFTI2[case]
    content = bytearray(nifti_bytes(volume(), version=2))
    header = make_header((9, 8, 7), version=2)
    for key, value in fields.items():
        header[key] = value
    content[:540] = header.binaryblock
    path = tmp_path / "a.nii"
    path.write_bytes(content)
    with pytest.raises(error):
        read_image(path)


GOOD = nifti_bytes(volume())
CONTENT: dict[str, tuple[type[ImageError], bytes]] = {
    "empty": (TruncatedImageError, b""),
    "gzip of nothing": (TruncatedImageError, gzip.compress(b"")),
    "half a header": (TruncatedImageError, GOOD[:200]),
    "half a NIfTI-2 header": (TruncatedImageError, nifti_bytes(volume(), version=2)[:400]),
    "header only": (TruncatedImageError, GOOD[:352]),
    "header only, gzip": (TruncatedImageError, gzip.compress(GOOD[:352])),
    "gzip magic only": (TruncatedImageError, b"\x1f\x8b"),
    "one byte short": (TruncatedImageError, GOOD[:-1]),
    "one byte short, gzip": (TruncatedImageError, gzip.compress(GOOD[:-1])),
    "one byte long": (CorruptImageError, GOOD + b"\0"),
    "one byte long, gzip": (CorruptImageError, gzip.compress(GOOD + b"\0")),
    "zeros after the gzip data": (CorruptImageError, gzip.compress(GOOD) + bytes(512)),
    "text after the gzip data": (CorruptImageError, gzip.compress(GOOD) + b"hello"),
    "half a member after the gzip data": (TruncatedImageError, gzip.compress(GOOD) + b"\x1f\x8b\x08"),
    "second image after the first": (CorruptImageError, gzip.compress(GOOD) * 2),
    "second member damaged": (CorruptImageError, gzip.compress(GOOD[:900]) + gzip.compress(GOOD[900:])[:-8] + bytes(8)),
    "countless members": (CorruptImageError, gzip.compress(GOOD) + gzip.compress(b"") * 20000),
    "gzip within gzip": (UnsupportedImageError, gzip.compress(gzip.compress(GOOD))),
    "wrong CRC": (CorruptImageError, gzip.compress(GOOD)[:-8] + b"abcd" + gzip.compress(GOOD)[-4:]),
    "wrong ISIZE": (CorruptImageError, gzip.compress(GOOD)[:-4] + b"abcd"),
    "no deflate": (CorruptImageError, b"\x1f\x8b\x07" + gzip.compress(GOOD)[3:]),
    "zlib without gzip": (HeaderError, zlib.compress(GOOD)),
    "text": (HeaderError, b"not an image\n" * 100),
    "bzip2": (UnsupportedImageError, b"BZh91AY" + bytes(400)),
    "zstd": (UnsupportedImageError, b"\x28\xb5\x2f\xfd" + bytes(400)),
    "xz": (UnsupportedImageError, b"\xfd7zXZ\0" + bytes(400)),
    "zip": (UnsupportedImageError, b"PK\x03\x04" + bytes(400)),
    "MGH": (UnsupportedImageError, b"\0\0\0\x01" + bytes(400)),
    "MGZ": (UnsupportedImageError, gzip.compress(b"\0\0\0\x01" + bytes(400))),
    "NRRD": (UnsupportedImageError, b"NRRD0004\n" + bytes(400)),
    "HDF5": (UnsupportedImageError, b"\x89HDF\r\n\x1a\n" + bytes(400)),
}


@pytest.mark.parametrize("case", CONTENT)
def test_contents(tmp_path: Path, case: str) -> None:
    error, content = CONTENT[case]
    path = tmp_path / "a.nii.gz"
    path.write_bytes(content)
    with pytest.raises(error) as caught:
        read_image(path)
    assert type(caught.value) is error
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["a.hdr", "a.img", "a.IMG.gz", "a.mgh", "a.mgz", "a.nii.bz2", "a.nii.zst", "a.nii.xz", "a.nrrd", "a.mha", "a.dcm"],
)
def test_names_of_other_formats(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(GOOD)
    with pytest.raises(UnsupportedImageError, match="convert it"):
        read_image(tmp_path / name)


class TestPlaces:
    def test_missing(self, tmp_path: Path) -> None:
        for name in ("none.nii.gz", "none/none.nii.gz", "x" * 300 + ".nii", "nul\0.nii"):
            with pytest.raises(MissingImageError, match="cannot be opened"):
                read_image(tmp_path / name)

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(MissingImageError, match="a folder"):
            read_image(tmp_path)

    def test_a_pipe_is_never_opened(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a.nii.gz")
        (tmp_path / "link.nii.gz").symlink_to(tmp_path / "a.nii.gz")
        for name in ("a.nii.gz", "link.nii.gz"):  # opened, it would wait for a writer for ever
            with pytest.raises(MissingImageError, match="named pipe"):
                read_image(tmp_path / name)

    def test_links_that_lead_nowhere_good(self, tmp_path: Path) -> None:
        for name, target in (("loop.nii", "loop.nii"), ("dangling.nii", "none"), ("zero.nii", "/dev/zero")):
            (tmp_path / name).symlink_to(target)
            with pytest.raises(MissingImageError):
                read_image(tmp_path / name)

    def test_a_file_swapped_for_a_folder_after_the_first_look(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "a.nii"
        path.write_bytes(GOOD)
        opened = os.open(tmp_path, os.O_RDONLY)
        monkeypatch.setattr(os, "open", lambda *_: opened)
        with pytest.raises(MissingImageError, match="a folder"):
            read_image(path)

    def test_a_disk_that_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "a.nii"
        path.write_bytes(GOOD)

        def fail(*_: object) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(nifti, "fill", fail)
        with pytest.raises(CorruptImageError, match="Input/output error"):
            read_image(path)

    def test_memory_that_does_not_suffice(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "a.nii"
        path.write_bytes(GOOD)

        def fail(*_: object) -> None:
            raise MemoryError("unable to allocate")

        monkeypatch.setattr(nifti, "fill", fail)
        with pytest.raises(ResourceError, match="does not fit into memory"):
            read_image(path)


def _gzip_zeros(head: bytes, count: int) -> bytes:
    """Gzip ``head`` and ``count`` zero bytes, quickly: one compressed block of zeros, repeated."""
    deflate = zlib.compressobj(1, zlib.DEFLATED, wbits=-15)
    step = 1 << 24
    parts = [deflate.compress(head), deflate.flush(zlib.Z_FULL_FLUSH)]
    block = deflate.compress(bytes(step)) + deflate.flush(zlib.Z_FULL_FLUSH)
    return b"".join([b"\x1f\x8b\x08\0\0\0\0\0\0\xff", *parts, block * (count // step), deflate.flush(), bytes(8)])


def _head(shape: tuple[int, ...], dtype: str = "u1") -> bytes:
    return bytes(make_header(shape, dtype).binaryblock) + bytes(4)


BOMBS: dict[str, tuple[type[ImageError], bytes]] = {
    "54 TB in a small file": (TooLargeImageError, gzip.compress(_head((30000, 30000, 30000), "i2") + bytes(12000))),
    "4 GB in a small file": (TruncatedImageError, gzip.compress(_head((1000, 1000, 1000), "f4") + bytes(12000))),
    "small header, inflates to 4 GB": (CorruptImageError, _gzip_zeros(_head((64, 64, 64)), 4 << 30)),
    "no header, inflates to 4 GB": (HeaderError, _gzip_zeros(b"", 4 << 30)),
    "beyond the limits, inflates to 4 GB": (TooLargeImageError, _gzip_zeros(_head((2048, 2048, 1024)), 4 << 30)),
}


@pytest.mark.parametrize("case", BOMBS)
def test_bombs_are_refused_in_little_memory(tmp_path: Path, case: str) -> None:
    error, content = BOMBS[case]
    path = tmp_path / "a.nii.gz"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(error):
        read_image(path)
    with pytest.raises(AnatomadError):
        read_image(path, Limits(max_voxels=1000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6  # and so nothing was inflated


def test_limits_are_settings(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(GOOD)
    assert read_image(path, Limits(max_voxels=504)).data.size == 504
    for limits in (Limits(max_voxels=503), Limits(max_bytes=2015)):
        with pytest.raises(TooLargeImageError, match="9x8x7"):
            read_header(path, limits)


def test_random_headers_raise_typed_errors_only(tmp_path: Path) -> None:
    """Every byte of the header replaced by random ones: a correct volume or a typed error, nothing else."""
    rng = np.random.default_rng(0)
    path = tmp_path / "a.nii"
    messages = []
    for _ in range(1000):
        content = bytearray(GOOD)
        for position in rng.integers(4, 348, rng.integers(1, 6)):
            content[position] = rng.integers(256)
        path.write_bytes(content)
        try:
            assert read_image(path).data.size in (252, 504, 1008)
        except ImageError as error:
            messages.append(str(error))
    assert len(messages) > 150
    assert all(str(path) in message for message in messages)

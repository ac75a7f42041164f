"""The writer: all or nothing under every fault, and equal bytes for equal input."""

from __future__ import annotations

import errno
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from anatomad.errors import AnatomadError, DataError, ImageError, ResourceError, UsageError
from anatomad.io import atomic, commit
from anatomad.io.nifti import read_image, read_labels
from tests.factories import volume, write_nifti


def _writers(tmp_path: Path) -> dict[str, Callable[[Path], None]]:
    image = read_image(write_nifti(tmp_path / "source" / "in.nii.gz", volume()))
    return {
        "bytes": lambda path: atomic.write_bytes(path, b"x" * 5_000_000),
        "text": lambda path: atomic.write_text(path, "é" * 1000),
        "json": lambda path: atomic.write_json(path, {"a": 1}),
        "tensors": lambda path: atomic.write_tensors(path, {"a": np.arange(1000)}),
        "image": lambda path: atomic.write_image(path, image.data, image),
    }


WRITERS = ["bytes", "text", "json", "tensors", "image"]
KINDS = {errno.ENOSPC: ResourceError, errno.EDQUOT: ResourceError, errno.EIO: ResourceError, errno.EROFS: UsageError}


def _fail(monkeypatch: pytest.MonkeyPatch, place: str, code: int) -> None:
    real = os.write

    def fail(*arguments: Any) -> None:
        if place == "write" and arguments[0] > 2:
            real(arguments[0], arguments[1][:7])  # a full disk takes the first bytes
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, place, fail)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("place", ["write", "fsync", "replace", "open"])
@pytest.mark.parametrize("code", KINDS)
@pytest.mark.parametrize("earlier", [False, True])
def test_a_fault_leaves_nothing_and_spoils_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str, place: str, code: int, earlier: bool
) -> None:
    write, folder = _writers(tmp_path)[writer], tmp_path / "out"
    folder.mkdir()
    path = folder / "a.nii.gz"
    if earlier:
        path.write_bytes(b"earlier")
    with monkeypatch.context() as patch:
        _fail(patch, place, code)
        with pytest.raises(KINDS[code], match="not written") as caught:
            write(path)
    assert str(path) in str(caught.value)
    assert [entry.name for entry in folder.iterdir()] == (["a.nii.gz"] if earlier else [])
    assert not earlier or path.read_bytes() == b"earlier"
    write(path)
    assert [entry.name for entry in folder.iterdir()] == ["a.nii.gz"]
    assert path.read_bytes() != b"earlier"


def test_a_disk_that_lies_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    lies: dict[str, Callable[[bytes], bytes]] = {
        "zeros": lambda data: bytes(len(data)),
        "short": lambda data: data[:-1],
    }
    for lie in lies.values():
        with monkeypatch.context() as patch:

            def write(descriptor: int, data: bytes, lie: Callable[[bytes], bytes] = lie) -> int:
                real(descriptor, lie(data))
                return len(data)

            patch.setattr(os, "write", write)
            with pytest.raises(ResourceError, match="other bytes"):
                atomic.write_bytes(tmp_path / "a", b"some bytes")
        assert list(tmp_path.iterdir()) == []


def test_short_writes_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
    atomic.write_bytes(tmp_path / "a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic.write_bytes(tmp_path / "a", b"x")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from anatomad.io.atomic import write_bytes;"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL); write_bytes(sys.argv[1], b'half')"
    )
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], check=False)
    assert result.returncode == -9
    assert len(list(tmp_path.iterdir())) == 1
    assert not (tmp_path / "a").exists()
    own = commit._temporary(tmp_path / "a")
    own.write_bytes(b"of a living process")
    atomic.write_bytes(tmp_path / "a", b"whole")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "a", own])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a zombie from a living process")
def test_what_an_orphan_nobody_reaps_left_is_removed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, not reaped
        own = commit._temporary(tmp_path / "a")
        left = own.with_name(own.name.replace(f"-{os.getpid()}-", f"-{process.pid}-"))
        left.write_bytes(b"half")
        atomic.write_bytes(tmp_path / "a", b"whole")
        assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_a_folder_that_cannot_be_synced_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    atomic.write_bytes(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"


def test_places_where_nothing_may_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "a", tmp_path / "folder", tmp_path / ("x" * 300)):
        with pytest.raises(UsageError, match="not written"):
            atomic.write_bytes(path, b"x")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder"]


def test_names_and_folders(tmp_path: Path) -> None:
    for name in ("new/folder/a.json", "a b é ✓ \n.json", "-x", "y" * 255):
        atomic.write_json(str(tmp_path / name), {"name": name})
        assert json.loads((tmp_path / name).read_text()) == {"name": name}


class TestJson:
    def test_form(self, tmp_path: Path) -> None:
        atomic.write_json(tmp_path / "a.json", {"b": [1, np.float32(0.5), np.int64(3), np.bool_(True)], "a": "\udcff"})
        text = (tmp_path / "a.json").read_text()
        assert text == '{\n "b": [\n  1,\n  0.5,\n  3,\n  true\n ],\n "a": "\\udcff"\n}\n'

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan"), {1, 2}, b"x", Path("x")])
    def test_values_without_a_form(self, tmp_path: Path, value: object) -> None:
        with pytest.raises(DataError, match=r"a\.json: not written"):
            atomic.write_json(tmp_path / "a.json", {"a": value})
        assert list(tmp_path.iterdir()) == []


class TestTensors:
    ARRAYS = {  # noqa: RUF012
        "bool": np.array([True, False, True]),
        "half": np.arange(5, dtype=np.float16),
        "strided": np.arange(24, dtype=np.float32).reshape(2, 3, 4).T,
        "big endian": np.arange(4, dtype=">i4"),
        "scalar": np.array(7.5),
        "empty": np.zeros((0, 3), np.uint8),
        "bytes": np.arange(7, dtype=np.uint8),
    }

    def test_round_trip(self, tmp_path: Path) -> None:
        path = tmp_path / "a.safetensors"
        atomic.write_tensors(path, self.ARRAYS, {"step": "3", "plan": "é"})
        for read in (atomic.read_tensors(path), safetensors.numpy.load_file(path)):
            assert set(read) == set(self.ARRAYS)
            for name, array in self.ARRAYS.items():
                np.testing.assert_array_equal(read[name], array)
                assert read[name].dtype == array.dtype.newbyteorder("=")
                assert read[name].shape == array.shape
        assert atomic.read_metadata(path) == {"step": "3", "plan": "é"}

    def test_equal_input_gives_equal_bytes(self, tmp_path: Path) -> None:
        metadata = {str(number): "x" for number in range(30)}
        for name in ("a", "b"):
            atomic.write_tensors(tmp_path / name, self.ARRAYS, metadata)
            self.ARRAYS = dict(reversed(self.ARRAYS.items()))
            metadata = dict(reversed(metadata.items()))
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    def test_types_without_a_name(self, tmp_path: Path) -> None:
        for array in (np.array(["text"]), np.array([1j]), np.array([{}])):
            with pytest.raises(DataError, match="type"):
                atomic.write_tensors(tmp_path / "a", {"a": array})
        assert list(tmp_path.iterdir()) == []

    def test_files_that_are_none(self, tmp_path: Path) -> None:
        atomic.write_tensors(tmp_path / "good", self.ARRAYS)
        good = (tmp_path / "good").read_bytes()
        bad = [b"", good[:5], good[:-1], good + b"x", struct.pack("<Q", 2**62) + good[8:], b"\x80\x04pickle" * 10]
        for content in bad:
            (tmp_path / "bad").write_bytes(content)
            with pytest.raises(DataError, match="bad: damaged"):
                atomic.read_tensors(tmp_path / "bad")
        for missing in (tmp_path / "none", tmp_path):
            with pytest.raises(DataError, match="no such file"):
                atomic.read_tensors(missing)


class TestImage:
    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
    @pytest.mark.parametrize("dtype", ["float32", "uint8", "int16"])
    def test_types(self, tmp_path: Path, name: str, dtype: str) -> None:
        like = read_image(write_nifti(tmp_path / "in.nii", volume()))
        atomic.write_image(tmp_path / name, like.data, like, dtype=dtype)
        again = read_labels(tmp_path / name)
        assert again.header.get_data_dtype() == np.dtype(dtype)
        np.testing.assert_array_equal(again.data, like.data)

    def test_equal_volumes_give_equal_files(self, tmp_path: Path) -> None:
        like = read_image(write_nifti(tmp_path / "in.nii", volume(), order=">"))
        atomic.write_image(tmp_path / "a.nii.gz", like.data, like)
        atomic.write_image(tmp_path / "b.nii.gz", np.ascontiguousarray(like.data).astype(">f8"), like)
        content = (tmp_path / "a.nii.gz").read_bytes()
        assert content == (tmp_path / "b.nii.gz").read_bytes()
        assert content[4:8] == bytes(4)

    def test_refusals(self, tmp_path: Path) -> None:
        like = read_image(write_nifti(tmp_path / "in" / "in.nii", volume()))
        out = tmp_path / "out.nii.gz"
        bad: list[tuple[np.ndarray, str, Path, type[AnatomadError], str]] = [
            (like.data[:-1], "f4", out, ImageError, "the scan"),
            (np.full(like.shape, np.nan), "f4", out, ImageError, "not finite"),
            (np.full(like.shape, 1e300), "f4", out, ImageError, "not finite"),
            (np.full(like.shape, 256), "u1", out, ImageError, "hold the values"),
            (np.full(like.shape, 0.5), "i2", out, ImageError, "hold the values"),
            (np.full(like.shape, np.nan), "u1", out, ImageError, "hold the values"),
            (like.data, "f4", tmp_path / "out.nrrd", UsageError, "change the name"),
        ]
        for data, dtype, path, error, words in bad:
            with pytest.raises(error, match=words):
                atomic.write_image(path, data, like, dtype=dtype)
        assert [entry.name for entry in tmp_path.iterdir()] == ["in"]

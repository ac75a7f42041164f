"""Files that must be read, compared with nibabel where nibabel is right."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from anatomad.errors import HeaderError, IntensityError
from anatomad.io.nifti import read_header, read_image, read_labels
from tests.factories import make_affine, nifti_bytes, volume, write_nifti

TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_equals_nibabel(tmp_path: Path, dtype: str, order: str, version: int, name: str) -> None:
    affine = make_affine(spacing=(1, 2, 3), angles=(5, -7, 9))
    path = write_nifti(
        tmp_path / name, volume(dtype=dtype), affine, order=order, version=version, scl_slope=0.5, scl_inter=-3
    )
    image, other = read_image(path), nib.load(path)
    np.testing.assert_array_equal(image.data, other.get_fdata(dtype=np.float64).astype(np.float32))
    np.testing.assert_allclose(image.affine, other.affine, atol=1e-6)
    assert image.data.dtype == np.float32
    assert image.data.dtype.isnative
    assert image.data.flags.writeable
    assert image.spacing == pytest.approx((1, 2, 3), abs=1e-5)
    assert image.nonfinite_share == 0


def test_slope_of_zero_means_unscaled(tmp_path: Path) -> None:
    data = volume()
    path = write_nifti(tmp_path / "a.nii", data, scl_slope=0, scl_inter=np.nan)
    np.testing.assert_array_equal(read_image(path).data, data)


@pytest.mark.parametrize(
    "shape",
    [(9, 8, 7, 1), (9, 8, 7, 1, 1, 1, 1), (2, 2, 2), (32767, 2, 2)],
    ids=lambda shape: "x".join(map(str, shape)),
)
def test_shapes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    data = volume(shape)
    image = read_image(write_nifti(tmp_path / "a.nii.gz", data))
    assert image.shape == shape[:3]
    np.testing.assert_array_equal(image.data, data.reshape(shape[:3]))


def test_nonfinite_values_are_kept_and_counted(tmp_path: Path) -> None:
    data = np.ones((4, 5, 5), "f8")
    data[0, 0, 0], data[1, 0, 0], data[2, 0, 0] = np.nan, -np.inf, 1e300
    image = read_image(write_nifti(tmp_path / "a.nii.gz", data))
    assert np.isnan(image.data[0, 0, 0])
    assert image.data[1, 0, 0] == -np.inf
    assert image.data[2, 0, 0] == np.inf
    assert image.nonfinite_share == pytest.approx(0.03)


def test_overflow_by_scaling_counts_as_nonfinite(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", np.full((4, 4, 4), 100, "i2"), scl_slope=3e38)
    assert read_image(path).nonfinite_share == 1


def test_integer_and_float_twins_are_equal(tmp_path: Path) -> None:
    data = volume()
    scaled = write_nifti(tmp_path / "i.nii", data, scl_slope=0.25, scl_inter=7)
    plain = write_nifti(tmp_path / "f.nii", (data * 0.25 + 7).astype("f4"))
    np.testing.assert_array_equal(read_image(scaled).data, read_image(plain).data)


def test_the_first_bytes_decide_about_gzip_not_the_name(tmp_path: Path) -> None:
    content, data = nifti_bytes(volume()), volume()
    (tmp_path / "a.nii").write_bytes(gzip.compress(content))
    (tmp_path / "b.nii.gz").write_bytes(content)
    for name in ("a.nii", "b.nii.gz"):
        np.testing.assert_array_equal(read_image(tmp_path / name).data, data)


def test_several_gzip_members_of_one_image(tmp_path: Path) -> None:
    content = nifti_bytes(volume((40, 40, 40)))
    cuts = [content[i : i + 1000] for i in range(0, len(content), 1000)]
    path = tmp_path / "a.nii.gz"
    path.write_bytes(b"".join(map(gzip.compress, [*cuts, b""])))  # bgzip ends with an empty member
    np.testing.assert_array_equal(read_image(path).data, volume((40, 40, 40)))


def test_extensions_are_passed_over(tmp_path: Path) -> None:
    content = bytearray(nifti_bytes(volume(), vox_offset=352 + 5000))
    content[348:352] = b"\1\0\0\0" + b"x" * 5000
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(bytes(content)))
    np.testing.assert_array_equal(read_image(path).data, volume())


def test_names_of_every_kind(tmp_path: Path) -> None:
    for name in ("a b.nii.gz", "é\u0301✓.nii.gz", "-x.nii", "x\ny.nii.gz", "a" * 248 + ".nii.gz"):
        path = write_nifti(tmp_path / name, volume())
        np.testing.assert_array_equal(read_image(path).data, volume())


def test_symbolic_links_to_files(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", volume())
    (tmp_path / "link.nii.gz").symlink_to(path)
    assert read_image(tmp_path / "link.nii.gz").shape == (9, 8, 7)


def test_header_alone(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", volume(), descrip=b"hello")
    header = read_header(str(path))
    assert bytes(header["descrip"].item()) == b"hello"


class TestAffine:
    SFORM = make_affine(spacing=(1, 1, 2), angles=(3, 4, 5))
    QFORM = make_affine(spacing=(1, 1, 2), origin=(1, 2, 3))

    def read(self, tmp_path: Path, sform: int, qform: int, **fields: Any) -> Any:
        header_fields = {f"srow_{name}": row for name, row in zip("xyz", self.SFORM, strict=False)}
        content = nifti_bytes(volume(), self.QFORM, sform_code=sform, qform_code=qform, **(header_fields | fields))
        (tmp_path / "a.nii").write_bytes(content)
        return read_image(tmp_path / "a.nii").affine

    def test_sform_first(self, tmp_path: Path) -> None:
        np.testing.assert_allclose(self.read(tmp_path, 2, 1), self.SFORM, atol=1e-6)

    def test_qform_without_sform(self, tmp_path: Path) -> None:
        np.testing.assert_allclose(self.read(tmp_path, 0, 1), self.QFORM, atol=1e-6)

    def test_neither_takes_voxel_sizes_as_nibabel_does(self, tmp_path: Path) -> None:
        affine = self.read(tmp_path, 0, 0)
        np.testing.assert_allclose(affine, nib.load(tmp_path / "a.nii").affine, atol=1e-6)

    @pytest.mark.parametrize("row", [np.nan, np.inf, 0.0, 1e9])
    def test_an_unusable_sform_gives_way_to_the_qform(self, tmp_path: Path, row: float) -> None:
        np.testing.assert_allclose(self.read(tmp_path, 1, 1, srow_x=row), self.QFORM, atol=1e-6)

    @pytest.mark.parametrize("row", [np.nan, 0.0, 1e9])
    def test_none_usable_is_refused(self, tmp_path: Path, row: float) -> None:
        with pytest.raises(HeaderError, match=r"sform (has|is)"):
            self.read(tmp_path, 1, 0, srow_x=row)
        with pytest.raises(HeaderError, match="qform"):
            self.read(tmp_path, 1, 1, srow_x=row, quatern_b=3)

    def test_qfac_of_zero_counts_as_one(self, tmp_path: Path) -> None:
        affine = self.read(tmp_path, 0, 1, pixdim=[0, 1, 1, 2, 1, 1, 1, 1])
        np.testing.assert_allclose(affine, self.QFORM, atol=1e-6)

    def test_rounded_half_turn(self, tmp_path: Path) -> None:
        affine = self.read(tmp_path, 0, 1, quatern_b=1 + 1e-5)
        np.testing.assert_allclose(affine[:3, :3], np.diag([1, -1, -2]), atol=1e-4)


class TestLabels:
    @pytest.mark.parametrize("dtype", TYPES)
    def test_whole_numbers(self, tmp_path: Path, dtype: str) -> None:
        labels = read_labels(write_nifti(tmp_path / "a.nii.gz", volume(dtype=dtype)))
        assert labels.data.dtype == np.int32
        np.testing.assert_array_equal(labels.data, volume())

    @pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 1e12])
    def test_other_numbers_are_refused(self, tmp_path: Path, value: float) -> None:
        data = np.zeros((4, 4, 4), "f8")
        data[1, 2, 3] = value
        with pytest.raises(IntensityError, match=r"a\.nii.*slice 3.*whole numbers"):
            read_labels(write_nifti(tmp_path / "a.nii", data))

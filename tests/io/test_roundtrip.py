"""Read, work, write: the result lies where the scan lies, whatever way the scanner wrote it."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from anatomad.io.atomic import write_image
from anatomad.io.geometry import working_grid
from anatomad.io.nifti import read_image
from tests.factories import blob, make_affine, orientations, write_nifti

SHAPE, CENTRE = (30, 26, 22), (19, 8, 13)
GRIDS = list(itertools.product([(0, 0, 0), (25, -10, 5)], [(1, 1, 1), (0.5, 0.5, 5), (2.5, 0.8, 1.2)]))
KEPT = ("qform_code", "sform_code", "pixdim", "xyzt_units", "descrip", "dim_info")
POSITION = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z")


@pytest.mark.parametrize(("number", "orientation"), list(enumerate(orientations())))
def test_every_orientation(tmp_path: Path, number: int, orientation: np.ndarray) -> None:
    for i, (angles, spacing) in enumerate(GRIDS):
        sform_code, qform_code = [(1, 1), (0, 1), (4, 0), (2, 1)][(number + i) % 4]
        version, order = (2, "<") if number % 3 == 0 else (1, "<>"[i % 2])
        native = blob(SHAPE, CENTRE, tuple(max(1.0, 3 / s) for s in spacing)) * 900
        source = write_nifti(
            tmp_path / "in.nii.gz",
            native.astype(["i2", "f4", "u1"][i % 3]),
            make_affine(orientation, spacing, angles),
            sform_code=sform_code,
            qform_code=qform_code,
            version=version,
            order=order,
            xyzt_units=10,
            descrip=b"made by a test",
        )
        image = read_image(source)
        grid = working_grid(image.shape, image.affine, (1.5, 1.5, 1.5), multiple=(8, 8, 8))
        result = grid.to_native(grid.to_working(native, 1), 1)
        write_image(tmp_path / "out.nii.gz", result, image)
        again, other = read_image(tmp_path / "out.nii.gz"), nib.load(tmp_path / "out.nii.gz")
        assert np.abs(np.array(np.unravel_index(again.data.argmax(), SHAPE)) - CENTRE).max() <= 1
        np.testing.assert_array_equal(again.data, result)
        np.testing.assert_array_equal(again.affine, image.affine)
        assert type(again.header) is type(image.header)
        for name in KEPT + POSITION:
            np.testing.assert_array_equal(again.header[name], image.header[name])
        np.testing.assert_array_equal(other.get_fdata(dtype=np.float32), result)
        np.testing.assert_allclose(other.affine, nib.load(source).affine, atol=1e-7)


def test_forms_that_disagree_are_both_kept(tmp_path: Path) -> None:
    sform, qform = make_affine(spacing=(1, 1, 2), angles=(5, 5, 5), shear=0.1), make_affine(spacing=(1, 1, 2))
    rows = {f"srow_{name}": row for name, row in zip("xyz", sform, strict=False)}
    data = blob(SHAPE, CENTRE, (2, 2, 2))
    image = read_image(write_nifti(tmp_path / "in.nii", data, qform, sform_code=3, qform_code=2, **rows))
    write_image(tmp_path / "out.nii", data, image)
    other = nib.load(tmp_path / "out.nii")
    np.testing.assert_allclose(other.get_sform(), sform, atol=1e-6)
    np.testing.assert_allclose(other.get_qform(), qform, atol=1e-5)
    assert (int(other.header["sform_code"]), int(other.header["qform_code"])) == (3, 2)


def test_trailing_axis_and_foreign_fields_do_not_travel(tmp_path: Path) -> None:
    data = blob(SHAPE, CENTRE, (2, 2, 2))[..., None]
    source = write_nifti(
        tmp_path / "in.nii.gz", data, scl_slope=4, cal_max=7, intent_code=5, db_name=b"Jane Doe", aux_file=b"Jane"
    )
    image = read_image(source)
    write_image(tmp_path / "out.nii.gz", image.data, image)
    header = read_image(tmp_path / "out.nii.gz").header
    assert header["dim"].tolist() == [3, *SHAPE, 1, 1, 1, 1]
    assert float(header["cal_max"]) == 4.0
    assert float(header["cal_min"]) == pytest.approx(float(image.data.min()))
    assert (float(header["scl_slope"]), float(header["scl_inter"]), int(header["intent_code"])) == (1, 0, 0)
    assert b"Jane" not in header.binaryblock

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff

from anatomad.errors import BrainMaskError, IntensityError
from anatomad.preprocess.brain_mask import brain_mask
from anatomad.preprocess.scan import prepare_scan
from tests.preprocess.phantoms import SPACING, as_image, distance, ellipsoid

WORKING = (4.0, 4.0, 4.0)


def test_a_scan_on_its_box(tmp_path: Path) -> None:
    data, _ = ellipsoid()
    scan = prepare_scan(as_image(data, tmp_path / "a.nii"), WORKING, multiple=(8, 8, 8))
    assert all(side % 8 == 0 for side in scan.grid.box)
    assert scan.image.shape == scan.mask.shape == scan.grid.box
    assert scan.image.dtype == np.float32
    assert scan.mask.dtype == bool
    assert not scan.image[~scan.mask].any()
    assert scan.image.min() >= -0.5
    assert scan.image.max() <= 2
    assert scan.mask.sum() * 64 == pytest.approx(scan.brain.mask.sum() * 2.5**3, rel=0.02)
    assert scan.warnings == ()


def test_orientation_does_not_matter(tmp_path: Path) -> None:
    data, _ = ellipsoid()
    data[:30] *= 0.8  # left and right differ
    straight = prepare_scan(as_image(data, tmp_path / "a.nii"), WORKING)
    turned = data.transpose(1, 2, 0)[::-1, :, ::-1]
    affine = np.diag([*SPACING, 1.0]) @ np.linalg.inv(inv_ornt_aff(axcodes2ornt("PSL"), turned.shape))
    other = prepare_scan(as_image(turned, tmp_path / "b.nii", affine=affine), WORKING)
    assert other.grid.box == straight.grid.box
    assert np.allclose(other.image, straight.image, atol=0.02)


def test_the_rim_takes_no_part_of_what_lies_outside(tmp_path: Path) -> None:
    data, mask = ellipsoid((1.0, 1.0, 1.0, 1.0), noise=0.001)
    around = np.where(mask, data, np.float32(9000))
    scan = prepare_scan(as_image(around, tmp_path / "a.nii"), WORKING, given_mask=mask)
    assert scan.window[1] < 1010
    assert scan.window[0] > 990


def test_window_undoes_the_normalisation(tmp_path: Path) -> None:
    data, _ = ellipsoid(noise=0)
    scan = prepare_scan(as_image(data, tmp_path / "a.nii"), SPACING)
    native = scan.grid.to_native(scan.image * (scan.window[1] - scan.window[0]) + scan.window[0], order=1)
    inside = scan.brain.mask & (data == 1000)
    assert np.median(np.abs(native[inside] - 1000)) < 1


def test_a_brain_larger_than_the_box(tmp_path: Path) -> None:
    data, _ = ellipsoid()
    scan = prepare_scan(as_image(data, tmp_path / "a.nii"), WORKING, box=(24, 64, 48), multiple=(8, 8, 8))
    assert scan.grid.box == (40, 64, 48)
    assert any("does not fit" in warning for warning in scan.warnings)


def test_bias_correction(tmp_path: Path) -> None:
    data, _ = ellipsoid()
    biased = data * np.linspace(0.7, 1.4, data.shape[1])[None, :, None]
    image = as_image(biased, tmp_path / "a.nii")
    with_bias, without = (prepare_scan(image, WORKING, bias_correct=flag) for flag in (False, True))
    radius = without.grid.to_working(distance(), order=1, fill=2)
    white = (radius > 0.25) & (radius < 0.65)
    assert without.image[white].std() < 0.7 * with_bias.image[white].std()


def test_nan_voxels_are_warned_of(tmp_path: Path) -> None:
    data, _ = ellipsoid()
    data[30:40, 30:40, 30:40] = np.nan
    scan = prepare_scan(as_image(data, tmp_path / "a.nii"), WORKING)
    assert np.isfinite(scan.image).all()
    assert any("NaN or infinite" in warning for warning in scan.warnings)


def test_thick_slices_are_warned_of(tmp_path: Path) -> None:
    data, _ = ellipsoid()
    scan = prepare_scan(as_image(data[:, :, ::2], tmp_path / "a.nii", (2.5, 2.5, 5.0)), WORKING)
    assert any("5.0 mm thick" in warning for warning in scan.warnings)


def test_a_mask_found_on_another_channel(tmp_path: Path) -> None:
    data, _ = ellipsoid()
    brain = brain_mask(as_image(data, tmp_path / "a.nii"))
    scan = prepare_scan(as_image(2000 - data, tmp_path / "b.nii"), WORKING, given_mask=brain)
    assert scan.brain is brain
    with pytest.raises(BrainMaskError, match="give a mask on the image's own grid"):
        prepare_scan(as_image(data[1:], tmp_path / "c.nii"), WORKING, given_mask=brain)


def test_nothing_to_work_with(tmp_path: Path) -> None:
    data, mask = ellipsoid()
    with pytest.raises(IntensityError, match="NaN or infinite"):
        prepare_scan(as_image(np.where(mask, data, np.nan), tmp_path / "a.nii"), WORKING, given_mask=mask)

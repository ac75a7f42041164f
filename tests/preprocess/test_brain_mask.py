from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anatomad.errors import BrainMaskError, IntensityError
from anatomad.preprocess.brain_mask import brain_mask
from anatomad.preprocess.extraction import dice as overlap
from tests.preprocess.phantoms import T1, T2, VOLUME_ML, as_image, atlas_head, atlas_tissue, dice, ellipsoid


def test_given_mask_is_used_as_it_is(tmp_path: Path) -> None:
    data, mask = ellipsoid()
    found = brain_mask(as_image(data, tmp_path / "a.nii"), mask.astype(np.uint8))
    assert found.source == "given"
    assert found.mask.dtype == bool
    assert np.array_equal(found.mask, mask)
    assert found.doubt is None
    assert found.agreement is None


def test_given_mask_of_another_shape(tmp_path: Path) -> None:
    data, mask = ellipsoid()
    with pytest.raises(BrainMaskError, match=r"a\.nii: the given brain mask has shape \(71, 84, 68\)"):
        brain_mask(as_image(data, tmp_path / "a.nii"), mask[1:])


def test_stripped_scan(tmp_path: Path) -> None:
    data, mask = ellipsoid()
    found = brain_mask(as_image(data, tmp_path / "a.nii"))
    assert found.source == "stripped"
    assert found.volume_ml == pytest.approx(VOLUME_ML, rel=0.02)
    assert dice(found.mask, mask) > 0.995


@pytest.mark.slow
def test_a_stripped_scan_is_extracted_on_demand(tmp_path: Path) -> None:
    data, mask = ellipsoid()
    image = as_image(data, tmp_path / "a.nii")
    assert np.array_equal(brain_mask(image, treatment="stripped").mask, brain_mask(image).mask)
    assert brain_mask(image, treatment="extract").source == "computed"
    assert brain_mask(image, mask, "extract").source == "given"


def test_nonfinite_voxels_inside_and_outside(tmp_path: Path) -> None:
    data, mask = ellipsoid()
    data[34:38, 40:44, 32:36] = np.nan
    data[:3] = np.inf
    found = brain_mask(as_image(data, tmp_path / "a.nii"))
    assert found.source == "stripped"
    assert dice(found.mask, mask) > 0.995


@pytest.mark.parametrize(("spacing", "plausible"), [(2.1, True), (2.9, True), (1.5, False), (3.2, False)])
def test_doubt_and_refusal_by_volume(tmp_path: Path, spacing: float, plausible: bool) -> None:
    data, mask = ellipsoid()
    image = as_image(data, tmp_path / "a.nii", (spacing,) * 3)
    if plausible:
        assert "unusual for an adult" in (brain_mask(image, mask).doubt or "")
    else:
        with pytest.raises(BrainMaskError, match="a brain has 400 to 2500 ml"):
            brain_mask(image, mask)


def test_constant_image(tmp_path: Path) -> None:
    with pytest.raises(IntensityError, match="every voxel has the value"):
        brain_mask(as_image(np.full((20, 20, 20), 7.0), tmp_path / "a.nii"))


def test_noise_is_no_head(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(100, 10, (50, 50, 50))
    with pytest.raises(BrainMaskError, match=r"a\.nii"):
        brain_mask(as_image(noise, tmp_path / "a.nii", (1.0, 1.0, 1.0)))


@pytest.mark.slow
@pytest.mark.parametrize("levels", [T1, T2])
def test_whole_head(tmp_path: Path, levels: tuple[float, float, float, float]) -> None:
    data, brain = atlas_head(levels)
    lps = np.diag([-1.75, -1.75, 1.75, 1.0])
    found = brain_mask(as_image(data[::-1, ::-1], tmp_path / "a.nii", affine=lps))
    assert found.source == "computed"
    mask, tissue = found.mask[::-1, ::-1], brain & (atlas_tissue() > 0.7)
    assert (mask & tissue).sum() > 0.98 * tissue.sum()
    assert dice(mask, brain) > 0.93  # the 2 mm of CSF around it may be in
    assert found.agreement is not None
    assert found.agreement > 0.85


def test_dice_of_empty_masks() -> None:
    assert overlap(np.zeros((2, 2, 2), bool), np.zeros((2, 2, 2), bool)) == 0

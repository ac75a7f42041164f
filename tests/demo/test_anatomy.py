from __future__ import annotations

import numpy as np
import pytest

from anatomad.demo.anatomy import CSF, GREY, SPACING_MM, WHITE, Anatomy, draw_anatomy, smooth_field
from anatomad.demo.contrast import CONTRASTS, render
from anatomad.demo.lesions import draw_spots, draw_tumour, lesion_label
from anatomad.preprocess.atlas import load_atlas
from anatomad.preprocess.stripped import find_stripped

SPACING = (SPACING_MM,) * 3
MM = np.array(SPACING)
ML = SPACING_MM**3 / 1000  # of a voxel


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    return draw_anatomy(load_atlas(), np.random.default_rng(5))


def test_smooth_field_is_standard_and_as_smooth_as_asked() -> None:
    shape = (40, 30, 50)
    fields = [smooth_field(shape, MM, sigma, np.random.default_rng(1)) for sigma in (4.0, 12.0)]
    for field in fields:
        assert field.shape == shape
        assert field.dtype == np.float32
        assert float(field.mean()) == pytest.approx(0, abs=1e-5)
        assert float(field.std()) == pytest.approx(1, abs=1e-5)
    # The slope of white noise seen through a Gaussian has the SD 1 / (sqrt(2) sigma).
    slopes = [float(np.diff(field, axis=0).std()) / SPACING[0] for field in fields]
    assert slopes[0] == pytest.approx(1 / (np.sqrt(2) * 4), rel=0.15)
    assert slopes[0] > 2 * slopes[1]


def test_brain_is_plausible(anatomy: Anatomy) -> None:
    assert 1100 < anatomy.brain.sum() * ML < 2100
    assert np.allclose(anatomy.tissue.sum(0), 1, atol=1e-4)
    assert np.array_equal(anatomy.tissue[0] == 0, anatomy.brain)
    csf, grey, white = (float(anatomy.tissue[k].sum()) * ML for k in (CSF, GREY, WHITE))
    assert 80 < csf < 500
    assert 500 < grey < 1300
    assert 300 < white < 900
    faces = [anatomy.brain.take(end, axis) for axis in range(3) for end in (0, -1)]
    assert sum(int(face.sum()) for face in faces) < 100  # of some 60 000: only the spinal cord leaves the field


def test_subjects_differ_in_their_folds() -> None:
    atlas = load_atlas()
    first, second = (draw_anatomy(atlas, np.random.default_rng(seed)).tissue for seed in (1, 2))
    again = draw_anatomy(atlas, np.random.default_rng(1)).tissue
    assert np.array_equal(first, again)
    grey = [tissue[GREY] > 0.5 for tissue in (first, second)]
    dice = 2 * (grey[0] & grey[1]).sum() / (grey[0].sum() + grey[1].sum())
    assert 0.4 < dice < 0.8


@pytest.mark.parametrize("contrast", range(len(CONTRASTS)))
def test_scan_has_its_contrast_and_is_known_as_stripped(anatomy: Anatomy, contrast: int) -> None:
    image = render(anatomy, contrast, [], MM, np.random.default_rng(contrast))
    medians = [float(np.median(image[anatomy.tissue[tissue] > 0.9])) for tissue in (CSF, GREY, WHITE)]
    assert np.array_equal(np.argsort(medians), np.argsort(CONTRASTS[contrast].tissue))
    assert np.array_equal(image > 0, anatomy.brain)
    found = find_stripped(image.astype(np.float32), SPACING)
    assert found is not None
    assert (found ^ anatomy.brain).sum() < 0.02 * anatomy.brain.sum()


def test_tumour_lies_in_the_brain_and_shows(anatomy: Anatomy) -> None:
    layers = draw_tumour(anatomy, MM, np.random.default_rng(3))
    lesion = lesion_label(layers, anatomy.brain) > 0
    assert not (lesion & ~anatomy.brain).any()
    assert 4 < lesion.sum() * ML < 80
    white = (anatomy.tissue[WHITE] > 0.9) & ~lesion
    for contrast, sign in ((0, -1), (1, 1), (2, 1)):
        image = render(anatomy, contrast, layers, MM, np.random.default_rng(contrast))
        assert sign * (np.median(image[lesion]) / np.median(image[white]) - 1) > 0.1


def test_spots_are_small_and_in_white_matter(anatomy: Anatomy) -> None:
    lesion = lesion_label(draw_spots(anatomy, MM, np.random.default_rng(4)), anatomy.brain) > 0
    assert 0.2 < lesion.sum() * ML < 10
    assert anatomy.tissue[WHITE][lesion].mean() > 0.6


def test_no_lesion_gives_an_empty_label(anatomy: Anatomy) -> None:
    assert not lesion_label([], anatomy.brain).any()

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from anatomad.errors import IntensityError
from anatomad.planner.measure import cut_cm2, noise_sd
from anatomad.planner.outliers import CUT_CM2, MOST_BRIGHT, MOST_OUTSIDE, odd_about
from tests.planner import brains


def kinds(measured: object, sequence: str = "T1w") -> dict[str, str]:
    return {finding.kind: finding.severity for finding in odd_about(measured, sequence)}  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.nii"


@pytest.mark.parametrize("sd", [0.0, 5.0, 40.0])
@pytest.mark.parametrize("steps", [(1, 1, 1), (2, 2, 1), (3, 1, 2)])
def test_noise_estimate_ignores_edges(sd: float, steps: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(1)
    edges = 500.0 * ((np.arange(61) // 7) % 2)[:, None, None] * np.ones((61, 60, 59))
    data = (edges + rng.normal(0, sd, edges.shape)).astype(np.float32)
    mask = np.ones(data[tuple(slice(step // 2, None, step) for step in steps)].shape, bool)
    assert noise_sd(data, mask, steps) == pytest.approx(sd, rel=0.06, abs=1e-3)


def test_noise_of_too_small_a_mask() -> None:
    mask = np.zeros((4, 4, 4), bool)
    mask[1, 1, 1] = True
    assert noise_sd(np.ones((4, 4, 4), np.float32), mask) == 0.0


@pytest.mark.parametrize(
    ("levels", "looks"), [(brains.T1, "T1-like"), (brains.T2, "T2-like"), (brains.FLAIR, "FLAIR-like")]
)
def test_contrast_and_its_sequence(path: Path, levels: tuple[float, float, float], looks: str) -> None:
    measured, _ = brains.measure(path, brains.brain(levels, noise=0.03))
    assert measured.looks_like == looks
    low, high = measured.percentiles[0], measured.percentiles[-1]
    expected = [(1000 * v - low) / (high - low) for v in levels]
    assert measured.tissue_means[1:] == pytest.approx(expected[1:], abs=0.14)
    assert measured.tissue_means[0] == pytest.approx(expected[0], abs=0.35)  # the atlas has hardly any pure CSF
    assert measured.noise == pytest.approx(30 / (high - low), rel=0.35)
    assert kinds(measured, looks) == {}
    assert measured.axes == "RAS"
    assert measured.symmetry > 0.9


@pytest.mark.parametrize("levels", [v for v in permutations((0.3, 0.6, 0.9)) if v != (0.9, 0.3, 0.6)])  # no sequence
def test_order_of_the_tissues(path: Path, levels: tuple[float, float, float]) -> None:
    measured, _ = brains.measure(path, brains.brain(levels))
    names = np.array(["csf", "grey", "white"])[np.argsort(levels)]
    assert measured.tissue_order == " < ".join(names)


def test_sequence_that_is_not_what_it_is_called(path: Path) -> None:
    measured, _ = brains.measure(path, brains.brain(brains.T2))
    assert kinds(measured, "T1w") == {"sequence": "look"}
    assert kinds(measured, "T2w") == kinds(measured, "channel") == {}


def test_bias_grows_with_the_field(path: Path) -> None:
    data = brains.brain()
    ramp = brains.centred_on(data)[1] / 90
    measured = [brains.measure(path, data * np.exp(a * ramp).astype(np.float32))[0] for a in (0.0, 0.2, 0.4)]
    assert measured[0].bias < 0.04 < measured[1].bias < measured[2].bias
    assert {image.tissue_order for image in measured} == {"csf < grey < white"}


@pytest.mark.parametrize("turn", ["flip z", "flip y", "swap y and z", "swap x and y"])
def test_wrong_orientation_is_found(path: Path, turn: str) -> None:
    data = brains.brain()
    turned, axes = {
        "flip z": (data[:, :, ::-1], "RAI"),
        "flip y": (data[:, ::-1], "RPS"),
        "swap y and z": (data.transpose(0, 2, 1), "RSA"),
        "swap x and y": (data.transpose(1, 0, 2), "ARS"),
    }[turn]
    measured, _ = brains.measure(path, turned)
    assert measured.axes == axes
    assert measured.axes_margin < 0
    assert kinds(measured)["orientation"] == "mend"


def test_right_header_of_another_orientation_is_fine(path: Path) -> None:
    stored = np.diag([-2.0, 2.0, 2.0, 1.0])[[0, 2, 1, 3]]
    stored[3] = (0, 0, 0, 1)
    measured, _ = brains.measure(path, brains.brain()[::-1].transpose(0, 2, 1), stored)
    assert measured.orientation == "LSA"
    assert measured.axes == "RAS"
    assert kinds(measured) == {}


def test_tissue_outside_the_brain_is_found(path: Path) -> None:
    clean, _ = brains.measure(path, brains.brain())
    necked, _ = brains.measure(path, brains.with_neck(brains.brain()))
    assert clean.outside_share < MOST_OUTSIDE / 2 < MOST_OUTSIDE < necked.outside_share
    assert kinds(necked)["outside the brain"] == "look"


def test_bright_area_is_found(path: Path) -> None:
    clean, _ = brains.measure(path, brains.brain())
    spoilt, _ = brains.measure(path, brains.with_bright_area(brains.brain()))
    assert clean.bright_share < MOST_BRIGHT < spoilt.bright_share
    assert kinds(spoilt)["bright area"] == "look"


def test_cut_off_brain_is_found(path: Path) -> None:
    data = brains.brain()
    top = np.argwhere(data > 0)[:, 2].max()
    grazed, _ = brains.measure(path, data[:, :, : top + 1])
    assert "cut off" not in kinds(grazed)
    cut, _ = brains.measure(path, data[:, :, : top - 12])
    assert cut.cut_cm2 > CUT_CM2
    assert kinds(cut)["cut off"] == "mend"


def test_area_of_the_cut() -> None:
    mask = np.zeros((10, 10, 10), bool)
    mask[2:6, 3:8, 9] = True
    assert cut_cm2(mask, (5.0, 10.0, 1.0)) == pytest.approx(4 * 5 * 0.5)


def test_noise_that_drowns_the_brain(path: Path) -> None:
    measured, _ = brains.measure(path, brains.brain(noise=0.25))
    assert kinds(measured)["noise"] == "look"


def test_constant_image_is_refused(path: Path) -> None:
    with pytest.raises(IntensityError, match="every voxel has the value 7"):
        brains.measure(path, np.full((40, 40, 40), 7, np.float32))


def test_header_facts(path: Path) -> None:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("x", 12, degrees=True).as_matrix() * (2.0, 2.0, 6.0)
    measured, thumbnail = brains.measure(path, brains.brain()[:, :, ::3], affine)
    assert measured.obliqueness_deg == pytest.approx(12, abs=0.1)
    assert measured.anisotropy == pytest.approx(3)
    assert measured.looks_like == "T1-like"
    assert 0.1 < measured.foreground_share < 0.5
    assert thumbnail.sagittal.shape[1] == pytest.approx(brains.brain().shape[2], abs=4)  # square pixels


def test_equal_voxels_have_equal_digests(path: Path) -> None:
    data = brains.brain()
    first, again = (brains.measure(path, data)[0].digest for _ in range(2))
    assert first == again
    assert brains.measure(path, brains.brain(seed=1))[0].digest != first


def test_thumbnail_shows_brain_and_tissue(path: Path) -> None:
    _, thumbnail = brains.measure(path, brains.brain())
    for picture, tissue in (
        (thumbnail.axial, thumbnail.axial_tissue),
        (thumbnail.sagittal, thumbnail.sagittal_tissue),
    ):
        assert picture.dtype == tissue.dtype == np.uint8
        assert set(np.unique(tissue)) == {0, 1, 2, 3}
        means = [picture[tissue == k].mean() for k in range(4)]
        assert means == sorted(means)
    assert abs(float(thumbnail.detail.mean())) < 1

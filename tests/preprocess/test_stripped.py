from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from anatomad.preprocess.stripped import estimate_background, find_stripped, volume_ml
from tests.preprocess.phantoms import SPACING, T1, T2, VOLUME_ML, Volume, dice, ellipsoid, with_skull

LEVELS = [T1, T2]


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.mark.parametrize("levels", LEVELS)
def test_exact_zero_background(levels: tuple[float, float, float, float]) -> None:
    data, mask = ellipsoid(levels)
    found = find_stripped(data, SPACING)
    assert found is not None
    assert np.array_equal(found & mask, mask)
    assert dice(found, mask) > 0.995
    assert volume_ml(found, SPACING) == pytest.approx(VOLUME_ML, rel=0.02)


@pytest.mark.parametrize("background", [-1024.0, -3.5, 40.0, 5000.0])
def test_other_backgrounds(background: float) -> None:
    data, mask = ellipsoid()
    found = find_stripped(np.where(mask, data, np.float32(background)), SPACING)
    assert found is not None
    assert dice(found, mask) > 0.995


def test_background_in_the_middle_of_the_range() -> None:
    data, mask = ellipsoid()
    inside = data[mask]
    scored = np.where(mask, (data - inside.mean()) / inside.std(), 0).astype(np.float32)
    found = find_stripped(scored, SPACING)
    assert found is not None
    assert dice(found, mask) > 0.99


@pytest.mark.parametrize("levels", LEVELS)
def test_noise_in_the_background(levels: tuple[float, float, float, float]) -> None:
    data, mask = ellipsoid(levels)
    noisy = np.hypot(data + rng().normal(0, 10, data.shape), rng().normal(0, 10, data.shape)).astype(np.float32)
    found = find_stripped(noisy, SPACING)
    assert found is not None
    assert dice(found, mask) > 0.99


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("rounded", [False, True])
def test_ringing_of_a_cubic_resampling(levels: tuple[float, float, float, float], rounded: bool) -> None:
    data, mask = ellipsoid(levels)
    shift = (0.5, 0.3, 0.4)
    rung: Volume = ndimage.shift(data, shift, order=3).astype(np.float32)
    assert (rung < 0).mean() > 0.001
    everything = np.abs(rung) > 1e-3
    found = find_stripped(np.round(rung) if rounded else rung, SPACING)
    assert found is not None
    truth = ndimage.shift(mask.astype(np.float32), shift, order=1) > 0.5
    assert dice(found, truth) > 0.92  # one shell of these large voxels, the partial volume, makes 0.93
    assert dice(everything, truth) < 0.85


def test_darkest_rim_is_kept() -> None:
    data, mask = ellipsoid((0.002, 0.65, 1.0, 0.9))  # CSF at 2 of 1000
    found = find_stripped(data, SPACING)
    assert found is not None
    assert np.array_equal(found & mask, mask)


def test_zeros_inside_the_brain_are_filled() -> None:
    data, mask = ellipsoid()
    data[30:40, 40:44, 30:36] = 0
    found = find_stripped(data, SPACING)
    assert found is not None
    assert np.array_equal(found & mask, mask)


def test_brain_cut_off_at_the_border() -> None:
    data, mask = ellipsoid()
    found = find_stripped(data[:, :, 14:], SPACING)
    assert found is not None
    assert dice(found, mask[:, :, 14:]) > 0.99


@pytest.mark.parametrize("levels", LEVELS)
def test_head_with_zeroed_air_is_no_stripped_brain(levels: tuple[float, float, float, float]) -> None:
    data, _ = ellipsoid(levels)
    small = (2.0, 2.0, 2.0)  # a head as small as a brain: the volume alone does not tell
    assert find_stripped(with_skull(data), small) is None
    assert find_stripped(with_skull(data), SPACING) is None


def test_implausible_volumes() -> None:
    data, _ = ellipsoid()
    assert find_stripped(data, (1.2, 1.2, 1.2)) is None
    assert find_stripped(data, (3.5, 3.5, 3.5)) is None


def test_two_pieces_are_no_brain() -> None:
    data, _ = ellipsoid()
    assert find_stripped(np.concatenate([data, data]), SPACING) is None


def test_background_of_noise() -> None:
    data, _ = ellipsoid()
    noisy = (data + rng().normal(100, 4, data.shape)).astype(np.float32)
    background = estimate_background(noisy)
    assert background.value == pytest.approx(100, abs=2)
    assert 10 < background.tolerance < 40
    assert background.border_share > 0.99

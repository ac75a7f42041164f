from __future__ import annotations

import numpy as np
import pytest

from anatomad.preprocess.bias import correct_bias
from tests.preprocess.phantoms import SHAPE, SPACING, Volume, distance, ellipsoid


def field() -> Volume:
    axis = np.linspace(-1, 1, SHAPE[1])[None, :, None]
    return np.exp(0.35 * axis * np.ones(SHAPE)).astype(np.float32)


def spread(data: Volume) -> float:
    """Coefficient of variation of white matter."""
    radius = distance()
    white = data[(radius > 0.25) & (radius < 0.65)]
    return float(white.std() / white.mean())


def test_a_field_is_removed() -> None:
    data, mask = ellipsoid()
    biased = data * field()
    corrected = correct_bias(biased, mask, SPACING)
    assert corrected.dtype == np.float32
    assert spread(biased) > 0.08
    assert spread(corrected) < 0.04
    assert np.median(corrected[mask]) == pytest.approx(np.median(biased[mask]), rel=0.1)


def test_the_background_stays_zero() -> None:
    data, mask = ellipsoid()
    assert not correct_bias(data * field(), mask, SPACING)[~mask].any()


def test_zeros_negatives_and_nan_inside_the_brain() -> None:
    data, mask = ellipsoid()
    biased = data * field()
    inside = np.argwhere(mask)
    biased[tuple(inside[::300].T)] = 0
    biased[tuple(inside[1::300].T)] = -80
    biased[tuple(inside[2::300].T)] = np.nan
    corrected = correct_bias(biased, mask, SPACING)
    assert np.isfinite(corrected).all()
    radius = distance()
    white = corrected[(radius > 0.25) & (radius < 0.65)]
    assert np.subtract(*np.percentile(white, (75, 25))) / np.median(white) < 0.08


def test_centred_intensities() -> None:
    data, mask = ellipsoid()
    biased = np.where(mask, (data * field() - 700) / 250, 0).astype(np.float32)
    corrected = correct_bias(biased, mask, SPACING)
    assert np.isfinite(corrected).all()
    radius = distance()
    white = (radius > 0.25) & (radius < 0.65)
    assert corrected[white].std() < 0.6 * biased[white].std()


def test_too_few_voxels_are_left_alone() -> None:
    data, _ = ellipsoid()
    mask = np.zeros(SHAPE, bool)
    mask[30:33, 30:33, 30:33] = True
    assert np.array_equal(correct_bias(data, mask, SPACING), data)


def test_is_repeatable() -> None:
    data, mask = ellipsoid()
    biased = data * field()
    assert np.array_equal(correct_bias(biased, mask, SPACING), correct_bias(biased, mask, SPACING))

from __future__ import annotations

import numpy as np
import pytest

from anatomad.errors import IntensityError
from anatomad.preprocess.normalise import check_intensities, fill_nonfinite, intensity_window, normalise
from tests.preprocess.phantoms import ellipsoid


def test_percentiles_of_the_brain_become_zero_and_one() -> None:
    data, mask = ellipsoid()
    data[0, 0, 0] = 1e6  # outside: no influence
    result = normalise(data, mask)
    assert result.dtype == np.float32
    assert np.allclose(np.percentile(result[mask], (0.5, 99.5)), (0, 1), atol=1e-3)
    assert not result[~mask].any()


def test_is_blind_to_gain_and_offset() -> None:
    data, mask = ellipsoid()
    assert np.allclose(normalise(data, mask), normalise(7 * data - 3000, mask), atol=1e-3)


def test_outliers_are_clipped() -> None:
    data, mask = ellipsoid()
    inside = np.argwhere(mask)
    data[tuple(inside[100])], data[tuple(inside[200])] = 1e7, -1e7
    result = normalise(data, mask)
    assert result.max() == 2
    assert result.min() == -0.5


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nonfinite_voxels_become_the_brain_median(value: float) -> None:
    data, mask = ellipsoid()
    broken = data.copy()
    inside = tuple(np.argwhere(mask)[::50].T)
    broken[inside] = value
    result = normalise(broken, mask)
    assert np.isfinite(result).all()
    low, high = intensity_window(broken, mask)
    median = np.median(broken[mask & np.isfinite(broken)])
    assert np.allclose(result[inside], (median - low) / (high - low), atol=1e-5)


def test_fill_leaves_finite_data_alone() -> None:
    data, mask = ellipsoid()
    assert fill_nonfinite(data, mask) is data


def test_constant_brain_is_refused() -> None:
    data, mask = ellipsoid()
    with pytest.raises(IntensityError, match=r"case\.nii: the brain has one intensity, 5"):
        normalise(np.full_like(data, 5), mask, "case.nii")


def test_mostly_nonfinite_brain_is_refused() -> None:
    data, mask = ellipsoid()
    data[:40] = np.nan
    with pytest.raises(IntensityError, match="brain voxels hold finite values"):
        normalise(data, mask)


def test_empty_brain_is_refused() -> None:
    data, mask = ellipsoid()
    with pytest.raises(IntensityError, match="only 0 of 0"):
        normalise(data, np.zeros_like(mask))


@pytest.mark.parametrize(("share", "refused"), [(0.19, False), (0.21, True), (1.0, True)])
def test_share_of_nonfinite_voxels(share: float, refused: bool) -> None:
    data = np.arange(1000, dtype=np.float32).reshape(10, 10, 10)
    data.ravel()[: int(share * 1000)] = np.nan
    if refused:
        with pytest.raises(IntensityError, match="NaN or infinite, at most 20%"):
            check_intensities(data, "a.nii")
    else:
        check_intensities(data, "a.nii")


def test_constant_image_is_refused() -> None:
    data = np.full((4, 4, 4), 3, np.float32)
    data[0, 0, 0] = np.nan
    with pytest.raises(IntensityError, match=r"a\.nii: every voxel has the value 3"):
        check_intensities(data, "a.nii")

import numpy as np
import pytest
from scipy import stats

from anatomad.predict.fuse import fuse


def maps(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.exponential(0.6, (4, 5, 6)).astype(np.float32) for _ in range(count)]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_it_is_the_quadratic_mean(count: int) -> None:
    given = maps(count)
    length = np.linalg.norm(np.stack(given).astype(np.float64), axis=0)
    np.testing.assert_allclose(fuse(given), length / np.sqrt(count), rtol=1e-6)


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("shared", [0.0, 0.5, 0.9, 1.0])
def test_healthy_voxels_pass_no_more_often_than_in_one_channel(count: int, shared: float) -> None:
    rng = np.random.default_rng(0)
    common, own = rng.normal(size=(1, 400_000)), rng.normal(size=(count, 400_000))
    z = np.sqrt(shared) * common + np.sqrt(1 - shared) * own
    fused = fuse([(-stats.norm.logsf(row) / np.log(10)).astype(np.float32) for row in z])
    assert np.mean(fused >= 2) <= 0.0106  # four standard errors above 1 %


def test_equal_maps_give_the_same_map() -> None:
    (given,) = maps(1)
    np.testing.assert_allclose(fuse([given] * 3), given, atol=1e-6)
    assert fuse([given]).dtype == np.float32


def test_one_strong_channel_is_enough() -> None:
    strong, weak = np.full((1, 1, 1), 6, np.float32), np.zeros((1, 1, 1), np.float32)
    assert fuse([strong, weak, weak]).item() == pytest.approx(6 / np.sqrt(3), abs=1e-4)


def test_extreme_values_do_not_overflow() -> None:
    extreme, zero = np.full((1, 1, 1), 1e4, np.float32), np.zeros((1, 1, 1), np.float32)
    assert fuse([extreme, zero]).item() == pytest.approx(1e4 / np.sqrt(2), abs=1)
    assert fuse([zero, zero]).item() == 0


def test_the_order_of_channels_does_not_matter() -> None:
    given = maps(3)
    np.testing.assert_allclose(fuse(given), fuse(given[::-1]), atol=1e-6)

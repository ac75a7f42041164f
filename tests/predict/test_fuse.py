import numpy as np
import pytest
from scipy import stats

from anatomad.predict.fuse import fuse


def maps(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.exponential(0.6, (4, 5, 6)).astype(np.float32) for _ in range(count)]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_it_is_the_harmonic_mean_of_the_p_values(count: int) -> None:
    given = maps(count)
    p = np.array([10.0 ** -m.astype(np.float64) for m in given])
    np.testing.assert_allclose(fuse(given), -np.log10(stats.hmean(p, axis=0)), atol=1e-5)


def test_equal_maps_give_the_same_map() -> None:
    (given,) = maps(1)
    np.testing.assert_allclose(fuse([given] * 3), given, atol=1e-6)
    assert fuse([given]).dtype == np.float32


def test_one_strong_channel_is_enough() -> None:
    strong, weak = np.full((1, 1, 1), 6, np.float32), np.zeros((1, 1, 1), np.float32)
    assert fuse([strong, weak, weak]).item() == pytest.approx(6 - np.log10(3), abs=1e-4)


def test_extreme_values_neither_overflow_nor_fall_below_zero() -> None:
    extreme, zero = np.full((1, 1, 1), 1e4, np.float32), np.zeros((1, 1, 1), np.float32)
    assert fuse([extreme, zero]).item() == pytest.approx(1e4, abs=1)
    assert fuse([zero, zero]).item() == 0


def test_the_order_of_channels_does_not_matter() -> None:
    given = maps(3)
    np.testing.assert_allclose(fuse(given), fuse(given[::-1]), atol=1e-6)

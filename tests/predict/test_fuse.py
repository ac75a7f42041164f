import numpy as np
import pytest
from scipy import stats

from anatomad.predict.fuse import fuse

BRAIN = np.ones((4, 5, 6), bool)


def maps(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.exponential(0.6, BRAIN.shape).astype(np.float32) for _ in range(count)]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_of_channels_that_show_nothing_the_smallest_p_value_pays_for_their_number(count: int) -> None:
    given = maps(count)
    assert np.max(given) < 5
    np.testing.assert_allclose(fuse(given, BRAIN), np.maximum(np.max(given, 0) - np.log10(count), 0), atol=1e-6)


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("shared", [0.0, 0.5, 0.9, 1.0])
def test_healthy_voxels_pass_no_more_often_than_in_one_channel(count: int, shared: float) -> None:
    rng = np.random.default_rng(0)
    common, own = rng.normal(size=(1, 400_000)), rng.normal(size=(count, 400_000))
    z = np.sqrt(shared) * common + np.sqrt(1 - shared) * own
    given = [(-stats.norm.logsf(row) / np.log(10)).astype(np.float32).reshape(100, 100, 40) for row in z]
    fused = fuse(given, np.ones((100, 100, 40), bool))
    assert np.mean(fused >= 2) <= 0.0106  # four standard errors above 1 %
    assert np.mean(fused >= 3) <= 0.0012


def test_one_channel_stays_as_it_is() -> None:
    (given,) = maps(1)
    assert np.array_equal(fuse([given], BRAIN), given)
    assert fuse([given], BRAIN).dtype == np.float32


def test_the_channel_that_shows_a_lesion_leads() -> None:
    shows, *others = maps(4)
    lesion = np.zeros_like(BRAIN)
    lesion[1:3, 1:3, 1:3] = True
    shows[lesion] = 7.0
    fused = fuse([shows, *others], BRAIN)
    weight = (1 + lesion.mean() * 1e5) / (4 + lesion.mean() * 1e5)
    np.testing.assert_allclose(fused[lesion], 7 + np.log10(weight), rtol=1e-5)
    assert np.isclose(fused, shows, atol=0.001)[~lesion].mean() > 0.98  # the noise of the others is left behind


def test_what_lies_outside_the_brain_lends_no_weight() -> None:
    first, second = maps(2)
    brain = BRAIN.copy()
    brain[0] = False
    within = fuse([first, second], brain)
    first[0] = 9.0
    assert np.array_equal(fuse([first, second], brain)[1:], within[1:])


def test_extreme_values_do_not_overflow_and_nothing_stays_nothing() -> None:
    zero = np.zeros(BRAIN.shape, np.float32)
    assert fuse([zero + 1e4, zero], BRAIN).max() == pytest.approx(1e4, abs=1)
    assert not fuse([zero, zero], BRAIN).any()
    assert not fuse([zero, zero], np.zeros_like(BRAIN)).any()


def test_the_order_of_channels_does_not_matter() -> None:
    given = maps(3)
    np.testing.assert_allclose(fuse(given, BRAIN), fuse(given[::-1], BRAIN), atol=1e-6)

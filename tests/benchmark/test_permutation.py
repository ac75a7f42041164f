from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from anatomad.benchmark.permutation import contributions, sign_flip_test

finite = st.floats(-1, 1, allow_subnormal=False)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def by_brute_force(differences: np.ndarray) -> float:
    observed = abs(differences.sum())
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    return float(np.mean([value >= observed - 1e-9 for value in sums]))


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=9))
def test_exact_against_brute_force(numbers: list[int]) -> None:
    differences = np.array(numbers) / 8
    result = sign_flip_test(differences, rng())
    assert result.exact
    assert result.patterns == 2 ** len(numbers)
    assert result.p == by_brute_force(differences)


def test_exact_against_scipy() -> None:
    differences = rng(5).normal(0.3, 1, 11)
    expected = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_test(differences, rng()).p == pytest.approx(expected.pvalue, abs=1e-12)


@given(st.lists(finite, min_size=1, max_size=8), st.randoms())
def test_order_sign_and_scale_change_nothing(numbers: list[float], random: object) -> None:
    differences = np.array(numbers)
    p = sign_flip_test(differences, rng()).p
    shuffled = differences.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for same in (shuffled, -differences, 1024 * differences):
        assert sign_flip_test(same, rng()).p == p


def test_ties_that_rounding_parts_are_ties() -> None:
    # Every pattern of these has a mirror with the same sum but for the order of addition.
    differences = np.array([0.1, 0.2, 0.3, 0.1, 0.2, 0.3])
    assert sign_flip_test(differences, rng()).p == 2 / 64


def test_the_smallest_p_of_ten_patients_and_none_of_one() -> None:
    assert sign_flip_test(np.full(10, 0.2), rng()).p == 2 / 1024
    assert sign_flip_test(np.array([0.7]), rng()).p == 1
    assert sign_flip_test(np.zeros(5), rng()).p == 1


def test_a_larger_common_difference_is_never_less_significant() -> None:
    noise = rng(1).normal(0, 1, 12)
    noise -= noise.mean()
    values = [sign_flip_test(noise + shift, rng()).p for shift in np.linspace(0, 3, 25)]
    assert values == sorted(values, reverse=True)
    assert values[0] == 1
    assert values[-1] < 0.001


def test_p_values_are_uniform_under_the_null() -> None:
    draw = rng(2)
    values = [sign_flip_test(draw.normal(0, 1, 12), draw).p for _ in range(800)]
    assert stats.kstest(values, "uniform").pvalue > 0.01
    for level in (0.01, 0.05, 0.2):
        assert np.mean(np.array(values) <= level) <= level + 3 * np.sqrt(level * (1 - level) / 800)


def test_sampling_keeps_the_level_and_never_says_zero() -> None:
    draw = rng(3)
    values = [sign_flip_test(draw.normal(0, 1, 30), draw, sampled=199).p for _ in range(600)]
    assert stats.kstest(values, "uniform").pvalue > 0.01
    clear = sign_flip_test(np.ones(40), draw, sampled=999)
    assert clear.p == 1 / 1000
    assert (clear.patterns, clear.exact) == (999, False)


def test_sampling_comes_close_to_counting() -> None:
    differences = rng(4).normal(0.4, 1, 14)
    exact = sign_flip_test(differences, rng()).p
    sampled = sign_flip_test(differences, rng(), exact_up_to=0, sampled=40_000)
    assert sampled.patterns == 40_000
    assert sampled.p == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize("differences", [[], [0.1, np.nan], [np.inf]])
def test_refuses_what_it_cannot_test(differences: list[float]) -> None:
    with pytest.raises(ValueError, match="at least one finite number per patient"):
        sign_flip_test(np.array(differences), rng())


def test_contributions_add_up_to_the_mean_over_columns_of_the_mean_over_patients() -> None:
    nan = np.nan
    differences = np.array([[0.2, nan, 1.0, nan], [0.4, 0.6, nan, nan], [nan, nan, nan, nan], [0.0, 0.2, nan, nan]])
    shares = contributions(differences)
    assert shares.shape == (3,)
    assert shares.sum() == pytest.approx(np.mean([0.2, 0.4, 1.0]))
    assert shares[0] == pytest.approx((0.2 / 3 + 1.0) / 3)

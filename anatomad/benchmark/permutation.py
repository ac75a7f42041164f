"""Paired permutation test over patients.

Under the null hypothesis the two methods are exchangeable within a patient, so that each patient's difference may as
well have the other sign (Fisher, The Design of Experiments, 1935). A patient's columns are flipped together: they show
one brain and are not independent. Of few patients every sign pattern is counted; of many a random sample, with the
observed pattern counted among it, p = (b + 1) / (m + 1), since a p-value of 0 would claim more than was sampled
(Phipson and Smyth, Stat Appl Genet Mol Biol 9:39, 2010).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EXACT_UP_TO = 16  # patients: 65536 patterns
SAMPLED = 99_999
_BATCH = 4096
_ROUNDING = 1e-12  # of the sum of magnitudes: equal sums that were added in another order

Values = NDArray[np.float64]


@dataclass(frozen=True)
class PermutationTest:
    """Two-sided p-value, from how many sign patterns, and whether these were all there are."""

    p: float
    patterns: int
    exact: bool


def sign_flip_test(
    differences: Values, rng: np.random.Generator, *, exact_up_to: int = EXACT_UP_TO, sampled: int = SAMPLED
) -> PermutationTest:
    """Test whether paired differences (patients,) add up to zero but for chance.

    Args:
        differences: one number per patient, finite.
        rng: draws the patterns of many patients.
        exact_up_to: patients up to which all patterns are counted.
        sampled: patterns drawn for more patients.

    Raises:
        ValueError: no patient, or a difference that is not finite.
    """
    if not differences.size or not np.isfinite(differences).all():
        raise ValueError(f"differences must be at least one finite number per patient, got {differences}")
    threshold = abs(differences.sum()) - _ROUNDING * np.abs(differences).sum()
    if differences.size <= exact_up_to:
        sums = _all_sums(differences)
        return PermutationTest(float(np.mean(np.abs(sums) >= threshold)), sums.size, exact=True)
    beyond = sum(
        int(np.count_nonzero(np.abs(_random_sums(differences, min(_BATCH, sampled - start), rng)) >= threshold))
        for start in range(0, sampled, _BATCH)
    )
    return PermutationTest((beyond + 1) / (sampled + 1), sampled, exact=False)


def contributions(differences: Values) -> Values:
    """What each patient adds to the mean over columns of the mean over patients.

    Args:
        differences: (patients, columns); NaN where a patient lacks a column.

    Returns:
        (patients,) of those who have any column; they add up to that mean.
    """
    there = ~np.isnan(differences)
    patients = there.sum(axis=0)
    shares = np.where(there, differences, 0) / np.maximum(patients, 1) / max(1, np.count_nonzero(patients))
    return np.asarray(shares.sum(axis=1)[there.any(axis=1)], np.float64)


def _all_sums(differences: Values) -> Values:
    sums = np.zeros(1)
    for value in differences:
        sums = np.concatenate((sums + value, sums - value))
    return sums


def _random_sums(differences: Values, patterns: int, rng: np.random.Generator) -> Values:
    signs = rng.integers(0, 2, (patterns, differences.size)) * 2 - 1
    return np.asarray(signs @ differences, np.float64)

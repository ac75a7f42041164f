from __future__ import annotations

import numpy as np
import pytest

from anatomad.evaluate import bootstrap
from anatomad.evaluate.metrics import Detection, SortedScores, rank, sort_scores

SUBJECTS = ["a", "a", "b", "c"]


def volumes(size: int = 60, decimals: int = 1) -> list[SortedScores]:
    rng = np.random.default_rng(2)
    result = []
    for _ in SUBJECTS:
        lesion = rng.random(size) < 0.3
        result.append(sort_scores(np.round(rng.standard_normal(size) + lesion, decimals).astype(np.float32), lesion))
    return result


def repeated(parts: list[SortedScores], weights: np.ndarray) -> list[SortedScores]:
    return [part for part, weight in zip(parts, weights, strict=True) for _ in range(int(weight))]


def test_subjects_are_drawn_whole() -> None:
    weights = bootstrap.draw_subjects(SUBJECTS, 500, np.random.default_rng(0))
    assert weights.shape == (500, 4)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 1:].sum(axis=1) == 3).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(4), abs=0.15)


def test_replicates_are_exact_where_every_score_is_on_the_ladder() -> None:
    parts = volumes()
    weights = bootstrap.draw_subjects(SUBJECTS, 70, np.random.default_rng(1))
    precision, auroc, dice = bootstrap.ranking_replicates(bootstrap.curves(parts), weights)
    for row, drawn in enumerate(weights):
        exact = rank(repeated(parts, drawn))
        assert precision[row] == pytest.approx(exact.average_precision, abs=1e-12)
        assert auroc[row] == pytest.approx(exact.auroc, abs=1e-12)
        assert dice[row] == pytest.approx(exact.oracle_dice, abs=1e-12)


def test_a_coarse_ladder_is_close() -> None:
    parts = volumes(size=40_000, decimals=7)
    precision, auroc, dice = bootstrap.ranking_replicates(bootstrap.curves(parts), np.ones((1, 4)))
    exact = rank(parts)
    assert precision[0] == pytest.approx(exact.average_precision, abs=1e-3)
    assert auroc[0] == pytest.approx(exact.auroc, abs=1e-3)
    assert dice[0] == pytest.approx(exact.oracle_dice, abs=1e-3)


def test_a_replicate_without_lesions_is_undefined() -> None:
    healthy = SortedScores(np.empty(0, np.float32), np.arange(4, dtype=np.float32))
    values = bootstrap.ranking_replicates(bootstrap.curves([*volumes(), healthy]), np.array([[0, 0, 0, 0, 1.0]]))
    assert np.isnan(np.concatenate(values)).all()


def test_interval() -> None:
    assert bootstrap.interval(np.linspace(0, 1, 1001)) == pytest.approx((0.025, 0.975))
    mostly_undefined = np.array([0.5] * 8 + [np.nan] * 2)
    assert bootstrap.interval(mostly_undefined) is None


def test_mean_leaves_undefined_values_out() -> None:
    weights = np.array([[1, 1, 1], [0, 2, 1], [0, 3, 0]], float)
    means = bootstrap.mean_replicates([0.2, None, 0.8], weights)
    assert means[:2] == pytest.approx([0.5, 0.8])
    assert np.isnan(means[2])


def test_pooled_counts() -> None:
    weights = np.array([[1, 1], [2, 0]], float)
    assert bootstrap.dice_replicates([3, 0], [10, 4], weights) == pytest.approx([6 / 14, 6 / 10])
    counts = np.array([(4, 2, 3, 1), (1, 1, 1, 1)])
    pooled = [Detection(5, 3, 4, 2).f1, Detection(8, 4, 6, 2).f1]
    assert bootstrap.f1_replicates(counts, weights) == pytest.approx(pooled)
    none = bootstrap.f1_replicates(np.array([(2, 0, 0, 0), (0, 0, 0, 0)]), np.array([[1, 0], [0, 1]], float))
    assert none[0] == 0
    assert np.isnan(none[1])


def test_subject_auroc() -> None:
    high, low = np.array([3.0, 1.0]), np.array([1.0, 0.0, 4.0])
    assert bootstrap.subject_auroc(high, low) == pytest.approx((2 + 1.5) / 6)
    assert bootstrap.subject_auroc(high, np.empty(0)) is None
    weights, control = np.array([[1, 1], [0, 2]], float), np.array([[1, 1, 1], [0, 3, 0]], float)
    values = bootstrap.subject_auroc_replicates(high, low, weights, control)
    assert values == pytest.approx([3.5 / 6, 1.0])


def test_intervals_cover_what_they_claim() -> None:
    """Of many samples of 40 subjects, about 95 % of the intervals hold the mean that they were drawn from."""
    rng = np.random.default_rng(7)
    covered = []
    for _ in range(400):
        values = rng.normal(0.5, 0.2, 40)
        weights = bootstrap.draw_subjects([f"s{k:02d}" for k in range(40)], 400, rng)
        bounds = bootstrap.interval(bootstrap.mean_replicates(list(values), weights))
        assert bounds is not None
        covered.append(bounds[0] <= 0.5 <= bounds[1])
    assert 0.90 < np.mean(covered) < 0.98


def test_intervals_move_with_the_values_and_narrow_with_subjects() -> None:
    rng = np.random.default_rng(8)
    values = rng.random(64)
    widths = []
    for count in (8, 16, 64):
        weights = bootstrap.draw_subjects([f"s{k:02d}" for k in range(count)], 2000, rng)
        low, high = bootstrap.interval(bootstrap.mean_replicates(list(values[:count]), weights)) or (0.0, 0.0)
        moved = bootstrap.interval(bootstrap.mean_replicates(list(values[:count] + 1), weights))
        assert moved == pytest.approx((low + 1, high + 1))
        assert low < values[:count].mean() < high
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)

"""Bootstrap intervals over subjects: whole subjects are drawn with replacement, never voxels.

A replicate is a row of weights, how often each volume's subject was drawn. Metrics of replicates come from per-volume
counts at a ladder of thresholds, so no replicate sorts anything. The ladder holds every distinct lesion score where
there are at most `LADDER` of them (intervals are then exact), otherwise as many quantiles of the lesion scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anatomad.evaluate.metrics import Floats, SortedScores, counts_above

LADDER = 4096
LEVEL = 0.95
_BATCH = 64

Weights = NDArray[np.float64]  # (replicates, volumes)
Values = NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Curves:
    """Counts per volume (rows) at descending thresholds (columns), and voxels per volume."""

    hits: Values
    false_or_tied: Values
    false: Values
    lesion: Values
    other: Values


def draw_subjects(subjects: Sequence[str], replicates: int, rng: np.random.Generator) -> Weights:
    """Weights (replicates, len(subjects)) of volumes whose subjects are drawn with replacement."""
    names, index = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)
    drawn = rng.multinomial(names.size, np.full(names.size, 1 / names.size), size=replicates)
    return drawn[:, index].astype(np.float64)


def interval(values: Values) -> Interval | None:
    """Central 95 % of the replicates' values; None when a tenth of them or more is undefined (NaN)."""
    defined = values[~np.isnan(values)]
    if defined.size <= 0.9 * values.size:
        return None
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def curves(volumes: Sequence[SortedScores]) -> Curves:
    """Count hits and false alarms of every volume along the ladder of thresholds."""
    thresholds = _ladder([volume.lesion for volume in volumes])
    hits = [volume.lesion.size - np.searchsorted(volume.lesion, thresholds, "left") for volume in volumes]
    false_or_tied, false = zip(*(counts_above([volume], thresholds) for volume in volumes), strict=True)
    descending = (np.stack(rows)[:, ::-1].astype(np.float64) for rows in (hits, false_or_tied, false))
    sizes = (np.array([part.size for part in parts], np.float64) for parts in _parts(volumes))
    return Curves(*descending, *sizes)


def ranking_replicates(counts: Curves, weights: Weights) -> tuple[Values, Values, Values]:
    """Average precision, AUROC and oracle Dice of the pooled voxels of every replicate; NaN where undefined."""
    batches = range(0, len(weights), _BATCH)
    rows = [_rank_batch(counts, weights[start : start + _BATCH]) for start in batches]
    precision, auroc, dice = (np.concatenate(column) for column in zip(*rows, strict=True))
    return precision, auroc, dice


def mean_replicates(values: Sequence[float | None], weights: Weights) -> Values:
    """Mean over the volumes for which a value is defined; NaN where none was drawn."""
    numbers = np.array([np.nan if value is None else value for value in values], np.float64)
    defined = ~np.isnan(numbers)
    return _divide(weights[:, defined] @ numbers[defined], weights[:, defined].sum(axis=1))


def dice_replicates(both: Sequence[int], sizes: Sequence[int], weights: Weights) -> Values:
    """Dice of pooled counts: voxels in both, and the sum of the voxels of mask and lesion, per volume."""
    return _divide(2 * (weights @ np.asarray(both, np.float64)), weights @ np.asarray(sizes, np.float64))


def f1_replicates(counts: NDArray[np.int64], weights: Weights) -> Values:
    """Lesion-wise F1 of pooled counts; columns are lesions, found, predicted, true, as in `metrics.Detection`."""
    lesions, found, predicted, true = (weights @ counts.astype(np.float64)).T
    # Where nothing is found or predicted the harmonic mean is 0, not undefined.
    sensitivity = np.divide(found, lesions, out=np.zeros_like(found), where=lesions > 0)
    precision = np.divide(true, predicted, out=np.zeros_like(true), where=predicted > 0)
    total = sensitivity + precision
    f1 = np.divide(2 * sensitivity * precision, total, out=np.zeros_like(total), where=total > 0)
    return np.where(lesions + predicted > 0, f1, np.nan)


def subject_auroc(with_lesion: Values, healthy: Values) -> float | None:
    """Chance that a scan with a lesion scores higher than a healthy one, ties counting half; None without both."""
    if not with_lesion.size or not healthy.size:
        return None
    return float(_wins(with_lesion, healthy).mean())


def subject_auroc_replicates(with_lesion: Values, healthy: Values, lesion: Weights, control: Weights) -> Values:
    """`subject_auroc` of every replicate; the two groups are drawn apart from each other."""
    won = np.einsum("rl,lh,rh->r", lesion, _wins(with_lesion, healthy), control, optimize=True)
    return _divide(won, lesion.sum(axis=1) * control.sum(axis=1))


def _wins(with_lesion: Values, healthy: Values) -> Values:
    return 0.5 * (1 + np.sign(with_lesion[:, None] - healthy[None, :]))


def _ladder(parts: Sequence[Floats]) -> Floats:
    scores = np.unique(np.concatenate(parts))
    if scores.size <= LADDER:
        return scores
    pooled = np.sort(np.concatenate(parts))
    return np.unique(pooled[np.linspace(0, pooled.size - 1, LADDER).round().astype(np.int64)])


def _parts(volumes: Sequence[SortedScores]) -> tuple[list[Floats], list[Floats]]:
    return [volume.lesion for volume in volumes], [volume.other for volume in volumes]


def _rank_batch(counts: Curves, weights: Weights) -> tuple[Values, Values, Values]:
    hits, false_or_tied, false = (weights @ rows for rows in (counts.hits, counts.false_or_tied, counts.false))
    lesion, other = (weights @ sizes for sizes in (counts.lesion, counts.other))
    gained = np.diff(hits, axis=1, prepend=0)
    precision = np.divide(hits, hits + false_or_tied, out=np.zeros_like(hits), where=hits > 0)
    wins = other[:, None] - (false_or_tied + false) / 2
    dice = np.divide(2 * hits, lesion[:, None] + hits + false_or_tied, out=np.zeros_like(hits), where=hits > 0)
    return (
        _divide((gained * precision).sum(axis=1), lesion),
        _divide((gained * wins).sum(axis=1), lesion * other),
        np.where(lesion > 0, dice.max(axis=1), np.nan),
    )


def _divide(numerator: Values, denominator: Values) -> Values:
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0)

"""Exact ranking metrics of voxel scores, and overlap and detection of binary masks.

Nothing is binned. The lesion scores and the other scores of a volume are each sorted once; average precision, the area
under the ROC curve and the best attainable Dice then follow from counts at the distinct lesion scores alone, because
between two of them recall does not change and precision only falls. Equal scores enter together, as in scikit-learn.
Memory beyond the scores themselves is a few chunks of `_CHUNK` values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatomad.errors import DataError

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]
Counts = NDArray[np.int64]

OVERLAP_SHARE = 0.1  # a component is matched when at least this share of its voxels is covered by the other mask
_CHUNK = 1 << 20
_CONNECTIVITY_26 = np.ones((3, 3, 3), bool)


@dataclass(frozen=True, eq=False)
class SortedScores:
    """Scores of one volume in ascending order: those of lesion voxels and those of all others."""

    lesion: Floats = field(repr=False)
    other: Floats = field(repr=False)


@dataclass(frozen=True)
class Ranking:
    """How well scores rank lesion voxels above the others; None where a class is empty.

    Attributes:
        average_precision: sum over thresholds of precision times the gain in recall, in [0, 1].
        auroc: chance that a lesion voxel outranks another, ties counting half, in [0, 1].
        oracle_dice: highest Dice of any threshold on these very voxels, in [0, 1]: optimistic by construction.
        oracle_threshold: score at and above which that Dice is reached; -inf when every voxel is taken.
    """

    average_precision: float | None
    auroc: float | None
    oracle_dice: float | None
    oracle_threshold: float | None
    lesion_voxels: int
    other_voxels: int


@dataclass(frozen=True)
class Overlap:
    """Voxel counts of a mask against a lesion label."""

    both: int
    mask: int
    lesion: int

    @property
    def dice(self) -> float | None:
        """Dice in [0, 1]; None when both are empty."""
        total = self.mask + self.lesion
        return 2 * self.both / total if total else None


@dataclass(frozen=True)
class Detection:
    """Counts of 26-connected components: lesions, those found; predicted ones, those that lie on a lesion."""

    lesions: int
    found: int
    predicted: int
    true: int

    @property
    def f1(self) -> float | None:
        """Harmonic mean of the share found and the share true, in [0, 1]; None without any component."""
        if not self.lesions + self.predicted:
            return None
        if not self.lesions * self.predicted * self.found * self.true:
            return 0.0
        sensitivity, precision = self.found / self.lesions, self.true / self.predicted
        return 2 * sensitivity * precision / (sensitivity + precision)


def sort_scores(scores: Floats, lesion: Bools) -> SortedScores:
    """Split the scores (any shape; larger is more anomalous) by ``lesion`` (same shape) and sort both parts.

    Raises:
        DataError: shapes differ, or a score is NaN.
    """
    if scores.shape != lesion.shape:
        raise DataError(f"scores of shape {scores.shape} against labels of shape {lesion.shape}; give them one grid")
    parts = scores[lesion], scores[~lesion]
    for part in parts:
        part.sort()
        if part.size and np.isnan(part[-1]):  # NaN sorts to the end
            raise DataError("a score is NaN; an anomaly map holds finite numbers only")
    return SortedScores(*parts)


def rank(volumes: Sequence[SortedScores]) -> Ranking:
    """Rank the voxels of all volumes as one pool, exactly."""
    positives = _merge([volume.lesion for volume in volumes])
    others = sum(volume.other.size for volume in volumes)
    if not positives.size:
        return Ranking(None, None, None, None, 0, others)
    precision_sum, twice_wins, best, threshold = 0.0, 0, -1.0, -math.inf
    for values, counts, hits in _distinct(positives):
        false_or_tied, false = counts_above(volumes, values)
        precision_sum += float(np.sum(counts * (hits / (hits + false_or_tied))))
        twice_wins += int(np.sum(counts * (2 * others - false_or_tied - false)))
        dice = 2 * hits / (positives.size + hits + false_or_tied)
        index = int(dice.argmax())
        if dice[index] > best:
            best, threshold = float(dice[index]), float(values[index])
    auroc = twice_wins / (2 * positives.size * others) if others else None
    return Ranking(precision_sum / positives.size, auroc, best, threshold, positives.size, others)


def rank_voxels(scores: Floats, lesion: Bools) -> Ranking:
    """Rank the voxels of one array of scores against its labels; raises as `sort_scores` does."""
    return rank([sort_scores(scores, lesion)])


def counts_above(volumes: Sequence[SortedScores], values: Floats) -> tuple[Counts, Counts]:
    """Other voxels of all volumes that score at least, and strictly more than, each of the ascending ``values``."""
    at_least, above = np.zeros(values.size, np.int64), np.zeros(values.size, np.int64)
    for volume in volumes:
        at_least += volume.other.size - np.searchsorted(volume.other, values, "left")
        above += volume.other.size - np.searchsorted(volume.other, values, "right")
    return at_least, above


def overlap(mask: Bools, lesion: Bools) -> Overlap:
    """Count the voxels of a mask, of a lesion label of the same shape, and of both."""
    return Overlap(*(int(np.count_nonzero(voxels)) for voxels in (mask & lesion, mask, lesion)))


def detect(mask: Bools, lesion: Bools) -> Detection:
    """Match 26-connected components (x, y, z) of a mask and of a lesion label of the same shape.

    A lesion is found when at least 10 % of its voxels are in the mask; a predicted component is true when at least
    10 % of its voxels are lesion. Components of every size count.
    """
    return Detection(*_components(lesion, mask), *_components(mask, lesion))


def _components(of: Bools, covered_by: Bools) -> tuple[int, int]:
    labels, number = ndimage.label(of, _CONNECTIVITY_26)
    sizes = np.bincount(labels[of], minlength=number + 1)[1:]
    covered = np.bincount(labels[of & covered_by], minlength=number + 1)[1:]
    return int(number), int(np.count_nonzero(covered >= OVERLAP_SHARE * sizes))


def _merge(parts: Sequence[Floats]) -> Floats:
    if len(parts) == 1:
        return parts[0]
    merged = np.concatenate(parts) if parts else np.empty(0, np.float32)
    merged.sort()
    return merged


def _distinct(scores: Floats) -> Iterator[tuple[Floats, Counts, Counts]]:
    """Chunks of the distinct values of ascending scores: value, how often, and how many scores are at least it."""
    start = 0
    while start < scores.size:
        last = scores[min(start + _CHUNK, scores.size) - 1]
        end = int(np.searchsorted(scores, last, "right"))
        part = scores[start:end]
        first = np.flatnonzero(np.concatenate(([True], part[1:] != part[:-1])))
        yield part[first], np.diff(first, append=part.size), scores.size - start - first
        start = end

"""Intensity thresholding, at its best: what a scan's brightness alone says about lesions.

Each rule is given what a user does not have: per sequence, the rule and smoothing that suit the labels best are taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatomad.evaluate.cases import Prediction, find, read_maps
from anatomad.evaluate.metrics import SortedScores, rank
from anatomad.evaluate.volume import measure
from anatomad.io.nifti import read_image
from anatomad.preprocess.normalise import fill_nonfinite

RULES = ("bright", "dark", "two-sided", "equalised")
SMOOTHING_MM = (0.0, 2.0, 4.0)  # SD of the Gaussian
_MAD_TO_SD = 1.4826

Scores = NDArray[np.float32]
Mask = NDArray[np.bool_]
Rule = tuple[str, float]


@dataclass
class Thresholding:
    """The rules' results on one sequence: pooled average precision and best Dice by (rule, smoothing SD in mm)."""

    precision: dict[Rule, float] = field(default_factory=dict)
    dice: dict[Rule, float] = field(default_factory=dict)

    def best_precision(self) -> tuple[Rule, float]:
        """The rule of the highest average precision, and that precision."""
        return max(self.precision.items(), key=lambda item: item[1])

    def best_dice(self) -> tuple[Rule, float]:
        """The rule of the highest Dice that any threshold reaches, and that Dice."""
        return max(self.dice.items(), key=lambda item: item[1])


def intensity_scores(image: Scores, brain: Mask, spacing: tuple[float, float, float]) -> Iterator[tuple[Rule, Scores]]:
    """Yield every rule's anomaly scores (x, y, z) of a scan: larger is more anomalous, only the brain counts.

    Args:
        image: (x, y, z) intensities in any unit.
        brain: (x, y, z).
        spacing: voxel size in mm.
    """
    values = fill_nonfinite(image, brain)[brain]
    centre = np.median(values)
    spread = _MAD_TO_SD * np.median(np.abs(values - centre)) + 1e-6
    scaled, equalised = np.zeros((2, *image.shape), np.float32)
    scaled[brain] = (values - centre) / spread  # not clipped: how bright the brightest are is what the rule is about
    equalised[brain] = np.argsort(np.argsort(values, kind="stable"), kind="stable") / values.size
    scores = (scaled, -scaled, np.abs(scaled), equalised)
    for sd in SMOOTHING_MM:
        for name, score in zip(RULES, scores, strict=True):
            yield (name, sd), _smooth(score, brain, [sd / mm for mm in spacing])


def threshold_intensity(images: Path, predictions: Path, references: Path) -> dict[str, Thresholding]:
    """Measure every rule on the scans that were predicted, over the same voxels as the predictions.

    Args:
        images: folder of the scans, named as the predictions.
        predictions: folder that ``anatomad_predict`` wrote; its brains are used.
        references: folder of lesion labels.

    Returns:
        Results by sequence; a sequence without any lesion is left out.

    Raises:
        UsageError, DataError: see `evaluate.cases.find`, `read_maps` and `evaluate.volume.measure`; also an unreadable
            scan.
    """
    found: dict[str, Thresholding] = {}
    predicted = find(predictions, references).predictions
    for sequence, members in groupby(predicted, key=lambda prediction: prediction.sequence):
        pools: dict[Rule, list[SortedScores]] = {}
        for prediction in members:
            for rule, scores in _measured(images, prediction):
                pools.setdefault(rule, []).append(scores)
        for rule, volumes in pools.items():
            ranking = rank(volumes)
            if ranking.average_precision is not None and ranking.oracle_dice is not None:
                result = found.setdefault(sequence, Thresholding())
                result.precision[rule], result.dice[rule] = ranking.average_precision, ranking.oracle_dice
    return found


def _measured(images: Path, prediction: Prediction) -> Iterator[tuple[Rule, SortedScores]]:
    image = read_image(images / prediction.path.name.replace("_anomaly", "", 1))
    maps = read_maps(prediction)
    box = ndimage.find_objects((maps.brain | maps.lesion).astype(np.uint8))[0]
    brain, lesion = maps.brain[box], maps.lesion[box]
    for rule, scores in intensity_scores(np.asarray(image.data[box], np.float32), brain, image.spacing):
        yield rule, measure(prediction.id, scores, brain, lesion).scores


def _smooth(score: Scores, brain: Mask, sigma: list[float]) -> Scores:
    if not any(sigma):
        return score
    weight = ndimage.gaussian_filter(brain.astype(np.float32), sigma)
    blurred = ndimage.gaussian_filter(np.where(brain, score, np.float32(0)), sigma)
    return np.asarray(blurred / np.maximum(weight, 1e-3), dtype=np.float32)

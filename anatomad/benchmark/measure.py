"""Predictions of one run on one group of scans, measured: values, single cases, and bootstrap replicates.

The subjects of a data set are drawn once and the same for every method, seed, sequence and post-processing, so that
replicates can be averaged over seeds and columns, and subtracted between methods.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatomad.benchmark.postprocess import postprocess
from anatomad.errors import DataError
from anatomad.evaluate import bootstrap
from anatomad.evaluate.bootstrap import Weights
from anatomad.evaluate.cases import Found, Prediction, find, measure_maps, read_maps
from anatomad.evaluate.summary import voxel_metrics
from anatomad.evaluate.volume import Volume

AS_PREDICTED, POST_PROCESSED = "as predicted", "post-processed"
VARIANTS = {AS_PREDICTED: lambda maps: maps, POST_PROCESSED: postprocess}
METRICS = ("pooled_ap", "calibrated_dice_pooled", "oracle_dice", "mean_ap", "calibrated_dice", "lesion_f1", "auroc")

P01 = 2.0  # -log10 p

Replicates = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Measured:
    """Metrics by sequence and variant, and replicates by ``sequence|variant|metric``."""

    sequences: dict[str, dict[str, dict[str, Any]]]
    replicates: Replicates


def measure_patients(name: str, predictions: Path, labels: Path, replicates: int) -> Measured:
    """Measure every labelled prediction in a folder.

    Args:
        name: of the data set; seeds the bootstrap.
        predictions: what ``anatomad_predict`` wrote.
        labels: folder of lesion labels.
        replicates: of the bootstrap.

    Raises:
        UsageError, DataError: see `evaluate.cases.find` and `evaluate.cases.read_maps`.
    """
    found = find(predictions, labels)
    drawn = _draws(name, found, replicates)
    sequences: dict[str, dict[str, dict[str, Any]]] = {}
    values: Replicates = {}
    for sequence, members in groupby(found.predictions, key=lambda prediction: prediction.sequence):
        for variant, volumes in _volumes(members).items():
            weights = np.stack([drawn[volume.subject] for volume in volumes], axis=1)
            metrics = voxel_metrics(volumes, 0, np.random.default_rng())
            sequences.setdefault(sequence, {})[variant] = metrics
            for metric, row in _replicates(volumes, weights, metrics).items():
                values[replicate_key(sequence, variant, metric)] = row
    return Measured(sequences, values)


def measure_healthy(predictions: Path) -> dict[str, list[dict[str, Any]]]:
    """What each scan of a folder of healthy ones has in the mask and under p = 0.01, by variant.

    Returns:
        By variant and scan, of ``brain_ml``: ``mask_ml``, and ``p01_ml`` with p <= 0.01, 1 % where calibration holds.

    Raises:
        UsageError, DataError: see `evaluate.cases.find` and `evaluate.cases.read_maps`.
    """
    maps = sorted(predictions.glob("*_anomaly.nii*"))
    scans = [Prediction(path.name.split("_anomaly.nii")[0], "", "", path, None) for path in maps]
    result: dict[str, list[dict[str, Any]]] = {variant: [] for variant in VARIANTS}
    for scan in scans:
        maps_of_scan = read_maps(scan)
        for variant, change in VARIANTS.items():
            changed = change(maps_of_scan)
            if changed.mask is None:
                raise DataError(f"{scan.path}: no mask beside it; predict this case again")
            parts = {
                "mask_ml": changed.mask,
                "p01_ml": changed.anomaly[changed.brain] >= P01,
                "brain_ml": changed.brain,
            }
            ml = {name: float(part.sum()) * changed.voxel_ml for name, part in parts.items()}
            result[variant].append({"id": scan.id, **ml, "score": changed.score})
    return result


def replicate_key(sequence: str, variant: str, metric: str) -> str:
    """Name of a row of replicates."""
    return f"{sequence}|{variant}|{metric}"


def _draws(name: str, found: Found, replicates: int) -> Mapping[str, NDArray[np.float64]]:
    """How often each subject is drawn, per replicate."""
    subjects = sorted({prediction.subject for prediction in found.predictions})
    rng = np.random.default_rng([*hashlib.sha256(name.encode()).digest()[:8]])
    return dict(zip(subjects, bootstrap.draw_subjects(subjects, replicates, rng).T, strict=True))


def _volumes(predictions: Iterator[Prediction]) -> dict[str, list[Volume]]:
    volumes: dict[str, list[Volume]] = {variant: [] for variant in VARIANTS}
    for prediction in predictions:
        maps = read_maps(prediction)
        for variant, change in VARIANTS.items():
            volumes[variant].append(measure_maps(prediction, change(maps)))
    return volumes


def _replicates(volumes: Sequence[Volume], weights: Weights, metrics: Mapping[str, Any]) -> Replicates:
    counts = bootstrap.curves([volume.scores for volume in volumes])
    precision, auroc, dice = bootstrap.ranking_replicates(counts, weights)
    diseased = [number for number, volume in enumerate(volumes) if not volume.healthy]
    chosen, drawn = [volumes[number] for number in diseased], weights[:, diseased]
    result = {
        "pooled_ap": precision,
        "auroc": auroc,
        "oracle_dice": dice,
        "mean_ap": bootstrap.mean_replicates([v.ranking.average_precision for v in chosen], drawn),
    }
    complete = metrics["calibrated_dice"]["value"] is not None
    return result | (_mask_replicates(chosen, drawn) if complete else {})


def _mask_replicates(diseased: Sequence[Volume], weights: Weights) -> Replicates:
    overlaps = [volume.overlap for volume in diseased if volume.overlap is not None]
    detections = [volume.detection for volume in diseased if volume.detection is not None]
    both, sizes = [o.both for o in overlaps], [o.mask + o.lesion for o in overlaps]
    found = np.array([(d.lesions, d.found, d.predicted, d.true) for d in detections], np.int64)
    return {
        "calibrated_dice": bootstrap.mean_replicates([o.dice for o in overlaps], weights),
        "calibrated_dice_pooled": bootstrap.dice_replicates(both, sizes, weights),
        "lesion_f1": bootstrap.f1_replicates(found, weights),
    }

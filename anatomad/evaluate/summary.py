"""Metrics of one sequence, with bootstrap intervals, as plain numbers; `protocol.PROTOCOLS` says what each means."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from anatomad.evaluate import bootstrap
from anatomad.evaluate.bootstrap import Values, Weights
from anatomad.evaluate.metrics import Detection, Overlap, rank
from anatomad.evaluate.volume import Volume

Metric = dict[str, Any]


def voxel_metrics(volumes: list[Volume], replicates: int, rng: np.random.Generator) -> Metric:
    """Metrics of voxels and lesions over the labelled volumes of one sequence."""
    diseased = [volume for volume in volumes if not volume.healthy]
    return {
        "volumes": len(volumes),
        "volumes_with_lesion": len(diseased),
        "subjects": len({volume.subject for volume in volumes}),
        **_pooled(volumes, _draw(volumes, replicates, rng)),
        **_per_volume(diseased, _draw(diseased, replicates, rng)),
        "lesion_voxels_outside_brain": sum(volume.outside for volume in volumes),
        "cases": [_case(volume) for volume in volumes],
    }


def _pooled(volumes: list[Volume], weights: Weights | None) -> Metric:
    scores = [volume.scores for volume in volumes]
    ranking = rank(scores)
    replicates: tuple[Values | None, ...] = (None, None, None)
    if weights is not None and ranking.lesion_voxels:
        replicates = bootstrap.ranking_replicates(bootstrap.curves(scores), weights)
    return {
        "lesion_voxels": ranking.lesion_voxels,
        "prevalence": _ratio(ranking.lesion_voxels, ranking.lesion_voxels + ranking.other_voxels),
        "pooled_ap": _metric(ranking.average_precision, replicates[0]),
        "auroc": _metric(ranking.auroc, replicates[1]),
        "oracle_dice": _metric(ranking.oracle_dice, replicates[2]) | {"threshold": _finite(ranking.oracle_threshold)},
    }


def _per_volume(diseased: list[Volume], weights: Weights | None) -> Metric:
    precisions = [volume.ranking.average_precision for volume in diseased]
    overlaps = [volume.overlap for volume in diseased if volume.overlap is not None]
    detections = [volume.detection for volume in diseased if volume.detection is not None]
    # Without a mask for every volume the numbers of the masks there are would describe another set of scans.
    complete = bool(diseased) and len(overlaps) == len(diseased)
    return {
        "mean_ap": _metric(_mean(precisions), _replicate(weights, lambda w: bootstrap.mean_replicates(precisions, w))),
        **(_masks(overlaps, detections, weights) if complete else _no_masks()),
    }


def _masks(overlaps: list[Overlap], detections: list[Detection], weights: Weights | None) -> Metric:
    dices = [each.dice for each in overlaps]
    both, sizes = [o.both for o in overlaps], [o.mask + o.lesion for o in overlaps]
    counts = np.array([(d.lesions, d.found, d.predicted, d.true) for d in detections], np.int64)
    total = Detection(*(int(count) for count in counts.sum(axis=0)))
    return {
        "calibrated_dice": _metric(_mean(dices), _replicate(weights, lambda w: bootstrap.mean_replicates(dices, w))),
        "calibrated_dice_pooled": _metric(
            _ratio(2 * sum(both), sum(sizes)), _replicate(weights, lambda w: bootstrap.dice_replicates(both, sizes, w))
        ),
        "lesion_f1": _metric(total.f1, _replicate(weights, lambda w: bootstrap.f1_replicates(counts, w)))
        | asdict(total),
    }


def _no_masks() -> Metric:
    return {name: _metric(None, None) for name in ("calibrated_dice", "calibrated_dice_pooled", "lesion_f1")}


def scan_metrics(volumes: list[Volume], controls: list[Volume], replicates: int, rng: np.random.Generator) -> Metric:
    """Metrics of whole scans: what the mask marks in healthy ones, and how well the score tells them apart."""
    diseased = [volume for volume in volumes if not volume.healthy]
    own = [volume for volume in volumes if volume.healthy]
    masked = [volume.mask_ml for volume in own]
    weights = _draw(own, replicates, rng)
    false_positive = _metric(_mean(masked), _replicate(weights, lambda w: bootstrap.mean_replicates(masked, w)))
    against = own or controls
    return {
        "healthy_volumes": len(own),
        "healthy_false_positive_ml": false_positive,
        "subject_auroc": _subject_auroc(diseased, against, replicates, rng)
        | {"against": "healthy scans of this sequence" if own else "all healthy scans" if controls else None},
        "healthy": [_case(volume) for volume in own],
    }


def _subject_auroc(diseased: list[Volume], healthy: list[Volume], replicates: int, rng: np.random.Generator) -> Metric:
    scored = [volume for volume in diseased if volume.score is not None]
    control = [volume for volume in healthy if volume.score is not None]
    high, low = (np.array([volume.score for volume in group], np.float64) for group in (scored, control))
    drawn, drawn_control = _draw(scored, replicates, rng), _draw(control, replicates, rng)
    values = None
    if drawn is not None and drawn_control is not None:
        values = bootstrap.subject_auroc_replicates(high, low, drawn, drawn_control)
    return _metric(bootstrap.subject_auroc(high, low), values)


def _case(volume: Volume) -> Metric:
    ranking = volume.ranking
    return {
        "id": volume.case_id,
        "subject": volume.subject,
        "ap": ranking.average_precision,
        "auroc": ranking.auroc,
        "oracle_dice": ranking.oracle_dice,
        "calibrated_dice": None if volume.overlap is None else volume.overlap.dice,
        "lesion_f1": None if volume.detection is None else volume.detection.f1,
        "lesions": None if volume.detection is None else asdict(volume.detection),
        "lesion_ml": ranking.lesion_voxels * volume.voxel_ml,
        "mask_ml": volume.mask_ml,
        "brain_ml": volume.brain_voxels * volume.voxel_ml,
        "lesion_voxels_outside_brain": volume.outside,
        "score": volume.score,
    }


def _draw(volumes: Sequence[Volume], replicates: int, rng: np.random.Generator) -> Weights | None:
    subjects = [volume.subject for volume in volumes]
    return bootstrap.draw_subjects(subjects, replicates, rng) if replicates and len(set(subjects)) > 1 else None


def _replicate(weights: Weights | None, of: Callable[[Weights], Values]) -> Values | None:
    return None if weights is None else of(weights)


def _metric(value: float | None, replicates: Values | None) -> Metric:
    bounds = None if value is None or replicates is None else bootstrap.interval(replicates)
    return {"value": value, "interval": None if bounds is None else list(bounds)}


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return math.fsum(defined) / len(defined) if defined else None


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None

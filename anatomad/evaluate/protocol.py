"""From a folder of predictions to metrics per sequence, each under a protocol that is stated with it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

import anatomad
from anatomad.errors import DataError
from anatomad.evaluate import bootstrap
from anatomad.evaluate.cases import Prediction, find, load
from anatomad.evaluate.summary import Metric, scan_metrics, voxel_metrics
from anatomad.evaluate.volume import Volume

PROTOCOLS = {
    "voxels": "Evaluated voxels are those of the predicted brain (CASE_anatomy > 0; CASE_brain > 0 where there is no "
    "anatomy; a non-zero anomaly map where there is neither) and those of the lesion. Lesion voxels outside the "
    "predicted brain are missed: they enter below every other score. Lesion is label > 0, except the label that "
    "dataset.json calls ignore: its voxels are left out. Nothing is resampled, eroded, smoothed or removed.",
    "pooled_ap": "Average precision over the voxels of all labelled volumes of a sequence as one pool, ties together, "
    "no binning.",
    "mean_ap": "Average precision of each volume that has a lesion, averaged over these volumes.",
    "auroc": "Area under the ROC curve over the same pool of voxels, ties counting half.",
    "oracle_dice": "Highest Dice that any single threshold reaches on the pool: chosen with the labels, so optimistic.",
    "calibrated_dice": "Dice of CASE_mask (threshold calibrated on healthy scans, no label used), averaged over the "
    "volumes that have a lesion; calibrated_dice_pooled adds up their voxels first.",
    "lesion_f1": "Of CASE_mask, 26-connected components of every size, counts added over the volumes that have a "
    "lesion: a lesion is found when at least 10 % of its voxels are in the mask, a predicted component is true when "
    "at least 10 % of its voxels are lesion; F1 is the harmonic mean of both shares.",
    "healthy_false_positive_ml": "Volume of CASE_mask in scans without any lesion (empty label, or named by "
    "--healthy), averaged over these scans.",
    "subject_auroc": "Chance that the score of a scan with a lesion exceeds that of a healthy one, ties counting half; "
    "against healthy scans of the same sequence where there are any, else against all healthy scans.",
    "interval": "Central 95 % of bootstrap replicates in which subjects are drawn with replacement (healthy subjects "
    "apart from the others); null with fewer than two subjects or where 10 % of the replicates are undefined. Pooled "
    f"metrics of replicates are read at {bootstrap.LADDER} thresholds at most, the values themselves at every one.",
}


def evaluate(
    predictions: Path,
    references: Path,
    healthy: Path | None = None,
    *,
    replicates: int = 1000,
    seed: int = 0,
    track: Callable[[Sequence[Prediction]], Iterable[Prediction]] = iter,
) -> dict[str, Any]:
    """Measure every prediction in a folder; the result holds numbers, strings, lists and None only.

    Args:
        predictions: folder that ``anatomad_predict`` wrote.
        references: folder of lesion labels.
        healthy: folder of predictions of healthy scans, or a text file of ids; see `cases.find`.
        replicates: bootstrap replicates; 0 leaves the intervals out.
        seed: of the bootstrap; results do not depend on the order of files.
        track: wraps the predictions as they are read, to show progress.

    Raises:
        UsageError, DataError: see `cases.find`; what `cases.load` raises where no prediction can be used. One that
            cannot be used beside others is named under ``failed`` and left out.
    """
    found = find(predictions, references, healthy)
    groups: dict[str, list[Volume]] = {}
    labelled: dict[str, Metric] = {}
    failures: dict[str, DataError] = {}
    for sequence, volumes in groupby(_loaded(track(found.predictions), failures), key=lambda one: one[0].sequence):
        held = list(volumes)
        rng = _rng(seed, sequence)
        labelled[sequence] = voxel_metrics([v for p, v in held if p.label is not None], replicates, rng)
        groups[sequence] = [volume.without_scores() for _, volume in held]
    if not groups:
        raise next(iter(failures.values()))
    controls = _controls(groups)
    return {
        "anatomad": anatomad.__version__,
        "protocols": PROTOCOLS,
        "bootstrap": {"replicates": replicates, "seed": seed, "level": bootstrap.LEVEL},
        "sequences": {
            name: labelled[name] | scan_metrics(volumes, controls, replicates, _rng(seed, f"{name} scans"))
            for name, volumes in groups.items()
        },
        "predictions_without_label": list(found.without_label),
        "labels_without_prediction": list(found.without_prediction),
        "predictions_without_sidecar": [p.id for p in found.predictions if not p.sidecar.exists()],
        "failed": {id_: str(error) for id_, error in failures.items()},
    }


def _controls(groups: dict[str, list[Volume]]) -> list[Volume]:
    return [volume for volumes in groups.values() for volume in volumes if volume.healthy]


def _loaded(predictions: Iterable[Prediction], failures: dict[str, DataError]) -> Iterator[tuple[Prediction, Volume]]:
    for prediction in predictions:
        try:
            yield prediction, load(prediction)
        except DataError as error:
            failures[prediction.id] = error


def _rng(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, *hashlib.sha256(name.encode()).digest()[:8]])

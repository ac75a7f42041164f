"""Finished runs from numbers: per column the values of single patients, whose mean stands for the pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anatomad.benchmark.measure import METRICS, VARIANTS
from anatomad.benchmark.results import Column, Finished
from anatomad.benchmark.runs import Method, Run
from anatomad.evaluate.bootstrap import draw_subjects, mean_replicates

T1, T2, MS = Column("Dataset101_Glioma", "T1w"), Column("Dataset101_Glioma", "T2w"), Column("Dataset102_MS", "T1w")
FUSED = Column("Dataset101_Glioma", "whole case")
REPLICATES = 400

Cells = Mapping[Column, Mapping[str, float]]


def made_run(method: str, seed: int, cells: Cells, trained: bool = True) -> Finished:
    """A run in which every metric of a patient is the given number."""
    run = Run(Method.parse(method), seed, Path(f"{method}-{seed}"), {})
    finished = Finished(run, {"seconds": 60.0 * seed + 60, "peak_memory_mb": 500 + seed} if trained else None)
    for column, values in cells.items():
        rng = np.random.default_rng([*column.data_set.encode()])
        weights = draw_subjects(sorted(values), REPLICATES, rng)
        numbers = [values[subject] for subject in sorted(values)]
        finished.columns[column] = {variant: _metrics(values) for variant in VARIANTS}
        for variant in VARIANTS:
            for metric in METRICS:
                finished.replicates[column, variant, metric] = mean_replicates(numbers, weights)
        finished.seconds[column.data_set] = {"scans": 4, "predict": 8.0}
    scan = {"id": "h", "mask_ml": 1.0 + seed, "p01_ml": 10.0 + seed, "brain_ml": 1000.0, "score": 1.0}
    finished.healthy["healthy, untouched fold"] = {variant: [scan, scan] for variant in VARIANTS}
    return finished


def _metrics(values: Mapping[str, float]) -> dict[str, Any]:
    mean = float(np.mean(list(values.values())))
    cases = [{"subject": name, "ap": value, "calibrated_dice": value} for name, value in values.items()]
    return {metric: {"value": mean, "interval": None} for metric in METRICS} | {"cases": cases}


def patients(level: float, count: int = 8, spread: float = 0.1, seed: int = 0) -> dict[str, float]:
    """Values of patients about ``level``."""
    rng = np.random.default_rng(seed)
    return {f"p{number}": float(level + spread * rng.normal()) for number in range(count)}


def seeds(method: str, levels: Sequence[float], columns: Sequence[Column] = (T1, T2, MS)) -> list[Finished]:
    """One run per level; columns and patients differ, the runs by their level alone."""
    return [
        made_run(method, number, {c: patients(level, 2 if c == MS else 8, seed=k) for k, c in enumerate(columns)})
        for number, level in enumerate(levels)
    ]

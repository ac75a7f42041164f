"""What is left to do, and how long that takes, said before it starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from anatomad.benchmark.results import finished_judgement, seconds_per_scan
from anatomad.benchmark.runs import Run, error_of, finished_training
from anatomad.benchmark.scans import Scans
from anatomad.progress import clock


def estimate_work(
    runs: Sequence[Run],
    scans: Sequence[Scans],
    replicates: int,
    time_s: float,
    workers: int,
    learns: Callable[[Run], bool],
) -> list[str]:
    """Lines that say per run what is left, and how long all of it takes at most.

    Training takes the time it is given, where a method ``learns``; else next to none. How long a scan takes is known
    once any run has judged some.
    """
    lines, trainings, judgements = [], 0, 0
    known: list[float] = []
    for run in runs:
        left = finished_training(run) is None
        results = [finished_judgement(run, group, replicates) for group in scans]
        known += [s for found in results if found is not None and (s := seconds_per_scan(found["seconds"])) is not None]
        files = sum(_predictions(group) for group, found in zip(scans, results, strict=True) if found is None)
        trainings, judgements = trainings + (left and learns(run)), judgements + files
        lines.append(f"  {run.name}: {_state(run, left, files)}")
    whole = clock(-(-trainings // workers) * time_s)
    total = (
        f"trainings: {trainings} of {clock(time_s)} each, {workers} at a time: {whole}; scans to judge: {judgements}"
    )
    if not known:
        return [*lines, f"{total}, on top of that (no run has shown yet how long each takes)"]
    judging = clock(judgements * float(np.mean(known)) / workers)
    return [*lines, f"{total}, about {judging} on top of that"]


def _predictions(group: Scans) -> int:
    """Scans that are read: all of them once more where they are also fused."""
    return group.files * (2 if group.fused else 1)


def _state(run: Run, training: bool, files: int) -> str:
    if not training and not files:
        return "finished"
    steps = ["train"] if training else []
    steps += [f"judge {files} scans"] if files else []
    error = error_of(run)
    return ", ".join(steps) + (f" (tried before: {error})" if error else "")

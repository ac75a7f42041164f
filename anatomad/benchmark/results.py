"""What is finished, read back from disk: whoever made it, on whatever machine, by the same command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatomad.benchmark.measure import METRICS, VARIANTS, replicate_key
from anatomad.benchmark.runs import Method, Run, error_of, finished_training, read_finished
from anatomad.benchmark.scans import Scans
from anatomad.evaluate.cases import WHOLE_CASE
from anatomad.io.atomic import read_tensors

MEASURE_VERSION = 2  # 2: healthy scans' share under p = 0.01
NOT_YET = "not run yet"


@dataclass(frozen=True, order=True)
class Column:
    """A sequence of a data set; the fused result of a patient counts as a sequence of its own."""

    data_set: str
    sequence: str

    @property
    def fused(self) -> bool:
        """Whether it is the result of all sequences of a patient together."""
        return self.sequence == WHOLE_CASE

    def __str__(self) -> str:
        return f"{self.data_set} {self.sequence}"


@dataclass(frozen=True, eq=False)
class Finished:
    """One run's results.

    Attributes:
        run: Which.
        training: What ``training.json`` says; None when it has not ended.
        columns: Metrics by column and variant.
        replicates: Bootstrap replicates by column, variant and metric.
        healthy: Of each group of healthy scans, by variant, each scan's ``mask_ml``, ``p01_ml`` and ``brain_ml``.
        seconds: By group of scans, how many ``scans`` and the seconds to ``predict`` them, where known.
    """

    run: Run
    training: dict[str, Any] | None
    columns: dict[Column, dict[str, dict[str, Any]]] = field(default_factory=dict)
    replicates: dict[tuple[Column, str, str], NDArray[np.float64]] = field(default_factory=dict)
    healthy: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Missing:
    """What a table lacks, and why."""

    method: str
    seed: int
    what: str
    error: str


def columns_of(scans: Iterable[Scans]) -> list[Column]:
    """Columns of all labelled scans, fused ones last within their data set."""
    result = []
    for group in scans:
        if group.labels is not None:
            result += [Column(group.name, sequence) for sequence in group.sequences]
            result += [Column(group.name, WHOLE_CASE)] if group.fused else []
    return result


def judgement(run: Run, scans: Scans, replicates: int) -> tuple[Path, dict[str, Any]]:
    """File with a run's results on a group of scans, and what these must have been made from."""
    made_from = {
        "version": MEASURE_VERSION,
        "run": run.made_from,
        "scans": scans.digest,
        "labels": scans.labels is not None,
        "replicates": replicates,
    }
    return run.folder / f"{scans.slug}.json", made_from


def finished_judgement(run: Run, scans: Scans, replicates: int) -> dict[str, Any] | None:
    """A run's finished results on a group of scans; None where there are none."""
    path, made_from = judgement(run, scans, replicates)
    return read_finished(path, made_from) if finished_training(run) is not None else None


def seconds_per_scan(seconds: Mapping[str, float]) -> float | None:
    """Seconds that a scan took, from file to map; None where judging was interrupted."""
    return seconds["predict"] / seconds["scans"] if "predict" in seconds else None


def read_results(runs: Sequence[Run], scans: Sequence[Scans], replicates: int) -> tuple[list[Finished], list[Missing]]:
    """Read what is finished of every run, and name what is not.

    Raises:
        DataError: a file of replicates is damaged.
    """
    finished, missing = [], []
    for run in runs:
        result = Finished(run, finished_training(run))
        finished.append(result)
        if result.training is None:
            missing.append(Missing(str(run.method), run.seed, "training", error_of(run) or NOT_YET))
            continue
        for group in scans:
            found = finished_judgement(run, group, replicates)
            if found is None:
                missing.append(Missing(str(run.method), run.seed, group.name, error_of(run) or NOT_YET))
            else:
                _take(result, group, found)
    return finished, missing


def by_method(finished: Iterable[Finished]) -> dict[Method, list[Finished]]:
    """Runs of each method, in order of appearance."""
    groups: dict[Method, list[Finished]] = {}
    for result in finished:
        groups.setdefault(result.run.method, []).append(result)
    return groups


def _take(result: Finished, group: Scans, found: dict[str, Any]) -> None:
    result.seconds[group.name] = found["seconds"]
    if group.labels is None:
        result.healthy[group.name] = found["healthy"]
        return
    rows = read_tensors((result.run.folder / group.slug).with_suffix(".safetensors"))
    for sequence, variants in found["sequences"].items():
        column = Column(group.name, sequence)
        result.columns[column] = variants
        for variant in VARIANTS:
            for metric in METRICS:
                row = rows.get(replicate_key(sequence, variant, metric))
                if row is not None:
                    result.replicates[column, variant, metric] = row

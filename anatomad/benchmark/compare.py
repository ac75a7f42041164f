"""Means over seeds with their spread and interval, and the first method against the others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anatomad.benchmark.permutation import PermutationTest, contributions, sign_flip_test
from anatomad.benchmark.results import Column, Finished
from anatomad.evaluate.bootstrap import Interval, interval

# Metric of the pool that is compared, and the metric of single volumes that the test is made on.
TESTED = {"pooled_ap": "ap", "calibrated_dice_pooled": "calibrated_dice"}

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value over seeds.

    Attributes:
        mean: Over seeds.
        sd: Over seeds, with n - 1; None of a single seed.
        interval: 95 % over bootstrap draws of subjects, of the mean over seeds; None where undefined or of one subject.
        seeds: How many there were.
    """

    mean: float
    sd: float | None
    interval: Interval | None
    seeds: int


@dataclass(frozen=True)
class Comparison:
    """A method against another, in one metric over several columns.

    Attributes:
        metric, variant: What is compared.
        method, other: Who.
        difference: Of the means over columns and seeds; positive where ``method`` is better.
        interval: 95 % of the difference over bootstrap draws of subjects.
        per_volume: Mean over columns of the mean over patients of the difference in single volumes, which is tested.
        test: Permutation test over patients; None where no volume is in both.
        patients: Who takes part in the test.
        columns: How many are compared.
    """

    metric: str
    variant: str
    method: str
    other: str
    difference: float
    interval: Interval | None
    per_volume: float | None
    test: PermutationTest | None
    patients: int
    columns: int


def estimate(runs: Sequence[Finished], columns: Sequence[Column], variant: str, metric: str) -> Estimate | None:
    """Mean over columns of a metric, over those runs that have every column; None where no run has."""
    complete = _complete(runs, columns, variant, metric)
    if not complete or not columns:
        return None
    values = [_mean_over(run, columns, variant, metric) for run in complete]
    rows = _mean_replicates(complete, columns, variant, metric)
    return Estimate(
        mean=float(np.mean(values)),
        sd=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        interval=_interval(rows),
        seeds=len(complete),
    )


def value_of(run: Finished, column: Column, variant: str, metric: str) -> float | None:
    """A run's metric in a column; None where it is missing or undefined."""
    found = run.columns.get(column, {}).get(variant, {}).get(metric)
    return None if found is None else found["value"]


def best_other(
    others: Mapping[str, Sequence[Finished]], columns: Sequence[Column], variant: str, metric: str
) -> str | None:
    """The method of the highest mean over all columns; None where none has every column."""
    means = {
        name: found.mean
        for name, runs in others.items()
        if (found := estimate(runs, columns, variant, metric)) is not None
    }
    return max(means, key=lambda name: means[name]) if means else None


def compare(
    runs: Sequence[Finished], others: Sequence[Finished], columns: Sequence[Column], variant: str, metric: str
) -> Comparison | None:
    """Compare two methods over the runs of each that have every column; None where one has no such run."""
    runs, others = (_complete(each, columns, variant, metric) for each in (runs, others))
    ours, theirs = (estimate(each, columns, variant, metric) for each in (runs, others))
    if ours is None or theirs is None:
        return None
    differences = _paired(runs, others, columns, variant, TESTED[metric])
    shares = contributions(differences)
    names = [str(each[0].run.method) for each in (runs, others)]
    return Comparison(
        metric=metric,
        variant=variant,
        method=names[0],
        other=names[1],
        difference=ours.mean - theirs.mean,
        interval=_interval_between(*(_mean_replicates(each, columns, variant, metric) for each in (runs, others))),
        per_volume=float(shares.sum()) if shares.size else None,
        test=sign_flip_test(shares, _rng(*names, metric, variant)) if shares.size else None,
        patients=shares.size,
        columns=len(columns),
    )


def _complete(runs: Sequence[Finished], columns: Sequence[Column], variant: str, metric: str) -> list[Finished]:
    return [run for run in runs if all(value_of(run, column, variant, metric) is not None for column in columns)]


def _interval_between(ours: Values | None, theirs: Values | None) -> tuple[float, float] | None:
    return None if ours is None or theirs is None else _interval(ours - theirs)


def _mean_over(run: Finished, columns: Sequence[Column], variant: str, metric: str) -> float:
    values = [value_of(run, column, variant, metric) for column in columns]
    return float(np.mean([value for value in values if value is not None]))


def _mean_replicates(runs: Sequence[Finished], columns: Sequence[Column], variant: str, metric: str) -> Values | None:
    """Replicates of the mean over columns and runs; NaN where a column is undefined in a draw."""
    rows = [run.replicates.get((column, variant, metric)) for run in runs for column in columns]
    there = [row for row in rows if row is not None]
    return np.asarray(np.mean(there, axis=0)) if there and len(there) == len(rows) else None


def _interval(rows: Values | None) -> Interval | None:
    """None also where every draw is the same: a single subject says nothing about others."""
    return None if rows is None or np.ptp(rows) == 0 else interval(rows)


def _paired(
    runs: Sequence[Finished], others: Sequence[Finished], columns: Sequence[Column], variant: str, metric: str
) -> Values:
    """Differences (patients, columns) between the means over seeds in single volumes; NaN where either lacks one."""
    cells = [(_by_subject(runs, c, variant, metric), _by_subject(others, c, variant, metric)) for c in columns]
    # A patient belongs to a data set: the same id in another one is another person.
    who = sorted({(c.data_set, s) for c, (ours, _) in zip(columns, cells, strict=True) for s in ours})
    result = np.full((len(who), len(columns)), np.nan)
    for number, (column, (ours, theirs)) in enumerate(zip(columns, cells, strict=True)):
        for subject in ours.keys() & theirs.keys():
            result[who.index((column.data_set, subject)), number] = ours[subject] - theirs[subject]
    return result


def _by_subject(runs: Sequence[Finished], column: Column, variant: str, metric: str) -> dict[str, float]:
    """Mean of a metric of single volumes over a subject's volumes with a lesion, and over the seeds."""
    values: dict[str, list[float]] = {}
    for run in runs:
        for case in run.columns.get(column, {}).get(variant, {}).get("cases", ()):
            if case["ap"] is not None and case[metric] is not None:
                values.setdefault(case["subject"], []).append(case[metric])
    return {subject: float(np.mean(each)) for subject, each in values.items()}


def _rng(*names: str) -> np.random.Generator:
    return np.random.default_rng([*hashlib.sha256("|".join(names).encode()).digest()[:8]])

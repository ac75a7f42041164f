from __future__ import annotations

import numpy as np
import pytest

from anatomad.benchmark.compare import best_other, compare, estimate
from anatomad.benchmark.measure import AS_PREDICTED, POST_PROCESSED
from anatomad.evaluate.bootstrap import interval
from tests.benchmark.made import MS, T1, T2, made_run, patients, seeds

COLUMNS = [T1, T2, MS]


def test_mean_spread_and_interval_over_seeds() -> None:
    runs = seeds("dal", [0.4, 0.5, 0.7])
    found = estimate(runs, COLUMNS, AS_PREDICTED, "pooled_ap")
    assert found is not None
    values = [np.mean([run.columns[c][AS_PREDICTED]["pooled_ap"]["value"] for c in COLUMNS]) for run in runs]
    assert found.mean == pytest.approx(np.mean(values))
    assert found.sd == pytest.approx(np.std([0.4, 0.5, 0.7], ddof=1))
    rows = [run.replicates[column, AS_PREDICTED, "pooled_ap"] for run in runs for column in COLUMNS]
    assert found.interval == pytest.approx(interval(np.mean(rows, axis=0)))
    assert found.interval[0] < found.mean < found.interval[1]
    assert found.seeds == 3


def test_one_seed_has_no_spread_and_one_patient_no_interval() -> None:
    found = estimate([made_run("dal", 0, {T1: {"p0": 0.5}})], [T1], AS_PREDICTED, "pooled_ap")
    assert found is not None
    assert (found.mean, found.sd, found.interval, found.seeds) == (0.5, None, None, 1)


def test_a_mean_is_over_runs_that_have_every_column() -> None:
    runs = [*seeds("dal", [0.4, 0.6]), *seeds("dal", [0.0], [T1])]
    found = estimate(runs, COLUMNS, AS_PREDICTED, "pooled_ap")
    assert found is not None
    assert found.seeds == 2
    one = estimate(runs, [T1], AS_PREDICTED, "pooled_ap")
    assert one is not None
    assert one.seeds == 3
    assert estimate(runs[2:], COLUMNS, AS_PREDICTED, "pooled_ap") is None
    assert estimate([], COLUMNS, AS_PREDICTED, "pooled_ap") is None


def test_the_best_other_has_every_column() -> None:
    others = {
        "vae": seeds("vae", [0.3, 0.5]),
        "dae": seeds("dae", [0.45]),
        "partial": seeds("partial", [0.8], [T1]),
    }
    assert best_other(others, COLUMNS, AS_PREDICTED, "pooled_ap") == "dae"
    assert best_other({"partial": others["partial"]}, COLUMNS, AS_PREDICTED, "pooled_ap") is None


def test_comparison_of_pairs() -> None:
    ours, theirs = seeds("dal", [0.5, 0.6, 0.7]), seeds("vae", [0.4, 0.4])
    found = compare(ours, theirs, COLUMNS, POST_PROCESSED, "calibrated_dice_pooled")
    assert found is not None
    assert found.test is not None
    assert found.difference == pytest.approx(0.2)
    assert found.per_volume == pytest.approx(0.2)
    # Patients differ much from each other and equally in both: pairs leave nothing of that.
    assert found.interval is None or found.interval == pytest.approx((0.2, 0.2))
    assert (found.patients, found.columns) == (10, 3)
    assert found.test.p == 2 / 1024
    back = compare(theirs, ours, COLUMNS, POST_PROCESSED, "calibrated_dice_pooled")
    assert back is not None
    assert back.difference == pytest.approx(-found.difference)
    assert back.test == found.test


def test_a_seed_that_lacks_a_column_takes_no_part() -> None:
    theirs = seeds("vae", [0.4, 0.4])
    whole = compare(seeds("dal", [0.5, 0.5]), theirs, COLUMNS, AS_PREDICTED, "pooled_ap")
    assert whole is not None
    some = [*seeds("dal", [0.5, 0.5]), *seeds("dal", [0.0], [T1])]
    assert compare(some, theirs, COLUMNS, AS_PREDICTED, "pooled_ap") == whole


def test_the_same_id_in_two_data_sets_is_two_patients() -> None:
    ours = [made_run("dal", 0, {T1: {"p0": 0.9}, MS: {"p0": 0.1}})]
    theirs = [made_run("vae", 0, {T1: {"p0": 0.4}, MS: {"p0": 0.5}})]
    found = compare(ours, theirs, [T1, MS], AS_PREDICTED, "pooled_ap")
    assert found is not None
    assert found.patients == 2
    assert found.per_volume == pytest.approx((0.5 - 0.4) / 2)


def test_sequences_of_a_patient_are_flipped_together() -> None:
    values, others = patients(0.6, 6), patients(0.4, 6, seed=1)
    one = compare([made_run("a", 0, {T1: values})], [made_run("b", 0, {T1: others})], [T1], AS_PREDICTED, "pooled_ap")
    both = compare(
        [made_run("a", 0, {T1: values, T2: values})],
        [made_run("b", 0, {T1: others, T2: others})],
        [T1, T2],
        AS_PREDICTED,
        "pooled_ap",
    )
    assert one is not None
    assert both is not None
    assert one.test == both.test


def test_no_comparison_without_a_column() -> None:
    ours, theirs = seeds("dal", [0.5]), seeds("vae", [0.5], [T1])
    assert compare(ours, theirs, COLUMNS, AS_PREDICTED, "pooled_ap") is None

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from anatomad.benchmark.measure import AS_PREDICTED, METRICS, POST_PROCESSED, measure_healthy, measure_patients
from anatomad.errors import DataError
from anatomad.evaluate.protocol import evaluate
from tests.evaluate.world import World, make_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def test_values_are_those_of_the_evaluator(world: World) -> None:
    measured = measure_patients("Data", world.predictions, world.references, 50)
    expected = evaluate(world.predictions, world.references, replicates=0)["sequences"]
    assert measured.sequences.keys() == expected.keys()
    for sequence, variants in measured.sequences.items():
        for metric in METRICS:
            assert variants[AS_PREDICTED][metric] == expected[sequence][metric]
        assert variants[AS_PREDICTED]["cases"] == expected[sequence]["cases"]
        assert variants[POST_PROCESSED]["pooled_ap"] != variants[AS_PREDICTED]["pooled_ap"]


def test_every_sequence_draws_the_same_subjects(world: World) -> None:
    for path in world.predictions.glob("*_0000_*"):
        shutil.copy(path, path.with_name(path.name.replace("_0000_", "_0001_")))
    measured = measure_patients("Data", world.predictions, world.references, 200)
    for variant in (AS_PREDICTED, POST_PROCESSED):
        for metric in METRICS:
            rows = [measured.replicates[f"{sequence}|{variant}|{metric}"] for sequence in ("T1w", "FLAIR")]
            assert np.array_equal(*rows, equal_nan=True)
            assert rows[0].shape == (200,)


def test_replicates_repeat_and_surround_the_value(world: World) -> None:
    first, second = (measure_patients("Data", world.predictions, world.references, 400) for _ in range(2))
    other = measure_patients("Other", world.predictions, world.references, 400)
    for key, row in first.replicates.items():
        assert np.array_equal(row, second.replicates[key], equal_nan=True)
        sequence, variant, metric = key.split("|")
        value = first.sequences[sequence][variant][metric]["value"]
        assert np.nanmin(row) - 1e-3 <= value <= np.nanmax(row) + 1e-3
    assert any(not np.array_equal(row, other.replicates[key], equal_nan=True) for key, row in first.replicates.items())


def test_without_masks_there_are_no_replicates_of_masks(world: World) -> None:
    for path in world.predictions.glob("*_mask*"):
        path.unlink()
    measured = measure_patients("Data", world.predictions, world.references, 20)
    assert {key.split("|")[2] for key in measured.replicates} == {"pooled_ap", "oracle_dice", "auroc", "mean_ap"}


def test_healthy_scans(world: World) -> None:
    speck = np.zeros((14, 12, 10), np.int16)
    speck[6, 6, 4:6] = 1
    for name in ("h1", "h2"):
        world.predict(name, speck, 5.0, folder="healthy")
    found = measure_healthy(world.root / "healthy")
    assert [scan["id"] for scan in found[AS_PREDICTED]] == ["h1", "h2"]
    for scan in found[AS_PREDICTED]:
        assert scan["brain_ml"] == pytest.approx(12 * 10 * 8 * 0.008)
        assert 0 < scan["mask_ml"] < 0.1 * scan["brain_ml"]
        assert scan["p01_ml"] == pytest.approx(2 * 0.008)
    assert all(scan["mask_ml"] == 0 for scan in found[POST_PROCESSED])
    (world.root / "healthy" / "h1_mask.nii.gz").unlink()
    with pytest.raises(DataError, match=r"h1_anomaly.nii.gz: no mask beside it"):
        measure_healthy(world.root / "healthy")

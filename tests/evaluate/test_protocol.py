from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from anatomad.evaluate.cases import find, load
from anatomad.evaluate.metrics import rank
from anatomad.evaluate.protocol import PROTOCOLS, evaluate
from tests.evaluate.world import SHAPE, World, make_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def test_values_are_those_of_the_volumes(world: World) -> None:
    metrics = evaluate(world.predictions, world.references, replicates=0)
    volumes = [load(p) for p in find(world.predictions, world.references).predictions if p.sequence == "FLAIR"]
    diseased = [volume for volume in volumes if not volume.healthy]
    flair = metrics["sequences"]["FLAIR"]
    pooled = rank([volume.scores for volume in volumes])
    assert flair["pooled_ap"] == {"value": pooled.average_precision, "interval": None}
    assert flair["auroc"]["value"] == pooled.auroc
    assert flair["oracle_dice"]["value"] == pooled.oracle_dice
    assert flair["oracle_dice"]["threshold"] == pytest.approx(pooled.oracle_threshold)
    assert flair["mean_ap"]["value"] == pytest.approx(np.mean([v.ranking.average_precision for v in diseased]))
    assert flair["calibrated_dice"]["value"] == pytest.approx(np.mean([v.overlap.dice for v in diseased]))
    assert flair["lesion_f1"]["lesions"] == 2
    assert (flair["volumes"], flair["volumes_with_lesion"], flair["healthy_volumes"]) == (3, 2, 1)
    assert flair["healthy_false_positive_ml"]["value"] == pytest.approx(volumes[2].mask_ml)
    assert flair["subject_auroc"]["value"] == 1
    assert flair["prevalence"] == pytest.approx(9 / (3 * 12 * 10 * 8))


def test_every_metric_has_its_protocol(world: World) -> None:
    metrics = evaluate(world.predictions, world.references, replicates=0)
    named = {key for key, value in metrics["sequences"]["T1w"].items() if isinstance(value, dict)}
    assert named - {"calibrated_dice_pooled"} <= PROTOCOLS.keys()
    assert metrics["protocols"] == PROTOCOLS
    assert "calibrated_dice_pooled" in PROTOCOLS["calibrated_dice"]


def test_intervals_hold_the_value_and_follow_the_seed(world: World) -> None:
    first, again, other = (evaluate(world.predictions, world.references, replicates=200, seed=s) for s in (0, 0, 1))
    assert first == again
    assert first != other
    for sequence in first["sequences"].values():
        for key in ("pooled_ap", "mean_ap", "calibrated_dice", "calibrated_dice_pooled", "lesion_f1"):
            metric = sequence[key]
            if metric["interval"] is not None:
                low, high = metric["interval"]
                assert low <= metric["value"] <= high, key
    assert first["sequences"]["FLAIR"]["mean_ap"]["interval"] is not None
    assert first["bootstrap"] == {"replicates": 200, "seed": 0, "level": 0.95}


def test_one_subject_has_no_interval(tmp_path: Path) -> None:
    world = World(tmp_path)
    for visit in ("ses-1", "ses-2"):
        world.predict(f"sub-01_{visit}", world.label(f"sub-01_{visit}", 4))
    (row,) = evaluate(world.predictions, world.references)["sequences"].values()
    assert (row["volumes"], row["subjects"]) == (2, 1)
    assert row["pooled_ap"]["interval"] is None


def test_healthy_scans_of_the_same_sequence_are_preferred(world: World) -> None:
    (world.references / "C.nii.gz").unlink()
    for score in (0, 9):
        world.predict(f"H{score}_0001", np.zeros(SHAPE, np.int16), score=score, folder="healthy")
    metrics = evaluate(world.predictions, world.references, world.root / "healthy", replicates=0)
    flair, t1 = metrics["sequences"]["FLAIR"], metrics["sequences"]["T1w"]
    assert flair["subject_auroc"] == {"value": 0.5, "interval": None, "against": "healthy scans of this sequence"}
    assert t1["subject_auroc"] == {"value": 0.5, "interval": None, "against": "all healthy scans"}
    assert (flair["healthy_volumes"], t1["healthy_volumes"]) == (2, 0)
    assert t1["healthy_false_positive_ml"]["value"] is None
    assert flair["volumes"] == 2, "scans without a label do not enter the pool"
    assert metrics["predictions_without_label"] == ["C_0000", "C_0001"]


def test_healthy_scans_do_not_change_the_lesion_metrics(world: World) -> None:
    world.predict("H_0001", np.zeros(SHAPE, np.int16), folder="healthy")
    without = evaluate(world.predictions, world.references)["sequences"]["FLAIR"]
    with_healthy = evaluate(world.predictions, world.references, world.root / "healthy")["sequences"]["FLAIR"]
    for key in ("pooled_ap", "mean_ap", "auroc", "oracle_dice", "calibrated_dice", "lesion_f1", "cases"):
        assert without[key] == with_healthy[key]


def test_a_missing_mask_leaves_mask_metrics_out(world: World) -> None:
    (world.predictions / "B_0001_mask.nii.gz").unlink()
    metrics = evaluate(world.predictions, world.references, replicates=10)["sequences"]
    assert metrics["FLAIR"]["calibrated_dice"] == {"value": None, "interval": None}
    assert metrics["FLAIR"]["pooled_ap"]["value"] is not None
    assert metrics["T1w"]["calibrated_dice"]["value"] is not None


def test_without_scores_there_is_no_subject_auroc(world: World) -> None:
    for path in world.predictions.glob("*.json"):
        path.unlink()
    metrics = evaluate(world.predictions, world.references, replicates=10)["sequences"]
    assert metrics["T1w"]["subject_auroc"]["value"] is None


def test_result_is_plain_json(world: World) -> None:
    world.label("A", 14)  # reaches out of the brain: voxels below every threshold
    metrics = evaluate(world.predictions, world.references)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert metrics["sequences"]["T1w"]["lesion_voxels_outside_brain"] > 0

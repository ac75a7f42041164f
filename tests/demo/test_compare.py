from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from rich.console import Console

from anatomad.demo.baseline import RULES, SMOOTHING_MM, intensity_scores, threshold_intensity
from anatomad.demo.compare import as_json, as_table, compare
from anatomad.demo.picture import draw_picture
from anatomad.evaluate.metrics import rank_voxels
from anatomad.evaluate.protocol import evaluate
from anatomad.io.atomic import write_json, write_new_image

SHAPE = (24, 30, 20)
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
SEQUENCES = ("dark lesions", "bright lesions")


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Two subjects, one with a lesion; a perfect anomaly map in the first sequence, noise in the second."""
    rng = np.random.default_rng(0)
    brain = np.zeros(SHAPE, bool)
    brain[3:-3, 3:-3, 3:-3] = True
    data, out = tmp_path / "data", tmp_path / "out"
    for subject in ("ill", "well"):
        lesion = np.zeros(SHAPE, bool)
        lesion[8:13, 8:13, 8:13] = subject == "ill"
        write_new_image(data / "labelsTs" / f"{subject}.nii.gz", lesion.astype(np.uint8), AFFINE, dtype=np.uint8)
        for channel, sign in enumerate((-1, 1)):
            case = f"{subject}_{channel:04d}"
            scan = np.where(brain, 100 + rng.normal(0, 10, SHAPE) + 15 * sign * lesion, 0)
            anomaly = brain * np.where(channel, rng.random(SHAPE), 1.0 + lesion)
            write_new_image(data / "imagesTs" / f"{case}.nii.gz", scan, AFFINE)
            write_new_image(out / f"{case}_anomaly.nii.gz", anomaly, AFFINE)
            write_new_image(out / f"{case}_phi.nii.gz", scan, AFFINE)
            write_new_image(out / f"{case}_anatomy.nii.gz", brain.astype(np.uint8), AFFINE, dtype=np.uint8)
    write_json(data / "dataset.json", {"channel_names": {"0": SEQUENCES[0], "1": SEQUENCES[1]}})
    return tmp_path


def test_rules_say_what_they_are_called() -> None:
    rng = np.random.default_rng(1)
    brain = np.zeros((12, 12, 12), bool)
    brain[2:-2, 2:-2, 2:-2] = True
    image = np.where(brain, rng.normal(50, 5, brain.shape), 0).astype(np.float32)
    bright, dark = np.zeros_like(brain), np.zeros_like(brain)
    bright[4, 4, 4:8], dark[7, 7, 4:8] = True, True
    image[bright], image[dark] = 90, 10
    scores = dict(intensity_scores(image, brain, (1.0, 1.0, 1.0)))
    assert list(scores) == [(rule, sd) for sd in SMOOTHING_MM for rule in RULES]
    for rule, lesion in (("bright", bright), ("equalised", bright), ("dark", dark), ("two-sided", bright | dark)):
        assert rank_voxels(scores[rule, 0.0][brain], lesion[brain]).average_precision == 1


def test_smoothing_takes_nothing_from_outside_the_brain() -> None:
    brain = np.zeros((12, 12, 12), bool)
    brain[2:-2, 2:-2, 2:-2] = True
    image = np.where(brain, np.indices(brain.shape)[0], -1000).astype(np.float32)
    scores = dict(intensity_scores(image, brain, (1.0, 1.0, 1.0)))
    plain, smooth = scores["bright", 0.0][brain], scores["bright", 4.0][brain]
    assert smooth.min() >= plain.min()
    assert smooth.max() <= plain.max()


def test_best_rule_is_taken_for_each_sequence(world: Path) -> None:
    found = threshold_intensity(world / "data" / "imagesTs", world / "out", world / "data" / "labelsTs")
    assert set(found) == set(SEQUENCES)
    assert found[SEQUENCES[0]].best_precision()[0][0] in ("dark", "two-sided")
    assert found[SEQUENCES[1]].best_dice()[0][0] in ("bright", "two-sided", "equalised")
    assert all(result.best_precision()[1] == max(result.precision.values()) for result in found.values())


def test_voxels_to_ignore_are_no_lesion(world: Path) -> None:
    data, rule = world / "data", ("bright", 4.0)
    places = data / "imagesTs", world / "out", data / "labelsTs"
    before = threshold_intensity(*places)[SEQUENCES[1]].precision[rule]
    label = np.zeros(SHAPE, np.uint8)
    label[8:13, 8:13, 8:13], label[8:13, 18:26, 8:13] = 1, 2
    write_new_image(data / "labelsTs" / "ill.nii.gz", label, AFFINE, dtype=np.uint8)
    description = json.loads((data / "dataset.json").read_text()) | {"labels": {"lesion": 1, "ignore": 2}}
    write_json(data / "dataset.json", description)
    assert threshold_intensity(*places)[SEQUENCES[1]].precision[rule] == pytest.approx(before, abs=0.03)


def test_verdicts_name_the_winner(world: Path) -> None:
    data, out = world / "data", world / "out"
    metrics = evaluate(out, data / "labelsTs", replicates=0)
    verdicts = compare(metrics, data / "imagesTs", out, data / "labelsTs")
    won = {verdict["sequence"]: verdict["won"] for verdict in as_json(verdicts)}
    assert won == {SEQUENCES[0]: True, SEQUENCES[1]: False}
    assert verdicts[0].precision == 1
    console = Console(width=120, record=True)
    console.print(as_table(verdicts, {SEQUENCES[0]}))
    text = console.export_text()
    assert all(word in text for word in (*SEQUENCES, "never", "yes", "anatomad", "intensity", "1.000"))


def test_picture_has_a_row_per_sequence_and_colours(world: Path) -> None:
    path = world / "demo.png"
    draw_picture(path, ["ill", "ill"], SEQUENCES, world / "data", world / "out")
    with Picture.open(path) as picture:
        assert picture.width > 2 * picture.height
        pixels = np.asarray(picture.convert("RGB"), dtype=int)
    assert pixels.max() > 200
    assert (np.ptp(pixels, axis=2) > 100).any()  # the map has colours

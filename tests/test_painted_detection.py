"""Lesions painted into held-out scans: the benchmark end to end on generated brains, and its contrasts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from anatomad.planner.splits import make_splits
from anatomad.predict.trials import likeness, whole_scan
from anatomad.preprocess.store import load_case
from anatomad.synth.disease import DISEASES
from anatomad.synth.draws import Draws
from benchmarks import painted_detection
from benchmarks.painted_detection import CONTRASTS
from tests.predict.world import make_model_folder, small_plan, write_scan
from tests.train.fold import NAME, write_case


def test_contrasts_are_what_they_are_called(tmp_path: Path) -> None:
    write_case(tmp_path, "a", small_plan())
    brain = whole_scan(load_case(tmp_path, "a"), torch.device("cpu"))
    for seed in range(4):
        like = {name: likeness(contrast(brain, Draws(seed)), brain) for name, contrast in CONTRASTS.items()}
        assert like["own"] == pytest.approx(1)
        assert like["falling"] < -0.7
        assert like["another order"] < 0.5


def test_held_out_scans_are_judged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = tmp_path / NAME / "imagesTr"
    scans.mkdir(parents=True)
    for number, name in enumerate("abc"):
        write_scan(scans / f"{name}_0000.nii.gz", seed=number)
    (scans.parent / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "T1w"}, "file_ending": ".nii.gz", "numTraining": 3})
    )
    model, work = make_model_folder(tmp_path / "model", small_plan(box=(24, 24, 24))), tmp_path / "work"
    monkeypatch.setattr(painted_detection, "RESULTS", tmp_path / "result.json")
    command = ["--data", str(tmp_path), "--model", str(model), "--work", str(work)]
    assert painted_detection.main(command) == 0
    found = json.loads((tmp_path / "result.json").read_bytes())
    (held_out,) = make_splits(["a", "b", "c"])[0].val
    judged = sorted(work.glob(f"*/{held_out}_*.json"))
    assert [path.stem.partition("_")[2] for path in judged] == sorted(d.__name__ for d in DISEASES)
    assert found["people"] == 1
    assert 0 < found["mean_ap"]["whole score"] < 1
    assert set(found["whole_score_gains"]) == set(found["mean_ap"]) - {"whole score"}
    assert set(found["ap_by_contrast"]["residual alone"]) == set(CONTRASTS)
    monkeypatch.setattr(painted_detection, "_judged", None)  # what is done is not done again
    assert painted_detection.main(command) == 0
    assert json.loads((tmp_path / "result.json").read_bytes()) == found

"""Every method goes through the same commands, from training to measured results."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from anatomad.baselines.peer import CONTRASTS
from anatomad.baselines.registry import METHODS
from anatomad.cli import evaluate, predict, train
from anatomad.errors import ModelError
from anatomad.predict.folder import load_model
from anatomad.train import loop
from tests.factories import write_nifti
from tests.predict.world import AFFINE, LESION, SHAPE, small_plan, write_scan
from tests.train.fold import write_dataset

PEERS = [name for name in METHODS if name != "dal" and not name.endswith(CONTRASTS)] + ["vae+contrasts"]
DIFFUSION = ("anoddpm", "pddpm", "cddpm")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANATOMAD_ROOT", "ANATOMAD_WORK"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("name", "dimension"),
    [(name, dimension) for name in PEERS for dimension in (2, 3) if dimension == 2 or not name.startswith("dal-")],
)
def test_from_training_to_results(
    name: str, dimension: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in DIFFUSION:
        pytest.importorskip("monai.networks.nets", exc_type=ImportError)
        pytest.importorskip("einops")
    side = {"patch": (24, 24, 1)} if dimension == 2 else {}
    folder = write_dataset(tmp_path, small_plan(dimension=dimension, **side))
    root, target = ["--root", str(tmp_path)], folder / f"fold0_{name}"
    assert train.main(["1", "0", "--method", name, "--device", "cpu", *root]) == 0, capsys.readouterr().err
    assert json.loads((target / "model.json").read_text())["method"] == name

    scan, out = write_scan(tmp_path / "in" / "one_0000.nii.gz", lesion=1.5), tmp_path / "out"
    command = ["-i", str(scan), "-o", str(out), "-d", "1", "--method", name, "--device", "cpu", *root]
    assert predict.main(command) == 0, capsys.readouterr().err
    written = {path.name for path in out.iterdir()}
    optional = {"one_phi.nii.gz": METHODS[name].writes_phi, "one_anatomy.nii.gz": METHODS[name].writes_anatomy}
    place = "one_anatomy.nii.gz" if METHODS[name].writes_anatomy else "one_brain.nii.gz"
    there = {"one.json", "one_anomaly.nii.gz", "one_mask.nii.gz", place}
    assert written == there | {file for file, wanted in optional.items() if wanted}
    anomaly = nib.load(out / "one_anomaly.nii.gz").get_fdata()
    inside = nib.load(scan).get_fdata() > 0
    assert np.isfinite(anomaly).all()
    assert anomaly[inside].max() > 0
    assert not anomaly[~inside].any()
    assert np.array_equal(nib.load(out / place).get_fdata() > 0, inside)

    monkeypatch.setattr(predict, "say", lambda *_: None)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert predict.main(command) == 0
    assert before == {path: path.stat().st_mtime_ns for path in out.iterdir()}

    label = np.zeros(SHAPE, np.uint8)
    label[LESION] = 1
    write_nifti(tmp_path / "labels" / "one.nii.gz", label, AFFINE)
    measured = tmp_path / "metrics.json"
    assert evaluate.main(["-p", str(out), "-r", str(tmp_path / "labels"), "-o", str(measured)]) == 0
    (result,) = json.loads(measured.read_text())["sequences"].values()
    assert result["prevalence"] == pytest.approx(label.sum() / inside.sum(), rel=0.05)


def test_a_model_is_read_by_the_method_that_made_it_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop.picture, "draw", lambda *_: None)
    folder = write_dataset(tmp_path, small_plan())
    assert train.main(["1", "0", "--method", "intensity-dark", "--root", str(tmp_path)]) == 0
    assert load_model(folder / "fold0_intensity-dark", methods=METHODS.values()).method.name == "intensity-dark"
    with pytest.raises(ModelError, match=r"model.json: method 'intensity-dark' is not known here"):
        load_model(folder / "fold0_intensity-dark", torch.device("cpu"))
    assert train.main(["1", "0", "--method", "magic", "--root", str(tmp_path)]) == 2
    assert "no method 'magic'; there are dal, intensity-bright" in capsys.readouterr().err

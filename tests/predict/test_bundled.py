"""The model that comes with the package: whole, small, told about, and of use on scans it never saw."""

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from anatomad.cli.predict import BUNDLED, main
from anatomad.predict.folder import load_model

PATIENTS = Path(os.environ.get("ANATOMAD_TEST_DATA", ""), "Dataset101_Glioma")


def test_it_is_whole_small_and_told_about() -> None:
    model = load_model(BUNDLED)
    assert model.method.name == "dal"
    assert sum(path.stat().st_size for path in BUNDLED.iterdir()) < 16 << 20
    card = (BUNDLED / "README.md").read_text()
    for told in ("## Data", "## Training", "## Intended use", "## Limits", "## Measured", model.digest[:12]):
        assert told in card


@pytest.mark.slow
@pytest.mark.skipif(not (PATIENTS / "imagesTs").is_dir(), reason="ANATOMAD_TEST_DATA names no patients")
@pytest.mark.parametrize("channel", ["0001", "0003"])
def test_it_finds_a_glioma_in_sequences_it_never_saw(channel: str, tmp_path: Path) -> None:
    scan = sorted((PATIENTS / "imagesTs").glob(f"*_{channel}.nii.gz"))[0]
    assert main(["-i", str(scan), "-o", str(tmp_path), "--device", "cpu"]) == 0
    case = scan.name.removesuffix(f"_{channel}.nii.gz")
    anomaly, anatomy, label = (
        np.asanyarray(nib.load(path).dataobj)
        for path in (
            tmp_path / f"{case}_anomaly.nii.gz",
            tmp_path / f"{case}_anatomy.nii.gz",
            PATIENTS / "labelsTs" / f"{case}.nii.gz",
        )
    )
    brain = anatomy > 0
    lesion = label[brain] > 0
    assert average_precision_score(lesion, anomaly[brain]) > 5 * lesion.mean()
    assert json.loads((tmp_path / f"{case}.json").read_text())["channels"]

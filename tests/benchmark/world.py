"""Generated healthy brains with a plan that trains in seconds, patients in two sequences with labels, and controls."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from anatomad.io.atomic import write_json
from anatomad.planner.dataset import read_dataset
from anatomad.preprocess.store import preprocess_case
from tests.factories import write_nifti
from tests.predict.world import AFFINE, LESION, SHAPE, small_plan, write_scan
from tests.train.fold import NAME, plan_file

PATIENTS, CONTROLS = "Dataset101_Patients", "Dataset002_Controls"
FOLDS = [
    {"train": ["h2", "h3", "h4"], "val": ["h0", "h1"]},
    {"train": ["h0", "h1", "h3", "h4"], "val": ["h2"]},
]
_LEVELS = ((0.25, 0.65, 1.0), (1.0, 0.7, 0.4))


def make_world(root: Path, patients: int = 3) -> Path:
    """Raw data sets in ROOT, the first one planned and preprocessed in ROOT/anatomad."""
    _describe(root / NAME, ["T1w"])
    for number in range(5):
        write_scan(root / NAME / "imagesTr" / f"h{number}_0000.nii.gz", seed=number)
    _describe(root / PATIENTS, ["T1w", "T2w"])
    for number in range(patients):
        write_patient(root, f"p{number}", number)
    _describe(root / CONTROLS, ["T1w"])
    write_scan(root / CONTROLS / "imagesTs" / "c0_0000.nii.gz", seed=40)
    folder = root / "anatomad" / NAME
    plans = (small_plan(dimension=2, configuration="2d", patch=(16, 16, 1)), small_plan())
    write_json(folder / "plan.json", plan_file(*plans).model_dump(mode="json"))
    write_json(folder / "splits.json", FOLDS)
    (folder / "store").mkdir()
    for case in read_dataset(root / NAME).training_cases():
        preprocess_case(case, plans[0], folder / "store")
    return root


def write_patient(root: Path, name: str, seed: int, lesion: float = 0.6) -> None:
    """A patient in both sequences, with the label."""
    for channel, levels in enumerate(_LEVELS):
        path = root / PATIENTS / "imagesTs" / f"{name}_{channel:04d}.nii.gz"
        write_scan(path, levels=levels, lesion=lesion, seed=20 + 10 * channel + seed)
    label = np.zeros(SHAPE, "u1")
    label[LESION] = lesion > 0
    path = root / PATIENTS / "labelsTs" / f"{name}.nii.gz"
    write_nifti(path, label, AFFINE, sform_code=4, qform_code=1, xyzt_units=2)


def _describe(folder: Path, channels: list[str]) -> None:
    for name in ("imagesTr", "imagesTs", "labelsTs"):
        (folder / name).mkdir(parents=True)
    description = {"channel_names": dict(enumerate(channels)), "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(description))

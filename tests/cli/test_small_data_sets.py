"""From plan to metrics, fifty steps each: data sets that are thick, fine, mixed or tiny."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from anatomad.cli import evaluate, plan, predict, train
from anatomad.planner.plan import read_plan
from tests.factories import make_affine, write_nifti
from tests.planner.test_dataset import make_dataset

RADII_MM = np.array([62.0, 74.0, 60.0])
FOLD_MM = 22.0
LESION_MM = np.array([20.0, 10.0, 5.0])

Triple = tuple[float, float, float]


def brain(spacing: Triple, seed: int, lesion: float) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Nested shells of CSF, white and grey matter, folded as nobody else's, and a ball of a lesion with its label."""
    shape = np.ceil((2 * RADII_MM + 12) / spacing).astype(int)
    place = np.indices(tuple(shape)) - (shape[:, None, None, None] - 1) / 2
    mm = place * np.array(spacing)[:, None, None, None]
    rng = np.random.default_rng(seed)
    radius = np.sqrt(((mm / (RADII_MM * rng.uniform(0.95, 1.05, 3))[:, None, None, None]) ** 2).sum(0))
    folds = rng.standard_normal((7, 8, 7))
    radius += 0.1 * map_coordinates(folds, mm / FOLD_MM + (np.array(folds.shape)[:, None, None, None] - 1) / 2, order=1)
    image = np.select([radius < 0.2, radius < 0.65, radius < 0.9, radius < 1], [250, 1000, 650, 250], 0).astype(float)
    sick = ((mm - LESION_MM[:, None, None, None]) ** 2).sum(0) < 14.0**2
    image += lesion * sick
    image *= 1 + 0.03 * rng.standard_normal(tuple(shape))
    return image.astype(np.int16), sick.astype(np.int16)


def write_data_set(root: Path, spacings: list[Triple]) -> Path:
    folder = make_dataset(root, channel_names={"0": "T1w"})
    for number, spacing in enumerate(spacings):
        write_nifti(
            folder / "imagesTr" / f"s{number}_0000.nii.gz",
            brain(spacing, number, lesion=0)[0],
            make_affine(spacing=spacing),
            sform_code=1,
            xyzt_units=2,
        )
    image, label = brain(spacings[0], 77, lesion=700)
    for path, data in (("imagesTs/sick_0000.nii.gz", image), ("labelsTs/sick.nii.gz", label)):
        write_nifti(folder / path, data, make_affine(spacing=spacings[0]), sform_code=1, xyzt_units=2)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spacings", "configuration", "working", "name"),
    [
        pytest.param([(0.5, 0.5, 6.0)] * 2, "3d", (2.0, 2.0, 6.0), "fold0", id="thick slices"),
        pytest.param([(2.0, 2.0, 2.0)] * 2, "3d", (2.0, 2.0, 2.0), "fold0_3d", id="2 mm in 3D"),
        pytest.param([(1.5, 1.5, 6.0), (3.0, 3.0, 3.0), (4.0, 2.0, 4.0)], "2d", (3.0, 3.0, 3.0), "fold0", id="mixed"),
        pytest.param([(4.0, 4.0, 4.0)], "2d", (4.0, 4.0, 4.0), "fold0", id="one subject"),
        pytest.param([(4.0, 4.0, 4.0)] * 5, "3d", (4.0, 4.0, 4.0), "fold0_3d", id="five subjects"),
    ],
)
def test_plans_trains_predicts_and_evaluates(
    tmp_path: Path, spacings: list[Triple], configuration: str, working: Triple, name: str
) -> None:
    raw, out = write_data_set(tmp_path / "raw", spacings), tmp_path / "out"
    common = [str(raw), "--work", str(tmp_path / "work")]
    small = {"features": "[4, 4, 4, 4]"} if working[0] < 3 else {"features": "[4, 4, 4]"}
    small |= {"stages.anatomy": "20", "stages.restoration": "20", "stages.recoupling": "10", "batch_size": "1"}
    settings = [
        word for key, value in small.items() for word in ("--set", f"configurations.{configuration}.{key}={value}")
    ]
    assert plan.main(["-d", *common, "-j", "2", "--memory", "cpu", *settings]) == 0
    folder = tmp_path / "work" / raw.name
    planned = read_plan(folder / "plan.json")
    assert planned.spacing_mm == working
    assert planned.folds == len(spacings)

    fold = [common[0], "fold0", *common[1:], "-c", configuration, "--device", "cpu"]
    assert train.main(fold) == 0
    steps = json.loads((folder / name / "model.json").read_text())["steps"]
    assert sum(steps.values()) == 50
    scans = ["-i", str(raw), "-o", str(out), "-d", *common, "-c", configuration, "--device", "cpu"]
    assert predict.main(scans) == 0
    assert evaluate.main(["-p", str(out), "-r", str(raw / "labelsTs"), "--bootstrap", "0"]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert [entry["pooled_ap"]["value"] > 0 for entry in metrics["sequences"].values()] == [True]

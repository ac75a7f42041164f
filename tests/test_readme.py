"""The README's commands, as typed and in their order, on a miniature of the folders that it speaks of."""

from __future__ import annotations

import importlib
import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from tests.factories import write_nifti
from tests.predict.world import AFFINE, LESION, SHAPE, write_scan
from tests.test_docs import blocks

PATIENTS = ("p1", "p2")


def typed() -> list[list[str]]:
    """Lines of the README's bash blocks that call anatomad, in order; the demo has a test of its own."""
    lines = [line for document, text in blocks("bash") if document == "README.md" for line in text.splitlines()]
    found = [shlex.split(line) for line in lines if line.startswith("anatomad_")]
    return [words for words in found if words[0] != "anatomad_demo"]


def write_miniature(root: Path) -> None:
    """Four healthy brains, two patients in two sequences with labels, and two healthy brains to test on."""
    healthy, patients = root / "Dataset001_HealthyT1", root / "Dataset101_Glioma"
    for name in ("imagesTr", "imagesTs", "labelsTs"):
        (patients / name).mkdir(parents=True)
    (healthy / "imagesTr").mkdir(parents=True)
    for folder, channels in ((healthy, ["T1w"]), (patients, ["T1w", "T2w"])):
        description = {"channel_names": dict(enumerate(channels)), "file_ending": ".nii.gz"}
        (folder / "dataset.json").write_text(json.dumps(description))
    for number in range(4):
        write_scan(healthy / "imagesTr" / f"h{number}_0000.nii.gz", seed=number)
    for folder, names in (("scans", PATIENTS), ("healthy", ("h8", "h9"))):
        (root / folder).mkdir()
        for number, name in enumerate(names):
            lesion = 0.6 if folder == "scans" else 0.0
            write_scan(root / folder / f"{name}_0000.nii.gz", lesion=lesion, seed=20 + number)
    label = np.zeros(SHAPE, "u1")
    label[LESION] = 1
    for number, name in enumerate(PATIENTS):
        write_nifti(patients / "labelsTs" / f"{name}.nii.gz", label, AFFINE, sform_code=4, qform_code=1, xyzt_units=2)
        for channel, levels in enumerate(((0.25, 0.65, 1.0), (1.0, 0.7, 0.4))):
            path = patients / "imagesTs" / f"{name}_{channel:04d}.nii.gz"
            write_scan(path, levels=levels, lesion=0.6, seed=10 * channel + number)


@pytest.mark.slow
def test_commands_do_what_the_readme_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_miniature(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("ANATOMAD_ROOT", "ANATOMAD_WORK"):
        monkeypatch.delenv(name, raising=False)
    # seconds, in place of the README's minutes
    monkeypatch.setattr("anatomad.train.schedule.parse_time", lambda _: 8.0)
    lines = typed()
    assert {words[0] for words in lines} == {f"anatomad_{c}" for c in ("plan", "train", "predict", "evaluate")}
    for command, *arguments in lines:
        module = importlib.import_module(f"anatomad.cli.{command.removeprefix('anatomad_')}")
        assert module.main(arguments) == 0, " ".join([command, *arguments])
    for name in PATIENTS:
        for kind in ("anomaly", "mask", "anatomy"):
            assert (tmp_path / "out" / f"{name}_{kind}.nii.gz").is_file()
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["sequences"]

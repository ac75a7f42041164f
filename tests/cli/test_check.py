import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from anatomad.cli.plan import main
from tests.planner import brains
from tests.planner.test_dataset import make_dataset


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = make_dataset(tmp_path / "raw")
    brains.write(folder / "imagesTr" / "a_0000.nii.gz", brains.brain(person=1))
    return folder


def rows(out: str) -> dict[str, str]:
    found = {}
    for line in out.splitlines():
        cells = [cell.strip() for cell in line.split("│")]
        if len(cells) == 5 and cells[1]:
            found[cells[1]] = cells[2]
    return found


def test_verdicts(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (raw / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T1w"}}))
    arguments = ["-d", str(raw), "--work", str(tmp_path), "--check", "-j", "1"]
    assert main(arguments) == 0
    assert rows(capsys.readouterr().out) == {"a_0000.nii.gz": "ok"}
    assert not (tmp_path / "Dataset001_Demo" / "plan.json").exists()

    brains.write(raw / "imagesTr" / "b_0000.nii.gz", brains.with_neck(brains.brain(person=2)))
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert rows(shown.out) == {"a_0000.nii.gz": "ok", "b_0000.nii.gz": "look"}
    assert "neck" in shown.out

    brains.write(raw / "imagesTr" / "c_0000.nii.gz", brains.brain(person=3)[:, :, ::-1])
    constant = nib.Nifti1Image(np.full((9, 9, 9), 4, np.int16), np.eye(4))
    nib.save(constant, raw / "imagesTr" / "d_0000.nii.gz")
    (raw / "imagesTr" / "e_0000.nii.gz").write_bytes((raw / "imagesTr" / "a_0000.nii.gz").read_bytes())
    assert main(arguments) == 3
    shown = capsys.readouterr()
    assert rows(shown.out) == {
        "a_0000.nii.gz": "mend",
        "b_0000.nii.gz": "look",
        "c_0000.nii.gz": "mend",
        "d": "mend",
        "e_0000.nii.gz": "mend",
    }
    assert "the same voxels as a" in shown.out
    assert "every voxel has the value 4" in " ".join(shown.out.split()).replace(" │ │ │ ", " ")
    assert "files: 5; ok: 0, look: 1, mend: 4" in shown.out


def test_without_scans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = make_dataset(tmp_path / "raw")
    assert main(["-d", str(empty), "--work", str(tmp_path), "--check"]) == 3
    assert "no scan in imagesTr or imagesTs" in capsys.readouterr().err

"""Lesion labels are for measuring: training, calibration and prediction give the same bits without them."""

import ast
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from anatomad.cli.predict import main as predict
from anatomad.cli.train import main as train
from anatomad.planner.plan import Stages
from anatomad.train import picture
from tests.factories import write_nifti
from tests.predict.world import AFFINE, LESION, SHAPE, small_plan, write_scan
from tests.train.fold import NAME, write_dataset

ROOT = Path(__file__).parents[2]
BLIND = ("train", "predict", "preprocess", "synth", "models")
OUTPUTS = ("weights.safetensors", "calibration.json", "model.json")

_opened: list[str] = []
_listening = [False]


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if _listening[0] and event in ("open", "os.listdir", "os.scandir"):
        _opened.append(str(arguments[0]))


sys.addaudithook(_hear)  # hooks stay for the life of the process; this one listens only when told to


@pytest.fixture
def opened() -> Iterator[list[str]]:
    _opened.clear()
    _listening[0] = True
    yield _opened
    _listening[0] = False


def make_root(root: Path, labels: bool) -> None:
    write_dataset(root, small_plan(stages=Stages(anatomy=2, restoration=2, recoupling=2)))
    write_scan(root / NAME / "imagesTs" / "x_0000.nii.gz", lesion=1.0)
    if labels:
        label = np.zeros(SHAPE, "u1")
        label[LESION] = 1
        for folder, case_id in (("labelsTs", "x"), ("labelsTs", "c"), ("labelsTr", "a"), ("labelsTr", "c")):
            write_nifti(root / NAME / folder / f"{case_id}.nii.gz", label, AFFINE)


def outputs(root: Path) -> dict[str, str]:
    arguments = ["--root", str(root), "--device", "cpu"]
    assert train(["1", "0", *arguments]) == 0
    assert predict(["-i", str(root / NAME), "-o", str(root / "out"), "-d", "1", *arguments]) == 0
    fold = root / "anatomad" / NAME / "fold0"
    files = [*(fold / name for name in OUTPUTS), *sorted((root / "out").iterdir())]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_labels_change_no_bit_and_are_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    monkeypatch.setattr(picture, "draw", lambda *_: None)
    for name in ("ANATOMAD_ROOT", "ANATOMAD_WORK"):
        monkeypatch.delenv(name, raising=False)
    make_root(tmp_path / "with", labels=True)
    make_root(tmp_path / "without", labels=False)
    opened.clear()
    first, second = outputs(tmp_path / "with"), outputs(tmp_path / "without")
    assert len(first) == len(OUTPUTS) + 5
    assert first == second
    assert any("imagesTs" in path for path in opened)  # the hook hears
    assert not [path for path in opened if "labelsT" in path]


@pytest.mark.parametrize("package", BLIND)
def test_no_module_knows_where_labels_lie(package: str) -> None:
    for module in (ROOT / "anatomad" / package).rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            assert "labelsT" not in text, module
            names = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom | ast.Import) else []
            assert not {"read_labels", "RawDataset"} & set(names), module

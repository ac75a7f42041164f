import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from anatomad import parallel
from anatomad.cli.plan import main
from anatomad.errors import DataError
from anatomad.parallel import cores
from anatomad.planner import fingerprint as measuring
from anatomad.planner import report
from anatomad.planner.machine import find_machine
from anatomad.planner.splits import read_splits
from tests.planner.test_dataset import make_dataset
from tests.planner.test_fingerprint import write_brain
from tests.planner.test_rules import fingerprint, image


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = make_dataset(tmp_path / "raw")
    for seed, name in enumerate(("a_0000", "b_0000")):
        write_brain(folder / "imagesTr" / f"{name}.nii.gz", seed=seed)
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.slow
def test_plans_and_goes_on_where_it_stopped(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = tmp_path / "work"
    arguments = ["-d", "1", "--root", str(raw.parent), "--work", str(work), "-j", "1"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "spacing_mm" in out
    assert out.endswith(f"next: anatomad_train 001 fold0 --root {raw.parent} --work {work}\n")
    results = work / "Dataset001_Demo"
    first = tree(results)
    assert {"fingerprint.json", "plan.json", "splits.json", "store/a.safetensors", "store/b.json"} <= first.keys()
    assert len(read_splits(results / "splits.json")) == 1  # one brain with other noise is one person

    (results / "store" / "b.json").unlink()
    (results / "fingerprint" / "a.json").unlink()
    assert main(arguments) == 0
    assert tree(results) == first
    assert "plan.json is kept as it is" in capsys.readouterr().err


@pytest.mark.slow
def test_bad_case_is_named_and_the_others_done(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (raw / "imagesTr" / "b_0000.nii.gz").rename(tmp_path / "elsewhere.nii.gz")
    (raw / "imagesTr" / "c_0001.nii.gz").write_bytes(b"no image")
    arguments = ["-d", str(raw), "--work", str(tmp_path / "work"), "-j", "1"]
    assert main(arguments) == 3
    shown = capsys.readouterr()
    assert "case c cannot be used: " in shown.err
    assert "c_0001.nii.gz" in shown.err
    results = tmp_path / "work" / "Dataset001_Demo"
    assert sorted(path.name for path in (results / "store").glob("*.json")) == ["a.json"]

    write_brain(raw / "imagesTr" / "c_0001.nii.gz", seed=5)
    assert main(arguments) == 0
    assert "splits.json lacks c; edit it, or delete it" in capsys.readouterr().err


def test_edited_files_are_kept_and_checked(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (raw / "imagesTr" / "b_0000.nii.gz").unlink()
    arguments = ["-d", str(raw), "--work", str(tmp_path), "-j", "1"]
    assert main(arguments) == 0
    path = tmp_path / "Dataset001_Demo" / "plan.json"
    plan = json.loads(path.read_text())
    chosen = plan["configurations"]["3d"]["batch_size"]
    plan["configurations"]["3d"]["batch_size"] = chosen + 76
    path.write_text(json.dumps(plan))
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert f"set by hand; was {chosen}" in shown.out
    assert json.loads(path.read_text()) == plan

    path.write_text(json.dumps(plan | {"dataset": "Dataset009_Other"}))
    assert main(arguments) == 3
    assert "made for Dataset009_Other, not Dataset001_Demo" in capsys.readouterr().err


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Cases that preprocessing refuses; measuring takes all, and neither reads a scan."""
    names: set[str] = set()

    def run(_: object, jobs: dict[str, Any], *__: object) -> tuple[dict[str, Any], dict[str, Exception]]:
        return {name: {} for name in jobs if name not in names}, {
            name: DataError("channels on different grids") for name in jobs if name in names
        }

    def measure(dataset: Any, *_: object) -> tuple[Any, dict[str, Exception]]:
        return fingerprint(*[image()] * len(dataset.training_cases())), {}

    monkeypatch.setattr(parallel, "run_jobs", run)
    monkeypatch.setattr(measuring, "take_fingerprint", measure)
    monkeypatch.setattr(report, "write_report", lambda *_: None)
    return names


def cases_of(path: Path) -> list[set[str]]:
    return [{*fold.train, *fold.val} for fold in read_splits(path)]


def test_folds_hold_what_preprocessing_accepted(
    tmp_path: Path, refused: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    raw = make_dataset(tmp_path, files=tuple(f"imagesTr/c{n:02d}_0000.nii.gz" for n in range(4)))
    arguments, path = ["-d", str(raw), "--work", str(tmp_path)], tmp_path / raw.name / "splits.json"
    refused |= {"c00", "c01", "c02", "c03"}
    assert main(arguments) == 3
    assert capsys.readouterr().out.endswith("next: mend the scans, then the same anatomad_plan again\n")
    assert not path.exists()

    refused.clear()
    refused.add("c03")
    assert main(arguments) == 3
    shown = capsys.readouterr()
    assert "folds: 3, not 4 as in the plan" in shown.err
    assert "next: anatomad_train" in shown.out
    assert cases_of(path) == [{"c00", "c01", "c02"}] * 3


def test_folds_of_lost_cases_are_not_said_to_train(
    tmp_path: Path, refused: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    raw = make_dataset(tmp_path, files=tuple(f"imagesTr/c{n:02d}_0000.nii.gz" for n in range(4)))
    arguments, path = ["-d", str(raw), "--work", str(tmp_path)], tmp_path / raw.name / "splits.json"
    assert main(arguments) == 0
    (raw / "imagesTr" / "c03_0000.nii.gz").unlink()
    capsys.readouterr()
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert f"{path} lists unusable cases c03; edit it, or delete it to draw the folds afresh" in shown.err
    assert f"next: take unusable cases out of {path}, or delete it" in shown.out
    path.unlink()  # as it was told
    assert main(arguments) == 0
    assert "next: anatomad_train" in capsys.readouterr().out
    assert cases_of(path) == [{"c00", "c01", "c02"}] * 3


@pytest.mark.parametrize("how", ["path", "root"])
def test_the_next_command_can_be_typed(
    tmp_path: Path, refused: set[str], capsys: pytest.CaptureFixture[str], how: str
) -> None:
    raw = make_dataset(tmp_path / "my data", files=("imagesTr/c00_0000.nii.gz",))
    given = [str(raw)] if how == "path" else ["1", "--root", str(raw.parent)]
    assert main(["-d", *given, "--work", str(tmp_path / "my work")]) == 0
    command = shlex.split(capsys.readouterr().out.splitlines()[-1].removeprefix("next: "))
    found = [str(raw)] if how == "path" else ["001"]
    root = [] if how == "path" else ["--root", str(raw.parent)]
    assert command == ["anatomad_train", *found, "fold0", *root, "--work", str(tmp_path / "my work")]


def test_one_fold_is_too_few_once_there_are_more_people(
    tmp_path: Path, refused: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    raw = make_dataset(tmp_path, files=("imagesTr/c00_0000.nii.gz",))
    arguments, path = ["-d", str(raw), "--work", str(tmp_path)], tmp_path / raw.name / "splits.json"
    assert main(arguments) == 0
    for number in (1, 2):
        (raw / "imagesTr" / f"c0{number}_0000.nii.gz").touch()
    path.unlink()
    assert main(arguments) == 2
    assert "folds=1: expected 2 to 3 (subjects: 3); choose with --set folds=N, or edit it" in capsys.readouterr().err


def test_impossible_folds_leave_no_plan(tmp_path: Path, refused: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    raw = make_dataset(tmp_path, files=("imagesTr/c00_0000.nii.gz", "imagesTr/c01_0000.nii.gz"))
    assert main(["-d", str(raw), "--work", str(tmp_path), "--set", "folds=5"]) == 2
    assert "folds=5: expected 2 to 2" in capsys.readouterr().err
    assert not (tmp_path / raw.name / "plan.json").exists()


def test_memory_that_does_not_suffice_is_warned_of(
    tmp_path: Path, refused: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    raw = make_dataset(tmp_path, files=("imagesTr/c00_0000.nii.gz",))
    assert main(["-d", str(raw), "--work", str(tmp_path), "--memory", "0.5GB"]) == 0
    told = capsys.readouterr().err
    for name in ("2d", "3d"):
        assert f"configuration {name} does not fit: a training step needs" in told


def test_usage_errors(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-d", "5", "--root", str(raw.parent)]) == 2
    assert "no data set '5'" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main(["-d", str(raw), "--work", str(tmp_path / "file")]) == 2
    assert "--work DIR" in capsys.readouterr().err
    empty = make_dataset(tmp_path / "raw", "Dataset002_Empty")
    assert main(["-d", str(empty), "--work", str(tmp_path)]) == 3
    assert "no training scan" in capsys.readouterr().err


@pytest.mark.slow
def test_settings_machine_and_time(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (raw / "imagesTr" / "b_0000.nii.gz").unlink()
    common = ["-d", str(raw), "--work", str(tmp_path), "-j", "1"]
    arguments = [*common, "--memory", "8GB", "--time", "20m", "--set", "configurations.3d.batch_size=2"]
    assert main(arguments) == 0
    assert "set by --set; the rule chose " in " ".join(capsys.readouterr().out.split())
    path = tmp_path / "Dataset001_Demo" / "plan.json"
    plan = json.loads(path.read_text())
    here = {"ram_gb": find_machine("cpu").ram_gb, "cores": cores()}
    assert plan["machine"] == {"kind": "gpu", "memory_gb": 8.0, "precision": "bfloat16", "time_s": 1200.0, **here}
    assert plan["configurations"]["3d"]["batch_size"] == 2
    assert [each["name"] for each in plan["overrides"]] == ["configurations.3d.batch_size"]

    assert main(arguments) == 0  # the same command goes on
    assert main(common) == 0  # and so does one that asks for nothing
    capsys.readouterr()
    others = ["--memory", "9GB", "--time", "30m", "--set", "configurations.3d.batch_size=3"]
    assert main([*common, *others]) == 2
    told = "--set configurations.3d.batch_size=3, --memory 9GB, --time 1800s; edit it, or delete it to plan afresh"
    assert f"{path}: was made without {told}" in capsys.readouterr().err
    assert json.loads(path.read_text()) == plan


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "seed"], "--set seed: expected KEY=VALUE, each key once"),
        (["--set", "seed=1", "--set", "seed=2"], "--set seed=2: expected KEY=VALUE, each key once"),
        (["--memory", "much"], "--memory 'much': expected auto, cpu, or the memory of a GPU like 8GB"),
        (["--time", "20"], "'20' is no time"),
    ],
)
def test_wishes_that_cannot_be_read(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(["-d", str(raw), "--work", str(tmp_path), *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "Dataset001_Demo" / "fingerprint.json").exists()

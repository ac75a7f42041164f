import json
from pathlib import Path

import pytest

from anatomad.cli.plan import main
from anatomad.parallel import cores
from anatomad.planner.machine import find_machine
from anatomad.planner.splits import read_splits
from tests.planner.test_dataset import make_dataset
from tests.planner.test_fingerprint import write_brain


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

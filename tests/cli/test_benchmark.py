"""``anatomad_benchmark`` from plan to tables: failed, killed, gone on with, and finished."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anatomad.benchmark.runs import TRAINING
from anatomad.cli.benchmark import main
from anatomad.io.atomic import write_json
from tests.benchmark.world import CONTROLS, PATIENTS, make_world, write_patient
from tests.train.fold import NAME

ROOT = Path(__file__).parents[2]
TRAINED = "dal-seed0"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANATOMAD_ROOT", "ANATOMAD_WORK"):
        monkeypatch.delenv(name, raising=False)


def arguments(root: Path, *more: str) -> list[str]:
    folders = ["--root", str(root), "--work", str(root / "anatomad"), "-o", str(root / "out")]
    what = ["-d", "001", "-t", "101", "--healthy", "002", "-m", "dal", "intensity-bright", "--seeds", "2"]
    return [*what, "--time", "0.01s", "--bootstrap", "50", "--device", "cpu", *folders, *more]


def start(root: Path) -> subprocess.Popen[str]:
    code = "import sys; from anatomad.cli.benchmark import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments(root)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def trainings(root: Path) -> dict[str, int]:
    """When each finished training ended, by the run's name without its digest."""
    files = (root / "out" / "runs").glob(f"*/{TRAINING}")
    return {file.parent.name.rpartition("-")[0]: file.stat().st_mtime_ns for file in files}


def until(condition: Callable[[], bool], seconds: float = 400.0) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("more", [["-t", "101", "101"], ["--healthy", "101"]])
def test_data_set_that_is_named_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]) -> None:
    assert main(arguments(make_world(tmp_path), *more)) == 2
    assert f"named twice by -t and --healthy: {PATIENTS}" in capsys.readouterr().err


@pytest.mark.slow
def test_failed_killed_gone_on_with_and_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_world(tmp_path)
    out, stored = root / "out", root / "anatomad" / NAME / "store" / "h3.safetensors"

    # Every training fails: the tables say so, with the error.
    whole = stored.read_bytes()
    stored.write_bytes(whole[:100])
    assert main(arguments(root)) == 3
    shown = capsys.readouterr()
    assert "trainings: 2 of 00:00 each" in shown.out
    assert "missing parts: 4" in shown.err
    found = json.loads((out / "benchmark.json").read_text())
    assert [(m["method"], m["seed"], m["what"]) for m in found["missing"]] == [
        (method, seed, "training") for method in ("dal", "intensity-bright") for seed in (0, 1)
    ]
    assert all("h3.safetensors" in missing["error"] for missing in found["missing"])
    assert "h3.safetensors" in (out / "benchmark.md").read_text()

    # Mended, and killed when the first training has ended: no process stays, what is finished does.
    stored.write_bytes(whole)
    process = start(root)
    until(lambda: TRAINED in trainings(root) or process.poll() is not None)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    until(lambda: not alive(process.pid))
    before = trainings(root)
    assert before.keys() == {TRAINED}

    # The same command goes on to the end.
    process = start(root)
    _, warned = process.communicate(timeout=500)
    assert process.returncode == 0, warned
    after = trainings(root)
    assert after[TRAINED] == before[TRAINED]
    assert len(after) == 4
    assert not list(out.glob("runs/*/maps"))
    check(json.loads((out / "benchmark.json").read_text()), out)

    # Finished: nothing is done again. A patient more: judged by the models that are there.
    capsys.readouterr()
    assert main(arguments(root, "--dry-run")) == 0
    assert capsys.readouterr().out.count(": finished") == 4
    write_patient(root, "p9", 9)
    assert main(arguments(root, "--report")) == 3
    lost = json.loads((out / "benchmark.json").read_text())["missing"]
    assert {missing["what"] for missing in lost} == {PATIENTS}
    capsys.readouterr()
    assert main(arguments(root, "--dry-run")) == 0
    assert "dal, seed 1: judge 16 scans\n" in capsys.readouterr().out


def check(found: dict[str, Any], out: Path) -> None:
    columns = {f"{PATIENTS} {sequence}" for sequence in ("T1w", "T2w", "whole case")}
    assert not found["missing"]
    for name, method in found["methods"].items():
        assert len(method["runs"]) == 2, name
        for run in method["runs"]:
            assert run["columns"].keys() == columns
            assert run["healthy"].keys() == {"healthy, calibration fold", "healthy, untouched fold", CONTROLS}
            assert run["training"]["model"]["healthy_share"].keys() == {"real", "unseen contrast"}
            assert run["training"]["seconds"] is None or run["training"]["seconds"] > 0
        for variants in method["estimates"].values():
            assert variants["pooled_ap"].keys() == columns | {"mean"}
            for estimate in variants["pooled_ap"].values():
                assert 0 < estimate["mean"] <= 1
                assert estimate["seeds"] == 2
    seeds = [run["columns"][f"{PATIENTS} T1w"]["as predicted"]["pooled_ap"] for run in found["methods"]["dal"]["runs"]]
    assert seeds[0] != seeds[1]
    pairs = found["comparisons"]
    assert {(c["other"], c["patients"], c["test"]["patterns"]) for c in pairs} == {("intensity-bright", 3, 8)}
    assert all(c["test"]["p"] in {0.25, 0.5, 0.75, 1.0} for c in pairs)
    assert found["any_intensity_rule"].keys() == {f"{PATIENTS} T1w", f"{PATIENTS} T2w"}
    page = (out / "benchmark.html").read_text()
    assert "Headline" in page
    assert "missing" not in page.split("<h2>Protocols")[0].partition("<body>")[2]


def test_a_dry_run_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_world(tmp_path, patients=1)
    assert main(arguments(root, "--dry-run")) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[0] == "  dal, seed 0: train, judge 8 scans"
    assert "trainings: 2 of 00:00 each, 1 at a time: 00:00; scans to judge: 32, on top of that" in shown
    assert not (root / "out").exists()


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--time", "soon"], 2, "'soon' is no time"),
        (["-m", "dal", "dall"], 2, "no method 'dall'; there are dal, intensity-bright"),
        (["-m", "dal:4d"], 2, "no configuration '4d'; its plan has 2d, 3d"),
        (["-t", "7"], 2, "no data set '7'"),
        (["--fold", "9"], 2, "no fold '9'; this data set has fold0, fold1"),
        (["-t", "002"], 3, "no label of c0 in labelsTs"),
    ],
)
def test_mistakes_are_said_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], code: int, words: str
) -> None:
    root = make_world(tmp_path, patients=1)
    assert main(arguments(root, *more)) == code
    assert words in capsys.readouterr().err
    assert not (root / "out").exists()


def test_without_a_plan_a_dry_run_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_world(tmp_path, patients=1)
    for path in (root / "anatomad" / NAME).glob("*.json"):
        path.unlink()
    assert main(arguments(root, "--dry-run")) == 3
    assert "make one with 'anatomad_plan -d DATASET'" in capsys.readouterr().err


def test_a_lost_splits_file_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_world(tmp_path, patients=1)
    asked: list[list[str]] = []

    def plan(argv: list[str]) -> int:
        asked.append(argv)
        write_json(root / "anatomad" / NAME / "splits.json", [])
        return 0

    (root / "anatomad" / NAME / "splits.json").unlink()
    monkeypatch.setattr("anatomad.cli.plan.main", plan)
    assert main(arguments(root)) == 3  # the made-up file holds no fold
    assert asked == [["-d", str(root / NAME), "--work", str(root / "anatomad")]]

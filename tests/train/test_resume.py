import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from anatomad.errors import InterruptedRunError
from anatomad.planner.plan import Stages
from anatomad.train import picture
from anatomad.train.job import Job
from anatomad.train.learner import Learner, Outcome
from anatomad.train.log import TIMES
from anatomad.train.loop import train_fold
from tests.train.fold import make_job, no_calibration, tiny_plan

ROOT = Path(__file__).parents[2]
PLAN = tiny_plan(stages=Stages(anatomy=45, restoration=25, recoupling=8))


@pytest.fixture(autouse=True)
def _no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "draw", lambda *_: None)


def timeless_log(folder: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def check_equal(first: Path, second: Path) -> None:
    names = ["weights.safetensors", "model.json", "calibration.json"]
    for name in [*names, *(f"checkpoints/{path.name}" for path in (first / "checkpoints").iterdir())]:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    assert timeless_log(first) == timeless_log(second)
    assert not [path for folder in (first, second) for path in folder.rglob("*.tmp")]


def stop_at(monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    """Interrupt at the given call of Learner.step, halfway: gradients and weights may be in any state."""
    step, left = Learner.step, [calls]

    def interrupted(self: Learner, *args: object) -> Outcome:
        outcome = step(self, *args)  # type: ignore[arg-type]
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return outcome

    monkeypatch.setattr(Learner, "step", interrupted)


def train_with_stops(monkeypatch: pytest.MonkeyPatch, job: Job, *calls: int) -> None:
    for number in calls:
        with monkeypatch.context() as patch:
            stop_at(patch, number)
            with pytest.raises(InterruptedRunError, match="the same command goes on there"):
                train_fold(job, no_calibration)
    assert train_fold(job, no_calibration)


def test_interrupted_run_ends_bit_for_bit_like_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_job(tmp_path / "whole", PLAN)
    assert train_fold(whole, no_calibration)
    stopped = make_job(tmp_path / "stopped", PLAN)
    train_with_stops(monkeypatch, stopped, 3, 33, 26, 24)
    check_equal(whole.folder, stopped.folder)
    assert not (stopped.folder / "owner.json").exists()


def test_roll_back_is_repeated_alike_after_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Learner.step

    def failing(self: Learner, samples: object, number: int, factor: float) -> Outcome:
        outcome = step(self, samples, number, factor)  # type: ignore[arg-type]
        failed = self.stage.name == "anatomy" and factor == 1 and 21 <= number <= 23
        return Outcome(outcome.losses, float("nan"), 0.0) if failed else outcome

    monkeypatch.setattr(Learner, "step", failing)
    whole = make_job(tmp_path / "whole", PLAN)
    train_fold(whole, no_calibration)
    stopped = make_job(tmp_path / "stopped", PLAN)
    train_with_stops(monkeypatch, stopped, 23, 8, 30)
    check_equal(whole.folder, stopped.folder)
    description = json.loads((whole.folder / "model.json").read_text())
    assert (description["skipped"], description["rollbacks"]) == (3, 1)
    assert [line["failed_at"] for line in timeless_log(whole.folder) if line["kind"] == "rollback"] == [24]


@pytest.mark.slow
def test_killed_runs_end_bit_for_bit_like_a_whole_one(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).with_name("killer.py")), str(tmp_path)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    for number in range(int(told["finished"])):
        check_equal(tmp_path / "whole" / "fold0", tmp_path / f"killed{number}" / "fold0")

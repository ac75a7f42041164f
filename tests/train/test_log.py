import json
from pathlib import Path

import torch

from anatomad.kernels import serving
from anatomad.train.learner import Outcome
from anatomad.train.log import RunLog, Window, environment


def test_log_is_cut_back_when_a_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = RunLog(path)
    for step in range(4):
        log.add("steps", step=step)
    with path.open("a") as file:
        file.write('{"kind": "steps", "st')
    again = RunLog(path, lines=2)
    again.add("steps", step=9)
    again.sync()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 1, 9]
    assert [record["step"] for record in again.records] == [0, 1, 9]
    again.cut(1)
    assert path.read_text() == '{"kind": "steps", "step": 0}\n'
    assert RunLog(tmp_path / "new" / "log.jsonl").records == []


def test_means_leave_skipped_steps_out() -> None:
    window = Window()
    window.add(Outcome({"a": 1.0}, 2.0, 0.1))
    window.add(Outcome({"a": float("nan")}, 1.0, 0.1))
    window.add(Outcome({"a": 3.0}, 4.0, 0.2))
    summary = window.summary(1000)
    assert summary["losses"] == {"a": 2.0}
    assert (summary["gradient_norm"], summary["learning_rate"]) == (3.0, 0.2)
    assert summary["voxels_per_second"] > 0
    window.add(Outcome({"a": 1.0}, float("inf"), 0.1))
    assert window.summary(1000)["losses"] == {}


def test_environment_says_what_decides_the_last_bit() -> None:
    found = environment(torch.device("cpu"), "float32")
    assert (found["device"], found["precision"], found["threads"]) == ("cpu", "float32", torch.get_num_threads())
    assert found["kernels"] == serving("cpu")

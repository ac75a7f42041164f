from __future__ import annotations

from pathlib import Path

from anatomad.benchmark.estimate import estimate_work
from anatomad.benchmark.results import judgement
from anatomad.benchmark.runs import TRAINING, Method, Run, note_error
from anatomad.benchmark.scans import Scans
from anatomad.io.atomic import write_json
from anatomad.planner.dataset import Case

PATIENTS = Scans("Dataset101_P", (Case("a", {0: Path("x"), 1: Path("y")}),), ("T1w", "T2w"), Path("labels"), "-")
HEALTHY = Scans("Dataset002_H", (Case("h", {0: Path("z")}),), ("T1w",), None, "-")


def run_of(tmp_path: Path, name: str, seed: int = 0) -> Run:
    return Run(Method(name), seed, tmp_path / f"{name}{seed}", {"name": name, "seed": seed})


def lines(runs: list[Run], workers: int = 1) -> list[str]:
    return estimate_work(runs, [PATIENTS, HEALTHY], 10, 90.0, workers, lambda run: run.method.name != "rule")


def finish(run: Run, *groups: Scans) -> None:
    write_json(run.folder / TRAINING, {"made_from": run.made_from})
    for scans in groups:
        path, made_from = judgement(run, scans, 10)
        write_json(path, {"seconds": {"scans": scans.files, "predict": 4.0 * scans.files}, "made_from": made_from})


def test_all_is_to_do(tmp_path: Path) -> None:
    runs = [run_of(tmp_path, "dal", 0), run_of(tmp_path, "dal", 1), run_of(tmp_path, "rule")]
    assert lines(runs, 2) == [
        "  dal, seed 0: train, judge 5 scans",
        "  dal, seed 1: train, judge 5 scans",
        "  rule, seed 0: train, judge 5 scans",
        "trainings: 2 of 01:30 each, 2 at a time: 01:30; scans to judge: 15, "
        "on top of that (no run has shown yet how long each takes)",
    ]


def test_what_is_finished_tells_the_time_of_the_rest(tmp_path: Path) -> None:
    runs = [run_of(tmp_path, "dal", seed) for seed in range(3)]
    finish(runs[0], PATIENTS, HEALTHY)
    finish(runs[1], PATIENTS)
    runs[2].folder.mkdir()
    note_error(runs[2], ValueError("no memory"))
    assert lines(runs) == [
        "  dal, seed 0: finished",
        "  dal, seed 1: judge 1 scans",
        "  dal, seed 2: train, judge 5 scans (tried before: no memory)",
        "trainings: 1 of 01:30 each, 1 at a time: 01:30; scans to judge: 6, about 00:24 on top of that",
    ]

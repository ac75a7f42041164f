"""One run of ``anatomad_benchmark``, through the commands that users type; their output goes to the run's log."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anatomad.benchmark.runs import (
    ERROR,
    LOG,
    TRAINING,
    Planned,
    Run,
    describe_model,
    finished_training,
    note_error,
    write_work,
)
from anatomad.benchmark.scans import Scans
from anatomad.errors import AnatomadError, ModelError

Command = Callable[[Sequence[str]], int]


@dataclass(frozen=True)
class Task:
    """A run and what to do with it."""

    run: Run
    planned: Planned
    scans: tuple[Scans, ...]
    time: str
    device: str
    replicates: int
    keep_maps: bool
    out: Path


def carry_out(task: Task) -> None:
    """Train, judge every group of scans, and measure; what is finished is kept.

    Raises:
        AnatomadError: a command failed; names it, its message and the log.
        ResourceError: another process is at this very run.
    """
    from anatomad.train.lease import Lease

    with Lease(task.run.folder):
        (task.run.folder / ERROR).unlink(missing_ok=True)
        try:
            _train(task)
            for scans in task.scans:
                _judge(task, scans)
        except Exception as error:
            note_error(task.run, error)
            raise


def _train(task: Task) -> None:
    from anatomad.benchmark.machine import describe_machine, forget_peak, peak_memory_mb
    from anatomad.cli import train
    from anatomad.io.atomic import write_json

    run, planned = task.run, task.planned
    if finished_training(run) is not None:
        return
    resumed = any(run.work().glob("*/*/checkpoints/*.json"))
    write_work(run, planned)
    argv = [str(planned.raw), "fold0", "--method", run.method.name]
    argv += ["-c", run.method.configuration] if run.method.configuration else []
    argv += ["--work", str(run.work()), "--time", task.time, "--device", task.device]
    forget_peak()
    seconds = _do(task, train.main, argv)
    found = {
        "seconds": None if resumed else seconds,  # of a resumed training only the last part is known
        "peak_memory_mb": peak_memory_mb(),
        **describe_machine(),
        "model": describe_model(_model(run)),
        "made_from": run.made_from,
    }
    write_json(run.folder / TRAINING, found)


def _judge(task: Task, scans: Scans) -> None:
    from anatomad.benchmark.measure import measure_healthy, measure_patients
    from anatomad.benchmark.results import finished_judgement, judgement
    from anatomad.benchmark.rules import measure_rules
    from anatomad.io.atomic import write_json, write_tensors

    run = task.run
    if finished_judgement(run, scans, task.replicates) is not None:
        return
    path, made_from = judgement(run, scans, task.replicates)
    maps = run.folder / "maps" / f"{scans.slug}-{scans.digest[:12]}"  # maps of other scans may lie beside
    seconds = _predict(task, scans, maps, "each")
    result: dict[str, Any] = {}
    if scans.labels is None:
        result["healthy"] = measure_healthy(maps / "each")
    else:
        each = measure_patients(scans.name, maps / "each", scans.labels, task.replicates)
        sequences, rows = each.sequences, each.replicates
        if scans.fused:
            _predict(task, scans, maps, "fused")
            fused = measure_patients(scans.name, maps / "fused", scans.labels, task.replicates)
            sequences, rows = sequences | fused.sequences, rows | fused.replicates
        measure_rules(scans, task.out, maps / "scans", maps / "each")
        result["sequences"] = sequences
        path.unlink(missing_ok=True)  # no JSON may vouch for rows that it was not written with
        write_tensors(path.with_suffix(".safetensors"), rows)
    write_json(path, {**result, "seconds": seconds, "made_from": made_from})
    if not task.keep_maps:
        shutil.rmtree(run.folder / "maps")


def _model(run: Run) -> Path:
    folder = run.model()
    if folder is None:
        raise ModelError(f"{run.folder}: no model here although training has ended; delete this folder and start again")
    return folder


def _predict(task: Task, scans: Scans, maps: Path, kind: str) -> dict[str, float]:
    """Judge scans; how many, and the seconds that took where it was not interrupted before."""
    from anatomad.cli import predict

    resumed = (maps / kind).exists()
    scans.link(maps / "scans")
    argv = ["-i", str(maps / "scans"), "-o", str(maps / kind), "-m", str(_model(task.run)), "--device", task.device]
    seconds = _do(task, predict.main, [*argv, "--each"] if kind == "each" else argv)
    return {"scans": scans.files} | ({} if resumed else {"predict": seconds})


def _do(task: Task, command: Command, argv: list[str]) -> float:
    """Run a command into the log; returns the seconds it took."""
    name = command.__module__.replace("anatomad.cli.", "anatomad_")
    log = task.run.folder / LOG
    began = time.monotonic()
    with log.open("a", encoding="utf-8") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        file.write(f"$ {name} {' '.join(argv)}\n")
        start = file.tell()
        code = command(argv)
    if code:
        raise AnatomadError(
            f"{name} ended with {code}: {_last_error(log, start)}; see runs/{log.parent.name}/{log.name}"
        )
    return round(time.monotonic() - began, 1)


def _last_error(log: Path, start: int) -> str:
    with log.open(encoding="utf-8") as file:
        file.seek(start)
        lines = [line.strip() for line in file if line.strip()]
    errors = [line for line in lines if line.startswith(("error: ", "case "))]
    return (errors or lines or ["no message"])[-1].removeprefix("error: ")

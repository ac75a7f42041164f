"""``anatomad_benchmark``: methods side by side, over data sets, sequences and seeds, in one resumable command."""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anatomad.cli.common import add_folders, make_parser, positive_int, run_command, say
from anatomad.errors import UsageError

if TYPE_CHECKING:
    from anatomad.benchmark.runs import Method, Planned, Run
    from anatomad.benchmark.scans import Scans
    from anatomad.planner.dataset import RawDataset

_log = logging.getLogger(__name__)

_SLACK_S, _SLACK_SCAN_S = 1800.0, 300.0  # beyond thrice the training time a run hangs: for itself, and per scan


def _parser() -> argparse.ArgumentParser:
    result = make_parser(
        "anatomad_benchmark",
        "Train every method with several seeds in the same time on one healthy data set, let each judge the same\n"
        "scans, and compare them: benchmark.html, benchmark.md and benchmark.json. Stopped at any moment, the same\n"
        "command goes on; on several machines that share the folders, each takes what no other is at.",
        "anatomad_benchmark -d 001 -t 101 102 --time 27m -o benchmark --dry-run",
    )
    result.add_argument("-d", "--dataset", required=True, help="data set of healthy scans to train on")
    result.add_argument(
        "-t", "--test", required=True, nargs="+", metavar="DATASET", help="data sets of patients, with labels"
    )
    result.add_argument(
        "--healthy", nargs="+", default=[], metavar="DATASET", help="data sets whose test scans have no lesion at all"
    )
    result.add_argument(
        "-m",
        "--methods",
        nargs="+",
        metavar="NAME",
        help="methods, or NAME:CONFIGURATION; the first is compared with the others (default: all, dal first)",
    )
    result.add_argument("--seeds", type=positive_int, default=3, metavar="N", help="trainings per method (default 3)")
    result.add_argument(
        "--time", default="30m", metavar="TIME", help="time for each training, such as 27m or 8h (default 30m)"
    )
    result.add_argument("--fold", default="0", help="fold to train (default 0)")
    result.add_argument(
        "-o", "--output", type=Path, default=Path("benchmark"), metavar="DIR", help="default: benchmark"
    )
    result.add_argument(
        "-j", "--workers", type=positive_int, default=1, metavar="N", help="runs at a time; they share the cores"
    )
    result.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if there is one"
    )
    result.add_argument(
        "--bootstrap", type=positive_int, default=1000, metavar="N", help="replicates of the intervals (default 1000)"
    )
    result.add_argument("--keep-maps", action="store_true", help="keep the anomaly maps of every run")
    doing = result.add_mutually_exclusive_group()
    doing.add_argument("--dry-run", action="store_true", help="only say what would be done, and how long it takes")
    doing.add_argument("--report", action="store_true", help="only write the tables of what is finished")
    add_folders(result)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``anatomad_benchmark``; returns the exit code (3 when a part of the tables is missing)."""
    return run_command(_benchmark, _parser().parse_args(argv))


def _benchmark(args: argparse.Namespace) -> int:
    from anatomad.benchmark.estimate import estimate_work
    from anatomad.benchmark.runs import make_runs
    from anatomad.benchmark.scans import healthy, patients
    from anatomad.planner.dataset import find_dataset, make_folder
    from anatomad.train.schedule import parse_time

    time_s = parse_time(args.time)
    methods = _methods(args.methods)
    dataset = find_dataset(args.dataset, args.root)
    tests = [patients(find_dataset(name, args.root)) for name in args.test]
    controls = [healthy(find_dataset(name, args.root)) for name in args.healthy]
    _once([group.name for group in (*tests, *controls)])
    planned, kept_back = _planned(args, dataset)
    scans = [*tests, *kept_back, *controls]
    runs = make_runs(planned, methods, args.seeds, time_s, args.output.absolute())
    if not args.report:
        for line in estimate_work(runs, scans, args.bootstrap, time_s, args.workers, _learns):
            say(line)
    if args.dry_run:
        return 0
    make_folder(args.output)
    if not args.report:
        _carry_out(args, planned, runs, scans, time_s)
    return _report(args, planned, runs, scans)


def _once(names: Sequence[str]) -> None:
    twice = sorted(name for name, times in Counter(names).items() if times > 1)
    if twice:
        raise UsageError(f"named twice by -t and --healthy: {', '.join(twice)}; every data set counts once")


def _methods(asked: Sequence[str] | None) -> list[Method]:
    from anatomad.baselines.registry import METHODS, find_method
    from anatomad.benchmark.runs import Method

    methods = list(dict.fromkeys(map(Method.parse, asked or METHODS)))
    for method in methods:
        find_method(method.name)
    return methods


def _learns(run: Run) -> bool:
    from anatomad.baselines.registry import find_method

    return bool(find_method(run.method.name).stages)


def _planned(args: argparse.Namespace, dataset: RawDataset) -> tuple[Planned, list[Scans]]:
    """The plan, which is made where there is none, the fold to train, and the healthy scans that it holds out."""
    from anatomad.benchmark.runs import Planned
    from anatomad.benchmark.scans import held_out
    from anatomad.cli import plan
    from anatomad.planner.dataset import dataset_folder
    from anatomad.planner.plan import read_plan
    from anatomad.planner.splits import parse_fold, read_splits

    folder = dataset_folder(dataset, args.work)
    if not (folder / "splits.json").exists() and not (args.dry_run or args.report):
        plan.main(["-d", str(dataset.path), "--work", str(folder.parent)])
    made = read_plan(folder / "plan.json")
    folds = read_splits(folder / "splits.json")
    fold, scans = held_out(dataset, folds, parse_fold(args.fold, len(folds)))
    return Planned(dataset.name, dataset.path, folder, made, fold), scans


def _carry_out(
    args: argparse.Namespace, planned: Planned, runs: Sequence[Run], scans: Sequence[Scans], time_s: float
) -> None:
    from anatomad.benchmark.machine import threads_per_worker
    from anatomad.benchmark.results import read_results
    from anatomad.benchmark.runs import LOG, note_error
    from anatomad.benchmark.watch import Watch
    from anatomad.cli.benchmark_run import Task, carry_out
    from anatomad.parallel import cores, run_jobs

    unfinished = {(missing.method, missing.seed) for missing in read_results(runs, scans, args.bootstrap)[1]}
    todo = {run.name: run for run in runs if (str(run.method), run.seed) in unfinished}
    if not todo:
        return
    settings = (planned, tuple(scans), args.time, args.device, args.bootstrap, args.keep_maps, args.output.absolute())
    jobs = {name: (Task(run, *settings),) for name, run in todo.items()}
    say(f"logs: {args.output / 'runs'}/*/{LOG}")
    deadline_s = 3 * time_s + _SLACK_S + _SLACK_SCAN_S * sum(group.files for group in scans)
    threads = threads_per_worker(args.workers, cores())
    with Watch(tuple(todo.values())):
        _, failures = run_jobs(carry_out, jobs, args.workers, "runs", deadline_s, threads)
    for name, error in failures.items():
        _log.error("%s failed: %s", name, error, exc_info=error if args.debug else None)
        note_error(todo[name], error)


def _report(args: argparse.Namespace, planned: Planned, runs: Sequence[Run], scans: Sequence[Scans]) -> int:
    from anatomad.benchmark.report import write_report
    from anatomad.benchmark.results import by_method, columns_of, read_results
    from anatomad.benchmark.rules import read_rules
    from anatomad.benchmark.tables import Standing

    finished, missing = read_results(runs, scans, args.bootstrap)
    methods = {str(method): results for method, results in by_method(finished).items()}
    about, rules = _about(args, planned, scans), read_rules(scans, args.output)
    standing = Standing(methods, columns_of(scans), missing, args.seeds, about, rules)
    write_report(args.output, standing)
    for name in ("html", "md", "json"):
        say(f"{args.output / 'benchmark'}.{name}")
    if missing:
        _log.error("missing parts: %d; the tables name them, and the same command tries them again", len(missing))
    return 3 if missing else 0


def _about(args: argparse.Namespace, planned: Planned, scans: Sequence[Scans]) -> list[str]:
    plan = planned.plan
    spacing = " x ".join(f"{mm:g}" for mm in plan.spacing_mm)
    trained = f"{len(planned.fold.train)} healthy cases train, {len(planned.fold.val)} calibrate"
    groups = ", ".join(f"{group.name} ({len(group.cases)})" for group in scans)
    return [
        f"Trained on {planned.name} ({', '.join(plan.channel_names.values())}): {trained}; {args.time} for each "
        f"training, seeds {plan.seed} to {plan.seed + args.seeds - 1}; working resolution {spacing} mm.",
        f"Judged: {groups}.",
    ]

"""``anatomad_plan``: fingerprint, plan, folds and the preprocessed store of a data set.

Every step keeps what an earlier run finished. ``plan.json`` and ``splits.json`` are never overwritten: edit them
freely, delete them to have them made afresh.
"""

from __future__ import annotations

import argparse
import logging
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anatomad.cli.check import check
from anatomad.cli.common import add_folders, add_workers, make_parser, run_command, say

if TYPE_CHECKING:
    from anatomad.planner.dataset import RawDataset
    from anatomad.planner.machine import Machine
    from anatomad.planner.plan import PlanFile
    from anatomad.planner.records import Fingerprint

_log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``anatomad_plan``; returns the exit code (3 when a case could not be used)."""
    parser = make_parser(
        "anatomad_plan",
        "Look at a data set of healthy scans, decide how to learn from it, and preprocess it.\n"
        "plan.json and splits.json are never overwritten: edit them, or delete them to have them made afresh.",
        "anatomad_plan -d 001",
    )
    parser.add_argument(
        "-d", "--dataset", required=True, help="data set: 1, 001, Dataset001, its full name, or its path"
    )
    parser.add_argument(
        "--check", action="store_true", help="only measure, and say of every file what is wrong with it"
    )
    add_folders(parser)
    add_workers(parser)
    parser.add_argument(
        "--memory",
        default="auto",
        metavar="SIZE",
        help="GPU memory to plan for, like 8GB, or cpu (default auto: what is free on the GPU, else as RAM)",
    )
    parser.add_argument(
        "--time", metavar="TIME", help="time that training may take, such as 20m or 8h (default: steps)"
    )
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="decide by hand, like configurations.2d.batch_size=4; repeat it for more",
    )
    args = parser.parse_args(argv)
    return run_command(check if args.check else _plan, args)


def _plan(args: argparse.Namespace) -> int:
    from anatomad.errors import DataError
    from anatomad.parallel import default_workers
    from anatomad.planner.dataset import dataset_folder, find_dataset, make_folder
    from anatomad.planner.fingerprint import take_fingerprint

    dataset = find_dataset(args.dataset, args.root)
    count = len(dataset.training_cases())
    if not count:
        raise DataError(f"{dataset.path / 'imagesTr'}: no training scan; healthy scans go there as CASE_0000.nii.gz")
    folder = make_folder(dataset_folder(dataset, args.work))
    workers = args.workers or default_workers()
    say(f"{dataset.name}: training cases: {count}, workers: {workers}; results go to {folder}")

    wishes = _wishes(args)
    fingerprint, failures = take_fingerprint(dataset, folder, workers)
    plan = _plan_of(dataset, fingerprint, folder / "plan.json", wishes)
    failures |= _fill_store(dataset, fingerprint, plan, folder / "store", workers)
    usable = {case.id for case in fingerprint.cases if case.id not in failures}
    trainable = _split(dataset, fingerprint, plan, folder / "splits.json", usable)

    _show(plan)
    _warn_of_memory(plan)
    following = _next_command(args, dataset) if trainable else _again(folder / "splits.json")
    _write_page(fingerprint, plan, folder, following)
    return _finish(args, failures, following)


@dataclass(frozen=True)
class _Wishes:
    """What the command line asks of a plan."""

    memory: str
    machine: Machine
    settings: dict[str, str]


def _wishes(args: argparse.Namespace) -> _Wishes:
    from anatomad.errors import UsageError
    from anatomad.planner.machine import find_machine
    from anatomad.train.schedule import parse_time

    settings: dict[str, str] = {}
    for setting in args.settings:
        name, equals, value = setting.partition("=")
        if not equals or name in settings:
            raise UsageError(f"--set {setting}: expected KEY=VALUE, each key once")
        settings[name] = value
    time_s = None if args.time in (None, "auto") else parse_time(args.time)
    return _Wishes(args.memory, find_machine(args.memory, time_s), settings)


def _check_kept(plan: PlanFile, path: Path, wishes: _Wishes) -> None:
    """Check that an existing plan is what the command line asks for."""
    from anatomad.errors import UsageError
    from anatomad.planner.planning import holds

    differ = [f"--set {name}={text}" for name, text in wishes.settings.items() if not holds(plan, name, text)]
    there, wanted = plan.machine, wishes.machine
    same_size = there.memory_gb == wanted.memory_gb or wishes.memory == "cpu"
    if wishes.memory != "auto" and not (there.kind == wanted.kind and same_size):
        differ.append(f"--memory {wishes.memory}")
    if wanted.time_s not in (None, there.time_s):
        differ.append(f"--time {wanted.time_s:g}s")
    if differ:
        raise UsageError(f"{path}: was made without {', '.join(differ)}; edit it, or delete it to plan afresh")


def _plan_of(dataset: RawDataset, fingerprint: Fingerprint, path: Path, wishes: _Wishes) -> PlanFile:
    from anatomad.errors import PlanError
    from anatomad.io.atomic import write_json
    from anatomad.planner.plan import read_plan
    from anatomad.planner.planning import make_plan
    from anatomad.planner.splits import read_participants

    if path.exists():
        plan = read_plan(path)
        if plan.dataset != dataset.name:
            raise PlanError(f"{path}: made for {plan.dataset}, not {dataset.name}; delete it to plan afresh")
        _check_kept(plan, path, wishes)
        _log.info("%s is kept as it is; delete it to plan afresh", path)
        return plan
    plan = make_plan(fingerprint, wishes.machine, read_participants(dataset.path), wishes.settings)
    write_json(path, plan.model_dump(mode="json"))
    return plan


def _split(dataset: RawDataset, fingerprint: Fingerprint, plan: PlanFile, path: Path, usable: set[str]) -> bool:
    """Draw the folds, or look through those that are there; returns whether they hold usable cases alone."""
    from anatomad.planner.splits import read_splits

    if not path.exists():
        return _draw(dataset, fingerprint, plan, path, usable)
    listed = {case_id for fold in read_splits(path) for case_id in (*fold.train, *fold.val)}
    for word, cases in (("lacks", usable - listed), ("lists unusable cases", listed - usable)):
        if cases:
            _log.warning("%s %s %s; edit it, or delete it to draw the folds afresh", path, word, _some(cases))
    return listed <= usable


def _draw(dataset: RawDataset, fingerprint: Fingerprint, plan: PlanFile, path: Path, usable: set[str]) -> bool:
    from anatomad.io.atomic import write_json
    from anatomad.planner.splits import make_splits, read_participants, subjects_of

    participants, repeats = read_participants(dataset.path), fingerprint.repeats
    subjects = len(subjects_of(usable, participants, repeats))
    wanted = min(plan.folds, subjects)
    if wanted < plan.folds:
        _log.warning("folds: %d, not %d as in the plan: usable cases show no more subjects", wanted, plan.folds)
    if usable:
        folds = make_splits(sorted(usable), participants, wanted, plan.seed, repeats)
        write_json(path, [fold.model_dump(mode="json") for fold in folds])
    return bool(usable)


def _fill_store(
    dataset: RawDataset, fingerprint: Fingerprint, plan: PlanFile, store: Path, workers: int
) -> Mapping[str, Exception]:
    from anatomad.parallel import run_jobs
    from anatomad.preprocess.store import preprocess_case

    store.mkdir(exist_ok=True)
    usable = {case.id for case in fingerprint.cases}
    jobs = {case.id: (case, plan.configuration(), store) for case in dataset.training_cases() if case.id in usable}
    done, failures = run_jobs(preprocess_case, jobs, workers, "store")
    for name, sidecar in done.items():
        for warning in sidecar.get("warnings", ()):
            _log.warning("%s: %s", name, warning)
    return failures


def _show(plan: PlanFile) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    from anatomad.planner.planning import decisions_of

    table = Table(
        Column("decision", no_wrap=True), "value", "why", title=f"Plan of {plan.dataset}", title_justify="left"
    )
    for decision in decisions_of(plan):
        table.add_row(decision.name, decision.value, decision.reason)
    console = Console(highlight=False, markup=False)
    console.width = console.width if console.is_terminal else 120
    console.print(table)


def _warn_of_memory(plan: PlanFile) -> None:
    from anatomad.planner.memory import excess

    for name in plan.configurations:
        for told in excess(plan.configuration(name), plan.machine):
            _log.warning("configuration %s does not fit: %s; plan for a machine with more memory", name, told)


def _next_command(args: argparse.Namespace, dataset: RawDataset) -> str:
    from anatomad.planner.dataset import spelling

    words = ["anatomad_train", spelling(args.dataset, dataset), "fold0"]
    words += [str(word) for option in (("--root", args.root), ("--work", args.work)) if option[1] for word in option]
    return shlex.join(words)


def _again(splits: Path) -> str:
    if not splits.exists():
        return "mend the scans, then the same anatomad_plan again"
    return f"take unusable cases out of {splits}, or delete it; then the same anatomad_plan again"


def _write_page(fingerprint: Fingerprint, plan: PlanFile, folder: Path, following: str) -> None:
    from anatomad.planner.report import write_report

    if not fingerprint.cases:
        return
    path = folder / "plan.html"
    write_report(path, fingerprint, plan, folder / "fingerprint", following)
    say(f"look at it: {path}")


def _finish(args: argparse.Namespace, failures: Mapping[str, Exception], following: str) -> int:
    for name, error in failures.items():
        _log.error("case %s cannot be used: %s", name, error, exc_info=error if args.debug else None)
    if failures:
        _log.error(
            "cases that could not be used: %d; mend or remove them, then run the same command again", len(failures)
        )
    say(f"next: {following}")
    return 3 if failures else 0


def _some(names: Collection[str], shown: int = 5) -> str:
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(sorted(names)[:shown]) + rest

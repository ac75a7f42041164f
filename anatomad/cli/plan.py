"""``anatomad_plan``: fingerprint, plan, folds and the preprocessed store of a data set.

Every step keeps what an earlier run finished. ``plan.json`` and ``splits.json`` are never overwritten: edit them
freely, delete them to have them made afresh.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anatomad.cli.check import check
from anatomad.cli.common import add_folders, add_workers, make_parser, run_command, say

if TYPE_CHECKING:
    from anatomad.planner.dataset import RawDataset
    from anatomad.planner.fingerprint import Fingerprint
    from anatomad.planner.plan import Plan

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

    fingerprint, failures = take_fingerprint(dataset, folder, workers)
    plan = _plan_of(dataset, fingerprint, folder / "plan.json")
    _split(dataset, fingerprint, plan, folder / "splits.json")
    failures |= _fill_store(dataset, fingerprint, plan, folder / "store", workers)

    _show(plan)
    return _finish(args, dataset, failures)


def _plan_of(dataset: RawDataset, fingerprint: Fingerprint, path: Path) -> Plan:
    from anatomad.errors import PlanError
    from anatomad.io.atomic import write_json
    from anatomad.planner.plan import read_plan
    from anatomad.planner.rules import make_plan
    from anatomad.planner.splits import read_participants

    if path.exists():
        plan = read_plan(path)
        if plan.dataset != dataset.name:
            raise PlanError(f"{path}: made for {plan.dataset}, not {dataset.name}; delete it to plan afresh")
        _log.info("%s is kept as it is; delete it to plan afresh", path)
        return plan
    plan = make_plan(fingerprint, read_participants(dataset.path))
    write_json(path, plan.model_dump(mode="json"))
    return plan


def _split(dataset: RawDataset, fingerprint: Fingerprint, plan: Plan, path: Path) -> None:
    from anatomad.io.atomic import write_json
    from anatomad.planner.splits import make_splits, read_participants, read_splits

    usable = {case.id for case in fingerprint.cases}
    if not path.exists():
        folds = make_splits(sorted(usable), read_participants(dataset.path), plan.folds, plan.seed)
        write_json(path, [fold.model_dump(mode="json") for fold in folds])
        return
    listed = {case_id for fold in read_splits(path) for case_id in (*fold.train, *fold.val)}
    for word, cases in (("lacks", usable - listed), ("lists unusable cases", listed - usable)):
        if cases:
            _log.warning("%s %s %s; edit it, or delete it to draw the folds afresh", path, word, _some(cases))


def _fill_store(
    dataset: RawDataset, fingerprint: Fingerprint, plan: Plan, store: Path, workers: int
) -> Mapping[str, Exception]:
    from anatomad.parallel import run_jobs
    from anatomad.preprocess.store import preprocess_case

    store.mkdir(exist_ok=True)
    usable = {case.id for case in fingerprint.cases}
    jobs = {case.id: (case, plan, store) for case in dataset.training_cases() if case.id in usable}
    done, failures = run_jobs(preprocess_case, jobs, workers, "store")
    for name, sidecar in done.items():
        for warning in sidecar.get("warnings", ()):
            _log.warning("%s: %s", name, warning)
    return failures


def _show(plan: Plan) -> None:
    from rich.console import Console
    from rich.table import Table

    from anatomad.planner.rules import decisions_of

    table = Table("decision", "value", "why", title=f"Plan of {plan.dataset}", title_justify="left")
    for decision in decisions_of(plan):
        table.add_row(decision.name, decision.value, decision.reason)
    console = Console(highlight=False, markup=False)
    console.width = console.width if console.is_terminal else 120
    console.print(table)


def _finish(args: argparse.Namespace, dataset: RawDataset, failures: Mapping[str, Exception]) -> int:
    for name, error in failures.items():
        _log.error("case %s cannot be used: %s", name, error, exc_info=error if args.debug else None)
    if failures:
        _log.error(
            "cases that could not be used: %d; mend or remove them, then run the same command again", len(failures)
        )
    folders = "".join(f" {key} {value}" for key, value in (("--root", args.root), ("--work", args.work)) if value)
    say(f"next: anatomad_train {dataset.number:03d} fold0{folders}")
    return 3 if failures else 0


def _some(names: Collection[str], shown: int = 5) -> str:
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(sorted(names)[:shown]) + rest

"""``anatomad_train``: train one fold of a planned data set."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anatomad.cli.common import add_configuration, add_folders, add_method, make_parser, run_command, say

if TYPE_CHECKING:
    from anatomad.planner.splits import Fold


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``anatomad_train``; returns the exit code (5 when interrupted: the same command goes on)."""
    parser = make_parser(
        "anatomad_train",
        "Train one fold of a planned data set. Stopped at any moment, the same command goes on where it was.",
        "anatomad_train 001 fold0 --time 20m",
    )
    parser.add_argument("dataset", help="data set: 1, 001, Dataset001, its full name, or its path")
    parser.add_argument("fold", help="fold: 0 or fold0")
    add_method(parser)
    add_configuration(parser)
    add_folders(parser)
    parser.add_argument(
        "--time",
        metavar="TIME",
        help="time to fit the training to, such as 90s, 20m or 1h30m (default: time or steps of the plan)",
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if there is one"
    )
    return run_command(_train, parser.parse_args(argv))


def _train(args: argparse.Namespace) -> int:
    from anatomad.planner.dataset import dataset_folder, find_dataset, make_folder
    from anatomad.planner.plan import read_plan
    from anatomad.planner.splits import parse_fold, read_splits
    from anatomad.train.schedule import parse_time

    budget_s = None if args.time is None else parse_time(args.time)
    dataset = find_dataset(args.dataset, args.root)
    folder = dataset_folder(dataset, args.work)
    planned = read_plan(folder / "plan.json")
    plan = planned.configuration(args.configuration)
    folds = read_splits(folder / "splits.json")
    number = parse_fold(args.fold, len(folds))

    # torch loads here: what can be wrong with the command line has been said by now.
    from functools import partial

    from anatomad.baselines.registry import find_method
    from anatomad.models.device import choose_device
    from anatomad.predict.calibration import calibrate_fold
    from anatomad.train.job import Job, finished_model, trained_under
    from anatomad.train.loop import train_fold

    method = find_method(args.method)
    fold, target = folds[number], folder / planned.model_name(number, plan.configuration, method.name)
    budget_s = planned.machine.time_s if budget_s is None else budget_s
    workers = planned.configurations[plan.configuration].loader_workers
    job = Job(
        plan,
        fold,
        folder / "store",
        target,
        choose_device(args.device),
        budget_s,
        method=method,
        loader_workers=workers,
    )
    if finished_model(target) is None:
        say(f"{dataset.name} {target.name}: {len(fold.train)} cases train, {len(fold.val)} validate; model in {target}")
        make_folder(target)
        train_fold(job, partial(calibrate_fold, method=method))
    description = finished_model(target) or {}
    say(f"{dataset.name} {target.name} is finished: {target}")
    if not trained_under(plan, description):
        say("it was trained under another plan than the present plan.json; delete its folder to train anew")
    if _cases_differ(target, fold):
        say("it was trained with other cases than splits.json gives this fold now; delete its folder to train anew")
    say(f"next: anatomad_predict -i SCANS -o OUT -m {shlex.quote(str(target))}")
    return 0


def _cases_differ(target: Path, fold: Fold) -> bool:
    """Whether the log beside a model names other cases than its fold holds; False where no log is left."""
    try:
        with (target / "log.jsonl").open("rb") as file:
            header = json.loads(file.readline())
        return (header["train"], header["val"]) != (list(fold.train), list(fold.val))
    except (OSError, ValueError, KeyError, TypeError):
        return False

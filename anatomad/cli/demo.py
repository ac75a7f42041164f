"""``anatomad_demo``: generated scans from plan to picture, by the same commands that real scans go through."""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anatomad.cli.common import add_workers, make_parser, run_command, say

if TYPE_CHECKING:
    from anatomad.demo.compare import Verdict

_SHOWN = ("tumour", "spots")  # kinds of subjects in the picture, one each

Command = Callable[[Sequence[str]], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``anatomad_demo``; returns the exit code."""
    parser = make_parser(
        "anatomad_demo",
        "Generate healthy subjects and patients, learn from the healthy T1-like scans alone, and find the lesions in\n"
        "three contrasts; ends with a table against intensity thresholding, and a picture. Started again, it goes on.",
        "anatomad_demo",
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("demo-output"), metavar="DIR", help="default: demo-output"
    )
    parser.add_argument(
        "--time", default="5m", metavar="TIME", help="time for training, such as 90s or 20m (default 5m)"
    )
    add_workers(parser)
    return run_command(_demo, parser.parse_args(argv))


def _demo(args: argparse.Namespace) -> int:
    from anatomad.demo.generate import TEST, TRAINING, generate, subjects
    from anatomad.parallel import default_workers
    from anatomad.train.schedule import parse_time

    parse_time(args.time)  # a typing error shows now, not after the plan
    started = time.monotonic()
    root, workers = args.output.absolute(), args.workers or default_workers()
    _headline(started, f"generate {root}: no person was scanned for it")
    generate(root, subjects(), workers)
    steps = _commands(root, root / TRAINING, root / TEST, args.time, workers)
    for command, arguments in steps:
        _headline(started, shlex.join([command.__module__.replace("anatomad.cli.", "anatomad_"), *arguments]))
        if code := command(arguments):
            return code
    _headline(started, "compare with intensity thresholding")
    _conclude(root)
    return 0


def _commands(root: Path, training: Path, test: Path, budget: str, workers: int) -> list[tuple[Command, list[str]]]:
    from anatomad.cli import evaluate, plan, predict, train

    work, out = str(root / "anatomad"), str(root / "predictions")
    fold = str(root / "anatomad" / training.name / "fold0")
    return [
        (plan.main, ["-d", str(training), "--work", work, "-j", str(workers)]),
        (train.main, [str(training), "fold0", "--work", work, "--time", budget]),
        (predict.main, ["-i", str(test), "-o", out, "-m", fold, "--each"]),
        (evaluate.main, ["-p", out, "-r", str(test / "labelsTs"), "-o", str(root / "metrics.json")]),
    ]


def _conclude(root: Path) -> None:
    from rich.console import Console

    from anatomad.demo.compare import as_json, as_table, compare
    from anatomad.demo.generate import TEST, TRAINING
    from anatomad.demo.picture import draw_picture
    from anatomad.io.atomic import write_json
    from anatomad.planner.dataset import read_dataset

    test, out = read_dataset(root / TEST), root / "predictions"
    metrics = json.loads((root / "metrics.json").read_text(encoding="utf-8"))
    verdicts = compare(metrics, test.path / "imagesTs", out, test.path / "labelsTs")
    write_json(root / "comparison.json", as_json(verdicts))
    ids = [case.id for case in test.test_cases()]
    shown = [next(name for name in ids if name.startswith(kind)) for kind in _SHOWN]
    draw_picture(root / "demo.png", shown, [test.channel_names[n] for n in sorted(test.channel_names)], test.path, out)
    seen = set(read_dataset(root / TRAINING).channel_names.values())
    Console(highlight=False, markup=False, width=120).print(as_table(verdicts, seen))
    _explain(verdicts, seen)
    say(f"\npicture:      {root / 'demo.png'}")
    say(f"all numbers:  {root / 'metrics.json'}, {root / 'comparison.json'}")
    say(f"maps:         {out}")
    say("\nnext, with scans of your own: put healthy ones into Dataset001_Name/imagesTr as CASE_0000.nii.gz, a")
    say('dataset.json with "channel_names" beside it (the demo has both), then anatomad_plan -d 001')


def _explain(verdicts: list[Verdict], seen: set[str]) -> None:
    say("intensity: per cell, the rule (bright, dark, two-sided, equalised) and smoothing that suit the labels best")
    for verdict in verdicts:
        unseen = "" if verdict.sequence in seen else ", never seen in training"
        pair = f"{verdict.precision:.3f} to {verdict.rule_precision:.3f}"
        winner = "anatomad wins" if verdict.won else "intensity thresholding wins"
        say(f"{verdict.sequence}{unseen}: {winner}, average precision {pair}")


def _headline(started: float, text: str) -> None:
    from anatomad.progress import clock

    say(f"\n[{clock(time.monotonic() - started)}] {text}")

"""Detection on real scans: train one fold on healthy T1w, judge patients of other sequences and centres.

    python benchmarks/detection.py --data DIR [--work DIR] [--time 30m]

``DIR`` holds Dataset001 (healthy, T1w) and Dataset101 and Dataset102 (patients, four sequences, labels for measuring).
Everything goes through the commands that users type; started again, it goes on. The table shows anatomad beside the
intensity rule that suits each column's labels best. Results go to ``benchmarks/results/detection.json``.

Fold 0 trains without fold 1's subjects too: fold 0's validate and calibrate, fold 1's are seen by nothing, so that
calibration is stated on both.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import anatomad
from anatomad.cli import evaluate, plan, predict, train
from anatomad.cli.common import make_parser, run_command, say
from anatomad.demo.compare import Verdict, as_json, compare
from anatomad.errors import AnatomadError
from anatomad.io.atomic import write_json
from anatomad.planner.dataset import dataset_folder, find_dataset
from anatomad.planner.splits import read_splits

RESULTS = Path(__file__).parent / "results" / "detection.json"
HEALTHY, PATIENTS = "001", {"G": "101", "M": "102"}
LABEL_FREE = ("calibrated_dice", "lesion_f1", "mean_ap")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = make_parser("detection.py", "Detection on real scans, beside intensity thresholding.")
    parser.add_argument("--data", required=True, type=Path, help="folder of the data sets")
    parser.add_argument("--work", type=Path, default=Path("detection-work"), help="folder for models and predictions")
    parser.add_argument("--time", default="30m", help="time to train (default: 30m)")
    return run_command(_benchmark, parser.parse_args(argv))


def _benchmark(args: argparse.Namespace) -> int:
    folders = ["--root", str(args.data), "--work", str(args.work)]
    seconds = {
        "plan": _timed(plan.main, ["-d", HEALTHY, *folders]),
        "train": _timed(_train, [HEALTHY, *folders, "--time", args.time]),
    }
    held_out = _predict_healthy(args, folders)
    columns: dict[str, Any] = {}
    verdicts: dict[str, list[Verdict]] = {}
    for short, number in PATIENTS.items():
        raw = find_dataset(number, args.data).path
        out = args.work / f"predicted-{number}"
        seconds[f"predict {number}, every file"] = _timed(
            predict.main, ["-i", str(raw / "imagesTs"), "-o", str(out / "each"), "-d", HEALTHY, "--each", *folders]
        )
        seconds[f"predict {number}, fused"] = _timed(
            predict.main, ["-i", str(raw / "imagesTs"), "-o", str(out / "fused"), "-d", HEALTHY, *folders]
        )
        for kind in ("each", "fused"):
            columns[f"{short} {kind}"] = _evaluate(out / kind, raw / "labelsTs", args.work / "healthy")
        verdicts[short] = compare(columns[f"{short} each"], raw / "imagesTs", out / "each", raw / "labelsTs")
    model = dataset_folder(find_dataset(HEALTHY, args.data), args.work) / "fold0"
    result = {
        "machine": _machine(),
        "training_time": args.time,
        "seconds_in_steps": _seconds_in_steps(model / "log.jsonl"),
        "seconds": seconds,
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "model": _read(model / "model.json", ("steps", "skipped", "rollbacks", "weights_sha256")),
        "calibration": _read(model / "calibration.json", ("score", "healthy_share", "candidates")),
        "healthy": held_out,
        "against_intensity": {short: as_json(v) for short, v in verdicts.items()},
        "metrics": {name: metrics["sequences"] for name, metrics in columns.items()},
    }
    del result["calibration"]["score"]["fields"]  # thousands of numbers that nobody reads; the model folder has them
    RESULTS.parent.mkdir(exist_ok=True)
    write_json(RESULTS, result)
    _show(verdicts, columns)
    return 0


def _timed(command: Callable[[Sequence[str]], int], argv: Sequence[str]) -> float:
    began = time.monotonic()
    if command(argv) != 0:
        raise AnatomadError(f"'{' '.join(argv)}' failed; its message stands above")
    return round(time.monotonic() - began, 1)


def _seconds_in_steps(log: Path) -> dict[str, float]:
    """Time that the steps of each stage took, all attempts together: a resumed run has a shorter one of its own."""
    total: dict[str, float] = {}
    done: dict[str, int] = {}
    for record in map(json.loads, log.read_text(encoding="utf-8").splitlines()):
        if record["kind"] == "steps":
            stage, step = record["stage"], record["step"]
            total[stage] = total.get(stage, 0.0) + record["seconds"] * (step - done.get(stage, 0))
            done[stage] = step
    return {stage: round(seconds, 1) for stage, seconds in total.items()}


def _train(argv: Sequence[str]) -> int:
    data, work = Path(argv[argv.index("--root") + 1]), Path(argv[argv.index("--work") + 1])
    splits = dataset_folder(find_dataset(HEALTHY, data), work) / "splits.json"
    folds = [fold.model_dump(mode="json") for fold in read_splits(splits)]
    folds[0]["train"] = [case for case in folds[0]["train"] if case not in folds[1]["val"]]
    write_json(splits, folds)
    return train.main([argv[0], "fold0", *argv[1:]])


def _predict_healthy(args: argparse.Namespace, folders: Sequence[str]) -> dict[str, Any]:
    """Share of the brain under p = 0.01 and its volume, in fold 0 (calibrates) and fold 1 (seen by nothing)."""
    dataset = find_dataset(HEALTHY, args.data)
    folds = read_splits(dataset_folder(dataset, args.work) / "splits.json")
    out, found = args.work / "healthy", {}
    for name, fold in (("calibration fold", folds[0]), ("untouched fold", folds[1])):
        reports = []
        for case in dataset.training_cases():
            if case.id in fold.val:
                for path in case.channels.values():
                    _timed(predict.main, ["-i", str(path), "-o", str(out), "-d", HEALTHY, *folders])
                reports.append(_read(out / f"{case.id}.json", ("anomalous_ml", "brain_ml")))
        share = sum(r["anomalous_ml"] for r in reports) / sum(r["brain_ml"] for r in reports)
        mean = sum(r["anomalous_ml"] for r in reports) / len(reports)
        found[name] = {"scans": len(reports), "share": round(share, 5), "false_positive_ml": round(mean, 2)}
    return found


def _evaluate(predictions: Path, labels: Path, healthy: Path) -> dict[str, Any]:
    target = predictions / "metrics.json"
    _timed(evaluate.main, ["-p", str(predictions), "-r", str(labels), "--healthy", str(healthy), "-o", str(target)])
    return dict(json.loads(target.read_bytes()))


def _read(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    content = json.loads(path.read_bytes())
    return {key: content[key] for key in keys}


def _machine() -> dict[str, Any]:
    return {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "anatomad": anatomad.__version__,
    }


def _show(verdicts: dict[str, list[Verdict]], columns: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "AP", "Dice*", "rule AP", "rule Dice*", *LABEL_FREE, title="* oracle threshold")
    for short, rows in verdicts.items():
        for v in rows:
            measured = columns[f"{short} each"]["sequences"][v.sequence]
            free = [_text(measured.get(name)) for name in LABEL_FREE]
            numbers = (v.precision, v.dice, v.rule_precision, v.rule_dice)
            table.add_row(f"{short} {v.sequence}", *(f"{x:.3f}" for x in numbers), *free)
        for name, measured in columns[f"{short} fused"]["sequences"].items():
            ap, dice = _text(measured.get("pooled_ap")), _text(measured.get("oracle_dice"))
            table.add_row(f"{short} {name} (fused)", ap, dice, "", "", *(_text(measured.get(n)) for n in LABEL_FREE))
    Console(width=140).print(table)
    say(f"results: {RESULTS}")


def _text(metric: dict[str, Any] | None) -> str:
    value = None if metric is None else metric.get("value")
    return "" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main())

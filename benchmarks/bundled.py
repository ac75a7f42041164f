"""The bundled model on patients of other centres: the table of the README and of the model card.

    python benchmarks/bundled.py --data DIR [--work DIR]

``DIR`` holds Dataset101 and Dataset102 (patients, four sequences, labels for measuring) and Dataset002 (healthy scans
with flaws). Scans are judged by ``anatomad_predict`` without any model named, each alone and the sequences of a patient
fused; always afresh, since the time that it takes is measured. The table shows the model beside the intensity rule that
suits each column's labels best. Results go to ``benchmarks/results/bundled.json``.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import anatomad
from anatomad.benchmark.measure import AS_PREDICTED, P01, measure_healthy
from anatomad.cli import evaluate, predict
from anatomad.cli.common import make_parser, run_command, say
from anatomad.demo.compare import Verdict, as_json, compare
from anatomad.errors import AnatomadError, UsageError
from anatomad.evaluate.cases import find, read_maps
from anatomad.io.atomic import write_json
from anatomad.planner.dataset import find_dataset

RESULTS = Path(__file__).parent / "results" / "bundled.json"
HEALTHY, PATIENTS = "002", {"G": "101", "M": "102"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = make_parser("bundled.py", "The bundled model on patients, beside intensity thresholding.")
    parser.add_argument("--data", required=True, type=Path, help="folder of the data sets")
    parser.add_argument("--work", type=Path, default=Path("bundled-work"), help="folder for predictions")
    return run_command(_benchmark, parser.parse_args(argv))


def _benchmark(args: argparse.Namespace) -> int:
    if args.work.exists():
        raise UsageError(f"{args.work}: is there already; delete it or name another folder with --work")
    healthy = args.work / HEALTHY
    _timed(predict.main, ["-i", str(find_dataset(HEALTHY, args.data).path / "imagesTs"), "-o", str(healthy)])
    columns: dict[str, Any] = {}
    verdicts: dict[str, list[Verdict]] = {}
    seconds: dict[str, float] = {}
    marked: dict[str, dict[str, float]] = {}
    for short, number in PATIENTS.items():
        raw_folder, out = find_dataset(number, args.data).path, args.work / number
        scans, labels = raw_folder / "imagesTs", raw_folder / "labelsTs"
        counts = {"each": len(list(scans.glob("*.nii.gz"))), "fused": len(list(labels.glob("*.nii.gz")))}
        for kind, option in (("each", ["--each"]), ("fused", [])):
            took = _timed(predict.main, ["-i", str(scans), "-o", str(out / kind), *option])
            seconds[f"{short} {kind}"] = round(took / counts[kind], 2)
            columns[f"{short} {kind}"] = _evaluate(out / kind, labels)
        verdicts[short] = compare(columns[f"{short} each"], scans, out / "each", labels)
        marked[short] = _marked(out / "each", labels)
    result = {
        "machine": _machine(),
        "model": _model(),
        "seconds_per_item": seconds,
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "healthy_with_flaws": measure_healthy(healthy)[AS_PREDICTED],
        "marked_in_slices_without_lesion": marked,
        "against_intensity": {short: as_json(v) for short, v in verdicts.items()},
        "metrics": {name: metrics["sequences"] for name, metrics in columns.items()},
    }
    write_json(RESULTS, result)
    _show(verdicts, columns)
    return 0


def _timed(command: Callable[[Sequence[str]], int], argv: Sequence[str]) -> float:
    began = time.monotonic()
    if command(argv) != 0:
        raise AnatomadError(f"'{' '.join(argv)}' failed; its message stands above")
    return time.monotonic() - began


def _evaluate(predictions: Path, labels: Path) -> dict[str, Any]:
    target = predictions / "metrics.json"
    _timed(evaluate.main, ["-p", str(predictions), "-r", str(labels), "-o", str(target)])
    return dict(json.loads(target.read_bytes()))


def _marked(predictions: Path, labels: Path) -> dict[str, float]:
    """Per sequence, the share of the brain under p = 0.01 in those axial slices that hold no lesion."""
    inside, total = defaultdict(int), defaultdict(int)
    for prediction in find(predictions, labels).predictions:
        maps = read_maps(prediction)
        clean = ~maps.lesion.any((0, 1))
        inside[prediction.sequence] += int(np.sum((maps.anomaly >= P01)[..., clean]))
        total[prediction.sequence] += int(np.sum(maps.brain[..., clean]))
    return {sequence: round(inside[sequence] / total[sequence], 5) for sequence in total}


def _model() -> dict[str, Any]:
    description = json.loads((predict.BUNDLED / "model.json").read_bytes())
    calibration = json.loads((predict.BUNDLED / "calibration.json").read_bytes())
    for evidence in (calibration["score"]["residual"], *calibration["score"]["supplements"]):
        del evidence["fields"]  # thousands of numbers; the model folder has them
    return {key: description[key] for key in ("weights_sha256", "steps", "hardware", "threads")} | {
        key: calibration[key] for key in ("score", "healthy_share", "candidates")
    }


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

    table = Table("", "AP", "Dice*", "rule AP", "rule Dice*", "AP per scan", "Dice", title="* oracle threshold")
    for short, rows in verdicts.items():
        for v in rows:
            measured = columns[f"{short} each"]["sequences"][v.sequence]
            numbers = (v.precision, v.dice, v.rule_precision, v.rule_dice, *_values(measured))
            table.add_row(f"{short} {v.sequence}", *(f"{x:.3f}" for x in numbers))
        for measured in columns[f"{short} fused"]["sequences"].values():
            ap, dice, *more = _values(measured, "pooled_ap", "oracle_dice", "mean_ap", "calibrated_dice")
            table.add_row(f"{short} fused", f"{ap:.3f}", f"{dice:.3f}", "", "", *(f"{x:.3f}" for x in more))
    Console(width=120).print(table)
    say(f"results: {RESULTS}")


def _values(measured: dict[str, Any], *names: str) -> list[float]:
    return [measured[name]["value"] for name in names or ("mean_ap", "calibrated_dice")]


if __name__ == "__main__":
    sys.exit(main())

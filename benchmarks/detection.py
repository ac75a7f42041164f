"""Detection on real scans: all methods, trained on healthy T1w, on patients of other sequences and centres.

    python benchmarks/detection.py --data DIR [--work DIR] [--time 27m] [-m dal dae ...]

``DIR`` holds Dataset001 (healthy, T1w), Dataset002 (healthy, flawed), and Dataset101 and Dataset102 (patients, four
sequences, labels for measuring). This is `anatomad_benchmark` with these names; its estimates and comparisons go to
``benchmarks/results/detection.json``, all else stays in the folder of ``--work``. Started again, it goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from anatomad.cli import benchmark
from anatomad.io.atomic import write_json

RESULTS = Path(__file__).parent / "results" / "detection.json"
DATA_SETS = ["-d", "001", "-t", "101", "102", "--healthy", "002"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; options that are not listed here go to `anatomad_benchmark`; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="detection.py", description="anatomad_benchmark on the data sets of the README"
    )
    parser.add_argument("--data", required=True, type=Path, help="folder of the data sets")
    parser.add_argument("--work", type=Path, default=Path("detection-work"), help="folder for plan, models and tables")
    parser.add_argument("--time", default="27m", help="time for each training (default: 27m)")
    args, more = parser.parse_known_args(argv)
    folders = ["--root", str(args.data), "--work", str(args.work), "-o", str(args.work / "benchmark")]
    code = benchmark.main([*DATA_SETS, *folders, "--time", args.time, *more])
    tables = args.work / "benchmark" / "benchmark.json"
    if code in (0, 3) and "--dry-run" not in more and tables.is_file():
        found = json.loads(tables.read_bytes())
        for method in found["methods"].values():
            for run in method["runs"]:
                del run["columns"]  # single patients: the folder has them, the repository needs none
        write_json(RESULTS, found)
    return code


if __name__ == "__main__":
    sys.exit(main())

"""How well ``planner/memory.py`` predicts: the real training step and prediction, traced on fake tensors.

``python benchmarks/memory.py`` writes benchmarks/results/memory.json, one row per configuration.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from anatomad.io.atomic import write_json
from anatomad.planner import memory
from anatomad.planner.fingerprint import CaseFingerprint, ChannelFingerprint, Fingerprint
from anatomad.planner.machine import Machine
from anatomad.planner.planning import make_plan
from benchmarks.traced import prediction_peak, step_peaks

RESULTS = Path(__file__).parent / "results" / "memory.json"
SCANS = {"1 mm": (1.0, 1.0, 1.0), "thick slices": (0.5, 0.5, 6.0)}
CARDS_GB = (4, 8, 16, 40, 80)
FINE = {"spacing_mm": "[1, 1, 1]"}


def fingerprint(spacing_mm: tuple[float, float, float]) -> Fingerprint:
    """Ten brains of usual size."""
    image = ChannelFingerprint.model_construct(
        spacing_mm=spacing_mm, orientation="RAS", brain_extent_mm=(139.0, 172.0, 141.0), noise=0.01, bias=0.1
    )
    cases = tuple(CaseFingerprint.model_construct(id=f"c{n}", channels={0: image}) for n in range(10))
    return Fingerprint.model_construct(version=1, dataset="Dataset001_Any", channel_names={0: "T1w"}, cases=cases)


def machines() -> Iterator[Machine]:
    """From a laptop to a large card."""
    for precision in ("float32", "bfloat16"):
        yield Machine(kind="cpu", memory_gb=4, precision=precision)
    for memory_gb in CARDS_GB:
        yield Machine(kind="gpu", memory_gb=memory_gb, precision="bfloat16")


def rows() -> Iterator[dict[str, Any]]:
    """Measure every configuration of every plan."""
    for (scan, spacing_mm), machine, settings in product(SCANS.items(), machines(), ({}, FINE)):
        if settings and (scan != "1 mm" or machine.kind == "cpu"):
            continue
        planned = make_plan(fingerprint(spacing_mm), machine, settings=settings)
        for name in planned.configurations:
            plan = planned.configuration(name)
            needs = memory.predict(plan, machine.precision, machine.kind)
            step = max(step_peaks(plan, machine.precision, machine.kind).values())
            scan_peak = prediction_peak(plan, machine.precision, machine.kind)
            yield {
                "scans": scan,
                "spacing_mm": plan.spacing_mm,
                "machine": f"{machine.kind} {machine.memory_gb:g} GB",
                "precision": machine.precision,
                "configuration": name,
                "patch": plan.patch,
                "features": plan.features,
                "batch_size": plan.batch_size,
                "training_mb": {"predicted": needs.training_mb(), "traced": round(step / memory.MB, 1)},
                "prediction_mb": {"predicted": needs.prediction_mb(), "traced": round(scan_peak / memory.MB, 1)},
                "training_ratio": round(needs.training_mb() * memory.MB / step, 3),
                "prediction_ratio": round(needs.prediction_mb() * memory.MB / scan_peak, 3),
            }


def main() -> None:
    """Write the table."""
    found = []
    for row in rows():
        found.append(row)
        sys.stdout.write(f"{row}\n")
        sys.stdout.flush()
    ratios = [row[key] for row in found for key in ("training_ratio", "prediction_ratio")]
    summary = {"torch": torch.__version__, "rows": len(found), "least": min(ratios), "most": max(ratios)}
    write_json(RESULTS, {"summary": summary, "ratio": "predicted / traced", "configurations": found})


if __name__ == "__main__":
    main()

"""How well ``planner/memory.py`` predicts: the real training step and prediction, traced on fake tensors.

``python benchmarks/memory.py`` writes benchmarks/results/memory.json, one row per configuration, each as soon as it is
there. Run again, it traces what is missing, and everything when the traced code has changed.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from anatomad.io.atomic import write_json
from anatomad.planner import memory
from anatomad.planner.machine import Machine
from anatomad.planner.plan import Plan
from anatomad.planner.planning import make_plan
from anatomad.planner.records import PERCENTILES, CaseFingerprint, ChannelFingerprint, Fingerprint, Triple
from benchmarks.traced import prediction_peak, step_peaks

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "memory.json"
TRACED = ("models", "synth", "kernels", "train", "predict")

Row = dict[str, Any]


@dataclass(frozen=True)
class Scans:
    """Ten brains of one size, scanned alike."""

    name: str
    voxel_mm: Triple
    brain_mm: Triple = (139.0, 172.0, 141.0)
    working_mm: str | None = None  # set by hand

    def fingerprint(self) -> Fingerprint:
        """Fingerprint of their data set."""
        size = [side / voxel for side, voxel in zip(self.brain_mm, self.voxel_mm, strict=True)]
        image = ChannelFingerprint(
            shape=(round(size[0]), round(size[1]), round(size[2])),
            spacing_mm=self.voxel_mm,
            orientation="RAS",
            dtype="int16",
            mask_source="stripped",
            mask_doubt=None,
            brain_ml=math.prod(self.brain_mm) / 2000,
            brain_extent_mm=self.brain_mm,
            percentiles=tuple(10.0 * level for level, _ in enumerate(PERCENTILES)),
            noise=0.01,
            bias=0.1,
            nonfinite_share=0.0,
        )
        cases = tuple(CaseFingerprint(id=f"c{n}", channels={0: image}) for n in range(10))
        return Fingerprint(dataset="Dataset001_Any", channel_names={0: "T1w"}, cases=cases)


def _machines(cpu_gb: float, *cards_gb: float) -> list[Machine]:
    kinds = [Machine(kind="cpu", memory_gb=cpu_gb, precision=precision) for precision in ("float32", "bfloat16")]
    return kinds + [Machine(kind="gpu", memory_gb=size, precision="bfloat16") for size in cards_gb]


# The model was made with traces of the first group. When 18 rows of the second had been traced it got one more moment,
# for a row of the first that it missed: averaging the answers of three axes. The third was traced after that.
GROUPS = {
    "read off": (
        (
            Scans("1 mm", (1.0, 1.0, 1.0)),
            Scans("1 mm, kept", (1.0, 1.0, 1.0), working_mm="[1, 1, 1]"),
            Scans("thick slices", (0.5, 0.5, 6.0)),
        ),
        _machines(4, 4, 8, 16, 40, 80),
    ),
    "held out": (
        (
            Scans("children", (1.2, 1.2, 1.2), (118.0, 150.0, 122.0), "[1.5, 1.5, 1.5]"),
            Scans("3 mm", (3.0, 3.0, 3.0), (145.0, 181.0, 150.0)),
            Scans("thick sagittal slices", (6.5, 0.9, 0.9), (132.0, 165.0, 135.0)),
        ),
        [*_machines(16, 6, 12, 24, 48), Machine(kind="gpu", memory_gb=11, precision="float32")],
    ),
    "held out later": (
        (
            Scans("neonates", (0.8, 0.8, 0.8), (85.0, 105.0, 80.0), "[1, 1, 1]"),
            Scans("2.5 mm", (2.5, 2.5, 2.5), (140.0, 175.0, 145.0)),
        ),
        _machines(8, 10, 32),
    ),
}


class Case(NamedTuple):
    """One configuration to measure."""

    group: str
    scans: str
    machine: Machine
    plan: Plan

    def key(self) -> str:
        """The same for cases that take the same memory."""
        text = self.plan.model_dump_json() + self.machine.precision + self.machine.kind
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def cases(groups: list[str]) -> dict[str, Case]:
    """The different configurations of all plans, smallest first."""
    found: dict[str, Case] = {}
    for group in groups:
        kinds, machines = GROUPS[group]
        for scans, machine in product(kinds, machines):
            settings = {"spacing_mm": scans.working_mm} if scans.working_mm else {}
            planned = make_plan(scans.fingerprint(), machine, settings=settings)
            for name in planned.configurations:
                case = Case(group, scans.name, machine, planned.configuration(name))
                found.setdefault(case.key(), case)
    return dict(sorted(found.items(), key=lambda item: item[1].plan.batch_size))


def row(case: Case, traced: dict[str, int]) -> Row:
    """A configuration, what was predicted, what the trace found, and how the two compare."""
    plan, machine = case.plan, case.machine
    needs = memory.predict(plan, machine.precision, machine.kind)
    predicted = {"training": memory.peak(needs.training), "prediction": memory.peak(needs.prediction)}
    return {
        "group": case.group,
        "scans": case.scans,
        "machine": f"{machine.kind} {machine.memory_gb:g} GB",
        "precision": machine.precision,
        "configuration": plan.configuration,
        "spacing_mm": plan.spacing_mm,
        "box": plan.box,
        "patch": plan.patch,
        "features": plan.features,
        "batch_size": plan.batch_size,
        "fullest": max(needs.training, key=lambda moment: memory.total(needs.training[moment])),
        "predicted_bytes": {name: round(size) for name, size in predicted.items()},
        "traced_bytes": traced,
        "predicted_over_traced": {name: round(size / traced[name], 4) for name, size in predicted.items()},
    }


def trace(case: Case) -> dict[str, int]:
    """Peaks of a training step, over all stages, and of a prediction."""
    settings = case.plan, case.machine.precision, case.machine.kind
    return {"training": max(step_peaks(*settings).values()), "prediction": prediction_peak(*settings)}


def code() -> str:
    """Digest of all that a trace depends on beside the plan."""
    files = [ROOT / "benchmarks" / "traced.py"]
    files += sorted(path for package in TRACED for path in (ROOT / "anatomad" / package).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files) + torch.__version__.encode()).hexdigest()[:16]


def earlier(digest: str) -> dict[str, Row]:
    """Rows of an earlier run of the same code, by key."""
    if not RESULTS.exists():
        return {}
    table = json.loads(RESULTS.read_text(encoding="utf-8"))
    return dict(table["configurations"]) if table["code"] == digest else {}


def summary(rows: list[Row]) -> Iterator[tuple[str, Row]]:
    """Number of rows and extreme ratios, by group."""
    for group in GROUPS:
        ratios = [ratio for each in rows if each["group"] == group for ratio in each["predicted_over_traced"].values()]
        if ratios:
            yield group, {"rows": len(ratios) // 2, "least": min(ratios), "most": max(ratios)}


def main() -> None:
    """Write the table; arguments name groups, else all are measured."""
    rows, digest = {}, code()
    known = earlier(digest)
    for key, case in cases(sys.argv[1:] or list(GROUPS)).items():
        rows[key] = row(case, known[key]["traced_bytes"] if key in known else trace(case))
        sys.stdout.write(f"{rows[key]}\n")
        sys.stdout.flush()
        table = {"torch": torch.__version__, "code": digest, "summary": dict(summary(list(rows.values())))}
        write_json(RESULTS, table | {"configurations": known | rows})


if __name__ == "__main__":
    main()

"""One run: a method with a seed, in a folder named by what it is made from.

A run of anything else - another plan, time, seed, training scan or version of anatomad - has another folder, so that
nothing finished is mistaken for something else and nothing is deleted. In the folder lies a results folder as the
commands know it: ``work/DatasetNNN_Name/{plan.json, splits.json, store}``, and the model after training.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anatomad
from anatomad.errors import DataError
from anatomad.io.atomic import write_json
from anatomad.planner.plan import PlanFile
from anatomad.planner.splits import Fold

FORMAT_VERSION = 1
TRAINING, ERROR, LOG = "training.json", "error.json", "log.txt"


@dataclass(frozen=True)
class Method:
    """A method as it is asked for: ``NAME``, or ``NAME:CONFIGURATION`` for another configuration of the plan."""

    name: str
    configuration: str | None = None

    @classmethod
    def parse(cls, text: str) -> Method:
        """Read ``dal`` or ``dal:3d``."""
        name, _, configuration = text.partition(":")
        return cls(name, configuration or None)

    def __str__(self) -> str:
        return self.name if self.configuration is None else f"{self.name}:{self.configuration}"


@dataclass(frozen=True)
class Run:
    """A method with a seed.

    Attributes:
        method: What is trained.
        seed: ``seed`` of its plan.
        folder: Of everything that comes of it.
        made_from: What the trained model depends on; ``folder`` is named by its digest.
    """

    method: Method
    seed: int
    folder: Path
    made_from: dict[str, Any]

    @property
    def name(self) -> str:
        """What the run is called in messages."""
        return f"{self.method}, seed {self.seed}"

    def work(self) -> Path:
        """Folder that the commands are given with ``--work``."""
        return self.folder / "work"

    def model(self) -> Path | None:
        """Folder of the trained model; None before training has ended."""
        return next((path.parent for path in sorted(self.work().glob("*/*/model.json"))), None)


@dataclass(frozen=True)
class Planned:
    """A planned data set: its name, raw and results folder, plan, and the fold to train."""

    name: str
    raw: Path
    folder: Path
    plan: PlanFile
    fold: Fold

    def inputs(self) -> dict[str, Any]:
        """What the store's sidecars say that the fold's cases were made from.

        Raises:
            DataError: a case is not in the store.
        """
        found = {}
        for case_id in (*self.fold.train, *self.fold.val):
            path = self.folder / "store" / f"{case_id}.json"
            try:
                sidecar = json.loads(path.read_bytes())
                found[case_id] = [sidecar["inputs"], sidecar["preprocessing"]]
            except (OSError, ValueError, KeyError, TypeError):
                raise DataError(f"{path}: missing or damaged; run 'anatomad_plan -d {self.name}' again") from None
        return found


def make_runs(planned: Planned, methods: Sequence[Method], seeds: int, time_s: float, out: Path) -> list[Run]:
    """Every method with every seed; the first seed is the plan's own.

    Raises:
        UsageError: a configuration that the plan has not.
        DataError: see `Planned.inputs`.
    """
    inputs = planned.inputs()
    return [
        _make_run(planned, inputs, method, planned.plan.seed + offset, time_s, out)
        for method in methods
        for offset in range(seeds)
    ]


def _make_run(planned: Planned, inputs: dict[str, Any], method: Method, seed: int, time_s: float, out: Path) -> Run:
    plan = planned.plan.configuration(method.configuration).model_copy(update={"seed": seed})
    made_from = {
        "anatomad": anatomad.__version__,
        "format": FORMAT_VERSION,
        "method": method.name,
        "plan": plan.digest(),
        "seed": seed,
        "time_s": time_s,
        "fold": planned.fold.model_dump(mode="json"),
        "inputs": inputs,
    }
    digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
    slug = str(method).replace(":", "-")
    return Run(method, seed, out / "runs" / f"{slug}-seed{seed}-{digest[:12]}", made_from)


def write_work(run: Run, planned: Planned) -> None:
    """Give the run a results folder with its own seed and fold, over the store of all."""
    folder = run.work() / planned.name
    write_json(folder / "plan.json", planned.plan.model_copy(update={"seed": run.seed}).model_dump(mode="json"))
    write_json(folder / "splits.json", [planned.fold.model_dump(mode="json")])
    link, store = folder / "store", str((planned.folder / "store").absolute())
    if link.is_symlink() and os.readlink(link) != store:
        link.unlink()
    if not link.is_symlink():
        link.symlink_to(store, target_is_directory=True)


def describe_model(folder: Path) -> dict[str, Any]:
    """Steps and hash of a finished model, and the share of healthy voxels that it marks, as its calibration found."""
    described, calibrated = (json.loads((folder / name).read_bytes()) for name in ("model.json", "calibration.json"))
    return {
        **{key: described[key] for key in ("steps", "skipped", "rollbacks", "weights_sha256")},
        "healthy_share": calibrated["healthy_share"],
    }


def finished_training(run: Run) -> dict[str, Any] | None:
    """What ``training.json`` says; None where the training has not ended."""
    return read_finished(run.folder / TRAINING, run.made_from)


def read_finished(path: Path, made_from: object) -> dict[str, Any] | None:
    """A JSON file that was made from just that; None where there is none."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    plain = json.loads(json.dumps(made_from))
    return content if isinstance(content, dict) and content.get("made_from") == plain else None


def note_error(run: Run, error: Exception) -> None:
    """Keep why a run failed, unless it could say so itself: a worker that was killed could not."""
    if not (run.folder / ERROR).exists():
        write_json(run.folder / ERROR, {"error": str(error)})


def error_of(run: Run) -> str | None:
    """Why the run failed when it was last tried; None where it did not."""
    try:
        return str(json.loads((run.folder / ERROR).read_bytes())["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return None

"""A tiny planned data set: two or more ellipsoid brains in a store, and a plan that trains in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel

from anatomad.io.atomic import write_json, write_tensors
from anatomad.planner.machine import Machine
from anatomad.planner.plan import (
    Configuration,
    Corruption,
    Memory,
    Plan,
    PlanFile,
    Postprocessing,
    Randomisation,
    Stages,
)
from anatomad.planner.splits import Fold
from anatomad.preprocess.store import preprocessing_digest
from anatomad.train.job import Job

SIDE = 16
NAME = "Dataset001_Tiny"
FOLD = Fold(train=("a", "b"), val=("c",))


def tiny_plan(**changes: Any) -> Plan:
    """Plan of 16x16x16 voxels and two resolutions, 3D unless asked otherwise."""
    three = changes.get("dimension") != 2
    resolutions = len(changes.get("features", "ab"))
    settings: dict[str, Any] = {
        "configuration": "3d" if three else "2d",
        "dataset": NAME,
        "channel_names": {0: "T1w"},
        "dimension": 3,
        "spacing_mm": (8.0, 8.0, 8.0),
        "multiple": (2 ** (resolutions - 1),) * 3,
        "box": (SIDE, SIDE, SIDE),
        "patch": (SIDE, SIDE, SIDE if three else 1),
        "features": (4, 8),
        "kernel_sizes": ((3, 3, 3 if three else 1),) * resolutions,
        "strides": ((1, 1, 1), *((2, 2, 2 if three else 1),) * (resolutions - 1)),
        "precision": "auto",
        "batch_size": 1,
        "learning_rate": 3e-3,
        "ema_decay": 0.9,
        "prior_weight": (1.0, 0.3),
        "temperature": (1.0, 0.5),
        "stages": Stages(anatomy=5, restoration=4, recoupling=3),
        "randomisation": Randomisation(
            class_mean=(0, 1),
            class_spread=(0.01, 0.08),
            gamma=(0.7, 1.5),
            bias=(0, 0.3),
            noise=(0, 0.05),
            blur_mm=(0, 3),
            slice_mm=(2, 16),
            rotation_deg=(-12, 12),
            scaling=(0.9, 1.1),
            elastic_mm=(0, 4),
        ),
        "corruption": Corruption(
            lesions=(0, 3), small_mm=(10, 20), large_mm=(30, 60), edge_dropout=(0, 0.3), erased_share=(0, 0.3)
        ),
        "smoothing_mm": (0.0,),
        "brain_mask": "auto",
        "normalisation": {0: (0.5, 99.5)},
        "edge_mm": (8.0, 8.0, 8.0),
        "postprocessing": Postprocessing(rim_mm=2, mask_p=0.01, smallest_mm3=0),
        "folds": 3,
    }
    return Plan(**settings | changes)


def plan_file(*plans: Plan) -> PlanFile:
    """Plan file whose configurations are ``plans``; what they share is that of the first."""
    shared = {key: getattr(plans[0], key) for key in PlanFile.model_fields if key in Plan.model_fields}
    own = Configuration.model_fields.keys() - {"memory_mb", "loader_workers"}
    memory = Memory(training=1, prediction=1)
    configurations = {
        plan.configuration: Configuration(memory_mb=memory, **{key: getattr(plan, key) for key in own})
        for plan in plans
    }
    machine = Machine(kind="cpu", memory_gb=4, precision="float32")
    return PlanFile(configurations=configurations, machine=machine, **shared)


def write_case(store: Path, case_id: str, plan: Plan, poison: float | None = None) -> None:
    """Store a brain of three nested ellipsoids; ``poison`` is put into its image."""
    rng = np.random.default_rng(sum(case_id.encode()))
    place = np.indices((SIDE, SIDE, SIDE)) - (SIDE - 1) / 2 + rng.uniform(-0.5, 0.5, (3, 1, 1, 1))
    distance = np.sqrt((place**2 / (np.array([6.5, 7.2, 6.0])[:, None, None, None] ** 2)).sum(0))
    label = np.select([distance < 0.3, distance < 0.65, distance < 0.85, distance < 1], [1, 3, 2, 1], 0)
    image = np.choose(label, [0.0, 0.2, 0.6, 0.9]) + rng.normal(0, 0.03, label.shape) * (label > 0)
    if poison is not None:
        image[label == 3] = poison
    write_tensors(
        store / f"{case_id}.safetensors",
        {
            "image": image[None].astype(np.float16),
            "mask": (label > 0).astype(np.uint8),
            "tissue": ((label == np.arange(4)[:, None, None, None]) * 255).astype(np.uint8),
        },
    )
    write_json(store / f"{case_id}.json", {"inputs": {"0": "-"}, "preprocessing": preprocessing_digest(plan)})


def make_job(root: Path, plan: Plan | None = None, fold: Fold = FOLD, **settings: Any) -> Job:
    """A job whose store holds the cases of ``fold``; existing ones are left as they are."""
    plan = plan or tiny_plan()
    for case_id in {*fold.train, *fold.val}:
        if not (root / "store" / f"{case_id}.json").exists():
            write_case(root / "store", case_id, plan)
    return Job(plan, fold, root / "store", root / "fold0", torch.device("cpu"), **settings)


def write_dataset(root: Path, plan: Plan | None = None, *others: Plan) -> Path:
    """Raw data set and its results folder ROOT/anatomad/Dataset001_Tiny with plan, folds and store."""
    plan = plan or tiny_plan()
    (root / NAME).mkdir(parents=True)
    (root / NAME / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T1w"}}))
    folder = root / "anatomad" / NAME
    for case_id in "abc":
        write_case(folder / "store", case_id, plan)
    write_json(folder / "plan.json", plan_file(plan, *others).model_dump(mode="json"))
    write_json(folder / "splits.json", [FOLD.model_dump(mode="json")])
    return folder


class NoCalibration(BaseModel):
    """Stands for a calibration where a test is about training only."""

    cases: list[str]


def no_calibration(model: Any, plan: Plan, validation: list[Any], device: Any, method: Any = None) -> NoCalibration:
    """Record who would have been calibrated on."""
    return NoCalibration(cases=[case.id for case in validation])

"""What is to be trained, and the folder of the model that comes of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel
from torch import nn

from anatomad.io.atomic import write_json, write_tensors
from anatomad.planner.plan import Plan, kept_plan
from anatomad.planner.splits import Fold
from anatomad.preprocess.store import StoredCase
from anatomad.train.checkpoint import RunState
from anatomad.train.log import Record
from anatomad.train.method import DAL, Method

MODEL_FORMAT = "anatomad model"

Calibrate = Callable[[nn.Module, Plan, Sequence[StoredCase], torch.device], BaseModel]


@dataclass(frozen=True)
class Job:
    """A fold to train.

    Attributes:
        plan: The data set's plan.
        fold: Training and validation cases.
        store: Folder of the preprocessed cases.
        folder: Where the model goes.
        device: Where to compute.
        budget_s: Seconds the whole run may take; None takes the plan's steps.
        checkpoint_s: Seconds between two checkpoints.
        method: What to train.
        loader_workers: Threads that read cases ahead where they are not kept in memory.
    """

    plan: Plan
    fold: Fold
    store: Path
    folder: Path
    device: torch.device
    budget_s: float | None = None
    checkpoint_s: float = 60.0
    method: Method = DAL
    loader_workers: int = 0

    def identity(self) -> str:
        """Digest of what a checkpoint must have been made with to be continued."""
        other = [] if self.method.name == DAL.name else [self.method.name]
        parts = [self.plan.digest(), self.fold.model_dump(), *other]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def finished_model(folder: Path) -> Record | None:
    """Description of the finished model in ``folder``; None where training is not done."""
    try:
        description = json.loads((folder / "model.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return description if isinstance(description, dict) and description.get("finished") is True else None


def trained_under(plan: Plan, description: Record) -> bool:
    """Whether a model's description keeps that plan, or one of the version before that does the same."""
    try:
        return kept_plan(description["plan"]) == plan
    except (KeyError, TypeError, ValueError):
        return False


def write_model(job: Job, model: nn.Module, calibration: BaseModel, state: RunState, environment: Record) -> None:
    """Write weights, calibration and, last, the description that says that all is there."""
    path = job.folder / "weights.safetensors"
    write_tensors(path, {name: tensor.cpu().numpy() for name, tensor in model.state_dict().items()})
    write_json(job.folder / "calibration.json", calibration.model_dump(mode="json"))
    description: Record = {
        "format": MODEL_FORMAT,
        "version": 1,
        "finished": True,
        "method": job.method.name,
        "dataset": job.plan.dataset,
        "fold": job.folder.name,
        "plan_sha256": job.plan.digest(),
        "weights_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "steps": state.steps,
        "skipped": state.skipped,
        "rollbacks": state.rollbacks,
        **environment,
        "plan": job.plan.model_dump(mode="json"),
    }
    write_json(job.folder / "model.json", description)

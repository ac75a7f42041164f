"""A trained model on disk: weights, plan and calibration in one folder, without pickle."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from anatomad.errors import ModelError
from anatomad.planner.plan import Plan
from anatomad.predict.calibration import Calibration
from anatomad.predict.reader import DAL, Reader

WEIGHTS, DESCRIPTION, CALIBRATION = "weights.safetensors", "model.json", "calibration.json"


@dataclass(frozen=True)
class Model:
    """A model ready to predict: networks in evaluation mode, their plan and calibration, and the weights' SHA-256."""

    networks: nn.Module
    plan: Plan
    calibration: Calibration
    digest: str
    folder: Path
    device: torch.device
    method: Reader = DAL


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelError(
            f"{path}: not there; a finished model folder holds {WEIGHTS}, {DESCRIPTION} and {CALIBRATION}: "
            "run the same 'anatomad_train' command again to finish it"
        ) from None


@contextlib.contextmanager
def _damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}, the first of {error.error_count()}"
        raise ModelError(f"{path}: damaged or of another version of anatomad ({problem}); train again") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: damaged ({error}); train again") from None


def load_model(folder: Path, device: str | torch.device = "cpu", methods: Iterable[Reader] = (DAL,)) -> Model:
    """Load a finished model folder.

    Args:
        folder: As ``anatomad_train`` leaves it.
        device: Where to compute.
        methods: Those that may have trained it; no other code is run, whatever the folder says.

    Raises:
        ModelError: a file is missing or damaged, or weights, plan and calibration do not belong together.
    """
    weights, described, calibrated = (_read(folder / name) for name in (WEIGHTS, DESCRIPTION, CALIBRATION))
    digest = hashlib.sha256(weights).hexdigest()
    with _damaged(folder / DESCRIPTION):
        description = json.loads(described)
        plan = Plan.model_validate(description["plan"])
        name = str(description.get("method", DAL.name))  # models of before there were others do not say
    with _damaged(folder / CALIBRATION):
        calibration = Calibration.model_validate_json(calibrated)
    if description.get("weights_sha256") != digest:
        raise ModelError(f"{folder / WEIGHTS}: SHA-256 {digest[:12]} is not the one in {DESCRIPTION}; train again")
    if description.get("plan_sha256") != plan.digest():
        raise ModelError(f"{folder / DESCRIPTION}: its plan is not the one that was trained; train again")
    method = next((known for known in methods if known.name == name), None)
    if method is None:
        raise ModelError(f"{folder / DESCRIPTION}: method {name!r} is not known here; train again with another one")
    networks = method.networks(plan)
    try:
        networks.load_state_dict(load(weights))
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(f"{folder / WEIGHTS}: does not fit its plan ({error}); train again") from None
    networks = networks.to(device).eval().requires_grad_(False)
    return Model(networks, plan, calibration, digest, folder, torch.device(device), method)

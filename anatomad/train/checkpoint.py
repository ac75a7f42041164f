"""Checkpoints: everything that the next step depends on, in safetensors and JSON.

Randomness needs no state here, as every draw is keyed by (seed, stage, step, sample). The tensors are written first and
the JSON that vouches for them by SHA-256 last, so a run killed at any moment finds a whole checkpoint, at worst the one
before.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anatomad.errors import DataError
from anatomad.io.atomic import read_tensors, write_json, write_tensors
from anatomad.train.learner import Tensors

KEPT = 2

_log = logging.getLogger(__name__)


class RunState(BaseModel):
    """Where a run stands.

    Attributes:
        identity: Digest of the plan and the fold's cases; a checkpoint of another identity is not continued.
        steps: Steps per stage, fixed when the run began.
        watched: Validation cases looked at after each stage.
        stage: Index of the present stage; the number of stages when all are done.
        step: Steps made in the stage.
        rate_factor: Halved at every roll-back.
        streak: Steps skipped in a row.
        skipped: Steps skipped since the run began.
        rollbacks: Roll-backs since the run began.
        log_lines: Lines of the log that belong to this state.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    identity: str
    steps: dict[str, int]
    watched: int = Field(gt=0)
    stage: int = Field(default=0, ge=0)
    step: int = Field(default=0, ge=0)
    rate_factor: float = Field(default=1.0, gt=0)
    streak: int = 0
    skipped: int = 0
    rollbacks: int = 0
    log_lines: int = 0


class _Pointer(BaseModel):
    tensors: str
    sha256: str
    state: RunState


def save(folder: Path, state: RunState, tensors: Tensors) -> None:
    """Write a checkpoint and remove all but the newest two.

    Raises:
        ResourceError: no space left; earlier checkpoints are untouched.
    """
    name = f"{state.stage}-{state.step:07d}"
    path = folder / f"{name}.safetensors"
    write_tensors(path, {key: tensor.cpu().numpy() for key, tensor in tensors.items()})
    pointer = _Pointer(tensors=path.name, sha256=_sha256(path), state=state)
    write_json(folder / f"{name}.json", pointer.model_dump(mode="json"))
    _prune(folder)


def load(folder: Path) -> tuple[RunState, Tensors] | None:
    """Read the newest checkpoint that is whole; None where there is none.

    Remains of writes that were cut short are removed, and so are checkpoints that cannot be used: a later step of
    theirs would otherwise outlive what is written from now on.
    """
    for remains in folder.glob(".*.tmp"):
        remains.unlink(missing_ok=True)
    found = _pointers(folder)[::-1]
    for path in found:
        try:
            return _load(path)
        except (DataError, ValidationError, FileNotFoundError) as error:
            _log.warning("%s: not usable and removed (%s)", path, str(error).splitlines()[0])
            path.unlink()
    if found:
        _log.warning("%s: no usable checkpoint is left, training starts anew", folder)
    return None


def _pointers(folder: Path) -> list[Path]:
    """What vouches for the checkpoints, oldest first."""
    return sorted(folder.glob("*-*.json"), key=lambda path: [int(number) for number in path.stem.split("-")])


def _load(path: Path) -> tuple[RunState, Tensors]:
    pointer = _Pointer.model_validate_json(path.read_bytes())
    tensors = path.with_name(Path(pointer.tensors).name)
    if _sha256(tensors) != pointer.sha256:
        raise DataError(f"{tensors}: its SHA-256 is not the one in {path.name}")
    return pointer.state, {name: torch.from_numpy(array) for name, array in read_tensors(tensors).items()}


def _prune(folder: Path) -> None:
    kept = {path.stem for path in _pointers(folder)[-KEPT:]}
    for pattern in ("*.json", "*.safetensors"):  # pointers first: none may name tensors that are gone
        for path in folder.glob(pattern):
            if path.stem not in kept:
                path.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""The plan: every decision of a data set's configuration, validated, hashed and explained."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from anatomad.errors import PlanError

PLAN_VERSION: Literal[1] = 1
TISSUES = ("background", "csf", "grey matter", "white matter")

Range = tuple[float, float]
Positive = Annotated[float, Field(gt=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Decision(_Frozen):
    """One decision: its value and the sentence that says which numbers led to it."""

    name: str
    value: str
    reason: str


class Randomisation(_Frozen):
    """Ranges of the contrast randomisation; each draw is uniform within its range."""

    class_mean: Range = Field(description="tissue mean, in units of the image's [0, 1] range")
    class_spread: Range = Field(description="SD within a tissue, same unit")
    gamma: Range = Field(description="exponent of the intensity remap")
    bias: Range = Field(description="SD of the log bias field")
    noise: Range = Field(description="SD of additive noise, same unit as class_mean")
    blur_mm: Range = Field(description="Gaussian FWHM in mm")
    slice_mm: Range = Field(description="simulated slice thickness along one axis in mm")
    rotation_deg: Range
    scaling: Range = Field(description="isotropic zoom factor")
    elastic_mm: Range = Field(description="SD of the smooth displacement in mm")


class Corruption(_Frozen):
    """Lesion-like corruption of anatomy and images; sizes are diameters in mm."""

    lesions: tuple[int, int] = Field(description="number of lesions per volume, inclusive")
    small_mm: Range
    large_mm: Range
    edge_dropout: Range = Field(description="share of edge voxels removed")
    erased_share: Range = Field(description="share of the volume whose edges are erased in boxes")


class Stages(_Frozen):
    """Optimiser steps per stage, used when no time budget is given; a budget keeps their proportions."""

    anatomy: Annotated[int, Field(gt=0)]
    restoration: Annotated[int, Field(gt=0)]
    recoupling: Annotated[int, Field(gt=0)]


class Plan(_Frozen):
    """Configuration of one data set. Axes are those of the canonical (RAS) working grid."""

    version: Literal[1] = PLAN_VERSION
    dataset: str
    channel_names: dict[int, str]
    dimension: Literal[2, 3]
    spacing_mm: tuple[Positive, Positive, Positive]
    box: tuple[int, int, int] = Field(description="working volume in voxels; holds every training brain")
    patch: tuple[int, int, int] = Field(
        description="training patch in voxels; in 2D a slice (u, v, 1) across any of the three axes"
    )
    tissues: tuple[str, ...] = TISSUES
    features: tuple[int, ...] = Field(min_length=2)
    batch_size: Annotated[int, Field(gt=0)]
    learning_rate: Positive
    ema_decay: Annotated[float, Field(gt=0, lt=1)]
    prior_weight: Range = Field(description="weight of the anatomical-prior loss, at the start and the end")
    temperature: Range = Field(description="temperature of the differentiable one-hot, at the start and the end")
    stages: Stages
    randomisation: Randomisation
    corruption: Corruption
    smoothing_mm: tuple[float, ...] = Field(description="Gaussian FWHMs at which the residual is read")
    folds: Annotated[int, Field(gt=0)]
    seed: int = 0
    decisions: tuple[Decision, ...] = ()

    @model_validator(mode="after")
    def _divisible(self) -> Plan:
        stride = 2 ** (len(self.features) - 1)
        for name, shape in (("box", self.box), ("patch", self.patch)):
            for size in shape if name == "box" or self.dimension == 3 else shape[:2]:
                if size % stride:
                    raise ValueError(f"{name} {shape} must divide by {stride}, the network's total stride")
        return self

    @model_validator(mode="after")
    def _slices(self) -> Plan:
        if self.dimension == 2 and (self.patch[2] != 1 or len(set(self.spacing_mm)) > 1):
            raise ValueError(
                f"a 2D configuration looks along all three axes: patch {self.patch} must be (u, v, 1) and spacing_mm "
                f"{self.spacing_mm} the same along each"
            )
        return self

    def digest(self) -> str:
        """SHA-256 of the canonical JSON form; travels into models and predictions."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def read_plan(path: Path) -> Plan:
    """Read and validate ``plan.json``.

    Raises:
        PlanError: missing, not JSON, or a key that is unknown, absent or out of range (each named).
    """
    try:
        return Plan.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise PlanError(f"{path}: no plan here; make one with 'anatomad_plan -d DATASET'") from None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'plan'}: {e['msg']}" for e in error.errors())
        raise PlanError(f"{path}: {problems}; mend the file or run 'anatomad_plan' again") from None

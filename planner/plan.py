"""The plan file: every decision for a data set, validated, hashed and explained; and the plan of one configuration."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from anatomad.errors import PlanError, UsageError
from anatomad.planner.machine import Machine, Precision
from anatomad.planner.migration import EARLIER, migrated
from anatomad.planner.ranges import (
    Amounts,
    Count,
    Counts,
    NotNegative,
    Number,
    Numbers,
    Percentiles,
    Positive,
    PositiveRange,
    Range,
    Seed,
    Shares,
)
from anatomad.preprocess.normalise import PERCENTILES

PLAN_VERSION: Literal[3] = 3
TISSUES = ("background", "csf", "grey matter", "white matter")
GROUPS = 4  # of the networks' group normalisation: every width is a multiple
RECOUPLING_WIDTH = 16  # channels of the recoupling decoder
METHOD = "dal"  # which is meant when none is named
SLICES = 24  # of a volume at a time: enough to keep two cores or a GPU busy, little enough memory

Treatment = Literal["auto", "stripped", "extract"]
Shape = tuple[int, int, int]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Decision(_Frozen):
    """One decision: its value, the figures that it came from, and the sentence that says how."""

    name: str
    value: str
    reason: str
    numbers: dict[str, float] = {}


class Override(_Frozen):
    """A decision that was set by hand: what holds now, and what the rule had chosen."""

    name: str
    value: str
    original: str


class Randomisation(_Frozen):
    """Ranges of the contrast randomisation; each draw is uniform within its range."""

    class_mean: Range = Field(description="tissue mean, in units of the image's [0, 1] range")
    class_spread: Amounts = Field(description="SD within a tissue, same unit")
    gamma: PositiveRange = Field(description="exponent of the intensity remap")
    bias: Amounts = Field(description="SD of the log bias field at the nodes that it is interpolated from")
    noise: Amounts = Field(description="SD of additive noise, same unit as class_mean")
    blur_mm: Amounts = Field(description="Gaussian FWHM in mm")
    slice_mm: Amounts = Field(description="simulated slice thickness along one axis in mm")
    rotation_deg: Range
    scaling: PositiveRange = Field(description="isotropic zoom factor")
    elastic_mm: Amounts = Field(description="SD of the displacement in mm, at the nodes that it is interpolated from")


class Corruption(_Frozen):
    """Lesion-like corruption of anatomy and images; sizes are diameters in mm."""

    lesions: Numbers = Field(description="number of lesions per volume, inclusive")
    small_mm: Amounts
    large_mm: Amounts
    edge_dropout: Shares = Field(description="share of edge voxels removed")
    erased_share: Shares = Field(description="share of the volume whose edges are erased in boxes")


class Stages(_Frozen):
    """Optimiser steps per stage, used when no time budget is given; a budget keeps their proportions."""

    anatomy: Count
    restoration: Count
    recoupling: Count


class Postprocessing(_Frozen):
    """From the anomaly map to what is called anomalous, in units that mean the same on every grid."""

    rim_mm: Positive = Field(description="outermost part of the brain that is not scored; one voxel at least")
    mask_p: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="share of healthy voxels that are as anomalous as the mask's least anomalous ones"
    )
    smallest_mm3: NotNegative = Field(description="smaller regions are left out of the mask")


class Memory(_Frozen):
    """Predicted peaks in MB (10^6 bytes) of tensors: of a training step, and of the prediction of a scan."""

    training: Positive
    prediction: Positive


class _Shared(_Frozen):
    """What all configurations of a data set have in common. Axes are those of the canonical (RAS) working grid."""

    dataset: str
    channel_names: dict[int, str]
    spacing_mm: tuple[Positive, Positive, Positive]
    multiple: Counts = Field(description="every side of a working volume divides by it")
    box: Counts = Field(description="working volume in voxels; holds every training brain")
    brain_mask: Treatment = Field(
        description="auto: kept where a scan is skull-stripped, else found; stripped: whole heads are refused; "
        "extract: found in every scan"
    )
    normalisation: dict[int, Percentiles] = Field(
        description="percentiles of the brain's intensities that become 0 and 1, per channel"
    )
    edge_mm: tuple[Positive, Positive, Positive] = Field(
        description="weighs edges, which always lie between next neighbours: one along an axis counts in inverse "
        "proportion to its number, so that only ratios matter; 2D configurations want the same along each axis"
    )
    tissues: tuple[str, ...] = TISSUES
    prior_weight: tuple[NotNegative, NotNegative] = Field(
        description="weight of the anatomical-prior loss, at the start and the end"
    )
    temperature: tuple[Positive, Positive] = Field(
        description="temperature of the differentiable one-hot, at the start and the end"
    )
    randomisation: Randomisation
    corruption: Corruption
    smoothing_mm: tuple[NotNegative, ...] = Field(
        description="Gaussian FWHMs at which the residual is read", min_length=1
    )
    postprocessing: Postprocessing
    folds: Count
    seed: Seed = 0

    @model_validator(mode="after")
    def _known_tissues(self) -> _Shared:
        if self.tissues != TISSUES:
            raise ValueError(
                f"tissues are {', '.join(TISSUES)}: the prior that every training case has knows no others"
            )
        return self

    @model_validator(mode="after")
    def _normalises_every_channel(self) -> _Shared:
        if self.normalisation.keys() != self.channel_names.keys():
            raise ValueError(
                f"normalisation has channels {sorted(self.normalisation)}, channel_names {sorted(self.channel_names)}"
            )
        for number, (low, high) in self.normalisation.items():
            if low >= high:
                raise ValueError(f"normalisation of channel {number}: {low:g} must lie below {high:g}")
        return self

    def percentiles(self, channel: int) -> Percentiles:
        """Percentiles of the brain that become 0 and 1; the usual ones for a channel that the data set did not have."""
        return self.normalisation.get(channel, PERCENTILES)

    def rim(self) -> Shape:
        """Voxels along each axis that make the brain's rim."""
        x, y, z = (max(1, round(self.postprocessing.rim_mm / mm)) for mm in self.spacing_mm)
        return x, y, z


def total_stride(strides: Sequence[Shape]) -> Shape:
    """Product of the strides of all resolutions, per axis."""
    x, y, z = (math.prod(axis) for axis in zip(*strides, strict=True))
    return x, y, z


def divisor(dimension: int, strides: Sequence[Shape]) -> Shape:
    """What the sides of a working volume divide by: 2D networks look along every axis."""
    total = total_stride(strides)
    return total if dimension == 3 else (max(total),) * 3


class _Network(_Frozen):
    """What a configuration decides for itself: the networks, what they are shown, and how they learn."""

    dimension: Literal[2, 3]
    patch: Counts = Field(description="training patch in voxels; in 2D a slice (u, v, 1) across any of the three axes")
    features: tuple[Count, ...] = Field(min_length=2, description="channels per resolution, finest first")
    kernel_sizes: tuple[Counts, ...] = Field(min_length=2, description="convolution per resolution and axis, odd")
    strides: tuple[Counts, ...] = Field(
        min_length=2, description="voxels per voxel of the next finer resolution; the first is 1"
    )
    batch_size: Count
    learning_rate: Positive
    ema_decay: Annotated[float, Field(gt=0, lt=1)]
    precision: Precision = Field(
        description="of convolutions; auto: bfloat16 where the hardware multiplies it natively"
    )
    stages: Stages

    def total_stride(self) -> Shape:
        """Voxels per axis of the patch that make one at the coarsest resolution."""
        return total_stride(self.strides)

    def divisor(self) -> Shape:
        """What each side of a working volume must divide by."""
        return divisor(self.dimension, self.strides)

    @model_validator(mode="after")
    def _resolutions(self) -> _Network:
        for name, rows in (("kernel_sizes", self.kernel_sizes), ("strides", self.strides)):
            if len(rows) != len(self.features):
                raise ValueError(f"{name} has {len(rows)} rows, features {len(self.features)}; each resolution has one")
        if any(width % GROUPS for width in self.features):
            raise ValueError(f"features {self.features} must be multiples of {GROUPS}, the groups of the normalisation")
        if any(size % 2 == 0 for row in self.kernel_sizes for size in row):
            raise ValueError(f"kernel_sizes {self.kernel_sizes} must be odd")
        if self.strides[0] != (1, 1, 1):
            raise ValueError(
                f"strides begin with {self.strides[0]}; the finest resolution is that of the patch: 1, 1, 1"
            )
        return self

    @model_validator(mode="after")
    def _patch_divides(self) -> _Network:
        total = self.total_stride()
        if any(side % step for side, step in zip(self.patch, total, strict=True)):
            raise ValueError(f"patch {self.patch} must divide by {total}, the network's total stride")
        if self.dimension == 2 and any(row[2] != 1 for row in (self.patch, *self.kernel_sizes, *self.strides)):
            raise ValueError(
                f"a 2D configuration sees slices: the last number of patch {self.patch}, of strides and of "
                "kernel_sizes must be 1"
            )
        return self


class Configuration(_Network):
    """One way to learn from a data set, with the memory that it is predicted to need.

    How cases are read changes nothing that is learnt, and so is no part of what a model keeps.
    """

    memory_mb: Memory
    loader_workers: Number = Field(
        default=0, description="threads that read the cases of the next batch; 0: none, cases stay in memory"
    )


class Plan(_Shared, _Network):
    """One configuration of a plan file with all that it shares with the others: what training and prediction need."""

    version: Literal[3] = PLAN_VERSION
    configuration: str

    @model_validator(mode="after")
    def _box_divides(self) -> Plan:
        check_box(self, self.configuration, self)
        return self

    def digest(self) -> str:
        """SHA-256 of the canonical JSON form; travels into models and predictions."""
        return digest_of(self.model_dump(mode="json"))


class PlanFile(_Shared):
    """``plan.json``: the configurations of a data set, what they share, for which machine, and why."""

    version: Literal[3] = PLAN_VERSION
    configurations: dict[str, Configuration] = Field(min_length=1)
    machine: Machine
    decisions: tuple[Decision, ...] = ()
    overrides: tuple[Override, ...] = ()

    @model_validator(mode="after")
    def _boxes_divide(self) -> PlanFile:
        for name, configuration in self.configurations.items():
            check_box(self, name, configuration)
        return self

    @property
    def default(self) -> str:
        """Configuration that is meant when none is named: slices where there are any."""
        return "2d" if "2d" in self.configurations else next(iter(self.configurations))

    def configuration(self, name: str | None = None) -> Plan:
        """The plan of one configuration.

        Raises:
            UsageError: no such configuration; lists those that exist.
        """
        chosen = name or self.default
        if chosen not in self.configurations:
            exists = ", ".join(self.configurations)
            raise UsageError(f"{self.dataset} has no configuration {chosen!r}; its plan has {exists}")
        shared = {key: getattr(self, key) for key in _Shared.model_fields}
        own = {key: getattr(self.configurations[chosen], key) for key in _Network.model_fields}
        return Plan(configuration=chosen, **shared, **own)

    def model_name(self, fold: int, configuration: str | None = None, method: str | None = None) -> str:
        """Folder of a fold's model: ``fold0``; beside another default ``fold0_3d``, of another method ``fold0_vae``."""
        named = ((configuration, self.default), (method, METHOD))
        return "_".join([f"fold{fold}", *(name for name, usual in named if name not in (None, usual))])


def check_box(shared: _Shared, name: str, network: _Network) -> None:
    """Check that the working volume suits a network.

    Raises:
        ValueError: box, spacing or weights of edges contradict the configuration ``name``.
    """
    divisor = network.divisor()
    if any(side % step for side, step in zip(shared.box, shared.multiple, strict=True)):
        raise ValueError(f"box {shared.box} must divide by multiple {shared.multiple}")
    if any(side % step for side, step in zip(shared.multiple, divisor, strict=True)):
        raise ValueError(f"multiple {shared.multiple} must divide by {divisor}, the total stride of {name}")
    if network.dimension == 2:
        _check_axes_are_alike(shared, name)


def _check_axes_are_alike(shared: _Shared, name: str) -> None:
    # Slices are turned into one plane: what would be told of an axis would be told of another one than was meant.
    for key, value in (("spacing_mm", shared.spacing_mm), ("edge_mm", shared.edge_mm)):
        if len(set(value)) > 1:
            raise ValueError(f"{name} looks along all three axes: {key} {value} must be the same along each")


def read_plan(path: Path) -> PlanFile:
    """Read and validate ``plan.json``.

    Raises:
        PlanError: missing, not JSON, of another version, or a key that is unknown, absent or out of range (each named).
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise PlanError(f"{path}: no plan here; make one with 'anatomad_plan -d DATASET'") from None
    version = _version(data)
    if version not in (None, EARLIER, PLAN_VERSION):
        raise PlanError(
            f"{path}: a plan of version {version}, this anatomad reads versions {EARLIER} and {PLAN_VERSION}; delete "
            "it and run 'anatomad_plan' again (decisions that were edited go back in with --set KEY=VALUE)"
        )
    try:
        return PlanFile.model_validate_json(_present(data) if version == EARLIER else data)
    except ValidationError as error:
        raise PlanError(f"{path}: {problems_of(error)}; mend the file or run 'anatomad_plan' again") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise PlanError(f"{path}: a damaged plan of version {EARLIER} ({error!r}); delete it to plan afresh") from None


def digest_of(values: Any) -> str:
    """SHA-256 of the canonical form of a plan's JSON values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def kept_plan(values: Any) -> Plan:
    """The plan that a model keeps; one of the version before is migrated.

    Raises:
        ValidationError: not a plan, or of another version.
        KeyError, TypeError: of the version before, and damaged.
    """
    earlier = isinstance(values, dict) and values.get("version") == EARLIER
    return Plan.model_validate(migrated(values) if earlier else values)


def problems_of(error: ValidationError) -> str:
    """Every problem of a validation with its key, and the number found there."""
    return "; ".join(
        f"{'.'.join(map(str, e['loc'])) or 'plan'}: {e['msg']}{_found(e['input'])}" for e in error.errors()
    )


def _found(value: Any) -> str:
    return f" (found {value:g})" if isinstance(value, int | float) else ""


def _present(data: bytes) -> str:
    return json.dumps(migrated(json.loads(data)))


def _version(data: bytes) -> Any:
    try:
        found = json.loads(data)
    except ValueError:
        return None
    return found.get("version") if isinstance(found, dict) else None

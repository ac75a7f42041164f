"""How much memory a plan needs: a training step and the prediction of a scan, line by line, without torch.

A line is something that the code holds at its fullest moment. For training that is the end of the forward pass, when
all that the backward pass needs is there, or, for large networks on small patches, the optimiser's step; for prediction
the finest resolution of a network, or the volumes that follow. Counted are tensors: what operators need while they run
depends on device and library, and is left free (`USABLE`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import starmap
from typing import Literal, NamedTuple

from anatomad.planner.machine import GB, Machine
from anatomad.planner.plan import RECOUPLING_WIDTH, SLICES, Plan

MB = 10**6
RESERVED_GB = 0.75  # the process itself, or a GPU's context and libraries
USABLE = 0.85  # of the rest: operators need room to work, and free memory comes in pieces
KEPT = 12  # times their size on disk: stored cases in memory, and as float32 too, with room to work with them

_FLOAT, _HALF, _INDEX = 4, 2, 8
_CODE, _QUARTILES, _HIDDEN = 8, 3, 32
_MOMENTUM, _AVERAGE = 1, 1  # copies of the trained parameters; nearly all of them are convolutions, which Muon trains

# Bytes per voxel beside the networks: samples, their stack and renderings and the losses; volumes of a prediction.
# They follow from the code and depend on no plan; benchmarks/memory.py measures them.
_ANATOMY, _ANATOMY_LAYERS, _RESTORATION, _RECOUPLING, _FROZEN = 330, 23, 165, 157, 120
_JOINING = {2: 219, 3: 168}
_VOLUMES, _SLICED, _PADDED, _AVERAGED, _DRAWN = 134, 204, 24, 270, 120

Device = Literal["cpu", "gpu"]
Lines = tuple["Line", ...]


class Line(NamedTuple):
    """One thing that takes memory, and its bytes."""

    what: str
    size: float


@dataclass(frozen=True)
class Needs:
    """Lines of a training step, by stage, and of a prediction, by phase; the fullest of each counts."""

    training: Mapping[str, Lines]
    prediction: Mapping[str, Lines]

    def training_mb(self) -> float:
        """Peak of a training step, MB."""
        return round(peak(self.training) / MB, 1)

    def prediction_mb(self) -> float:
        """Peak of the prediction of a scan, MB."""
        return round(peak(self.prediction) / MB, 1)


def peak(moments: Mapping[str, Lines]) -> float:
    """Bytes of the fullest moment."""
    return max(total(lines) for lines in moments.values())


def total(lines: Lines) -> float:
    """Bytes of all lines together."""
    return sum(line.size for line in lines)


class Network:
    """A U-Net in numbers.

    Args:
        plan: Its layout and patch.
        inputs: Input channels.
        precision: Of convolutions.
        device: On a GPU group normalisation is always in float32, and the backward pass keeps what it gave; on a CPU
            it keeps its input alone.
    """

    def __init__(self, plan: Plan, inputs: int, precision: str, device: Device) -> None:
        self.features, self.inputs, self.classes = plan.features, inputs, len(plan.tissues)
        self._kernels = [math.prod(size) for size in plan.kernel_sizes]
        self._shares = [
            1 / math.prod(math.prod(row) for row in plan.strides[: n + 1]) for n in range(len(plan.strides))
        ]
        self.bytes = 2 if precision == "bfloat16" else _FLOAT
        self.mixed = device == "gpu" and self.bytes < _FLOAT
        self._norm_bytes = _FLOAT if self.mixed else self.bytes
        self._norm_copies = 4 if device == "gpu" else 2
        # What is pooled is kept in float32 where autocast pools (CPU, 3D) or normalises (GPU) in float32.
        self._skip_bytes = _FLOAT if self.mixed or plan.dimension == 3 else self.bytes

    def parameters(self) -> int:
        """Number of weights."""
        head = (self.features[0] + 1) * self.classes
        return head + sum(rows * (columns + 2) for rows, columns in self._matrices())

    def orthogonalising(self) -> float:
        """Bytes while the optimiser makes the step of the largest convolution orthogonal."""
        return max(starmap(_orthogonalising, self._matrices()))

    def _matrices(self) -> Iterator[tuple[int, int]]:
        """Rows (outputs) and columns of the hidden convolutions, each of which has a normalisation."""
        coarse = zip((self.inputs, *self.features[:-1]), self.features, self._kernels, strict=True)
        fine = zip(self.features[1:], self.features[:-1], self._kernels[:-1], strict=True)
        blocks = [*coarse, *((low + high, high, kernel) for low, high, kernel in fine)]
        for inputs, outputs, kernel in blocks:
            yield outputs, kernel * inputs
            yield outputs, kernel * outputs

    def kept(self) -> Iterator[tuple[str, float]]:
        """What the backward pass needs, by layer, in bytes per voxel of the patch."""
        last = len(self.features) - 1
        yield "input", self.inputs * self.bytes
        for level, (width, share) in enumerate(zip(self.features, self._shares, strict=True)):
            pooled = 0.0 if level == last else self._shares[level + 1] * width * (self.bytes + _INDEX)
            yield f"encoder {level}", self._block(width, share, self._skip_bytes if level < last else 0) + pooled
        for level in range(last - 1, -1, -1):
            low, width = self.features[level + 1], self.features[level]
            joined = self._shares[level] * (low + width) * self.bytes
            yield f"decoder {level}", joined + self._block(width, self._shares[level], 0 if level else self.bytes)
        yield "logits", self.classes * self.bytes

    def passing(self) -> float:
        """Bytes per voxel while the finest resolution is computed without a backward pass."""
        skips = sum(width * share for width, share in zip(self.features[:-1], self._shares, strict=False))
        low, width = self.features[1], self.features[0]
        below, joined = low * self._shares[1], low + width
        elements = self.inputs + skips + below + joined + max(2 * width, low)
        return elements * self._norm_bytes + (width * self.bytes if self.mixed else 0)

    def joining(self) -> float:
        """Bytes per voxel, beyond those kept, while a GPU computes the finest resolution: float32 until it is cast."""
        low, width = self.features[1], self.features[0]
        return _FLOAT * (low + width + low * self._shares[1]) + width * (_FLOAT - self.bytes)

    def _block(self, width: int, share: float, last: int) -> float:
        """Two convolutions, normalisations and activations, the last of which takes ``last`` bytes per element."""
        return share * width * (self._norm_copies * self._norm_bytes + self.bytes + last)


def _orthogonalising(rows: int, columns: int) -> float:
    """Bytes of Newton and Schulz's iteration: the step in float32, it twice in bfloat16, and two of its products."""
    return (_FLOAT + 2 * _HALF) * rows * columns + 2 * _HALF * min(rows, columns) ** 2


def recoupling_parameters(plan: Plan) -> tuple[int, int]:
    """Weights of the imaging encoder and of the recoupling decoder."""
    tissues, width, kernel = len(plan.tissues), RECOUPLING_WIDTH, 3**plan.dimension
    encoder = ((tissues - 1) * _QUARTILES + 1) * _HIDDEN + (_HIDDEN + 1) * _CODE
    modulated = sum(kernel * i * width + width + 2 * width * (_CODE + 1) for i in (tissues + 3, width))
    return encoder, modulated + width + 1


def predict(plan: Plan, precision: str, device: Device = "cpu") -> Needs:
    """What a training step and a prediction need.

    Args:
        plan: One configuration.
        precision: ``float32`` or ``bfloat16``, of convolutions.
        device: Where they run.
    """
    model = _Model(plan, precision, device)
    return Needs(model.training(), model.prediction())


def fits(plan: Plan, precision: str, machine: Machine) -> bool:
    """Whether training and prediction fit into a machine."""
    needs = predict(plan, precision, machine.kind)
    return max(peak(needs.training), peak(needs.prediction)) <= usable(machine)


def trains(plan: Plan, precision: str, machine: Machine) -> bool:
    """Whether training fits into a machine."""
    return peak(predict(plan, precision, machine.kind).training) <= usable(machine)


def excess(plan: Plan, machine: Machine) -> list[str]:
    """What of a configuration does not fit into a machine, in words."""
    needs = predict(plan, machine.precision_of(plan.precision), machine.kind)
    peaks = {"a training step": peak(needs.training), "the prediction of a scan": peak(needs.prediction)}
    room = usable(machine)
    told = f"tensors may fill {room / GB:.3g} GB of {machine.memory_gb:g} GB"
    return [f"{what} needs {size / GB:.3g} GB, {told}" for what, size in peaks.items() if size > room]


def fullest(plan: Plan, machine: Machine) -> list[Line]:
    """Lines of the fullest moment of training on a machine."""
    moments = predict(plan, machine.precision_of(plan.precision), machine.kind).training
    return [line for line in max(moments.values(), key=total) if line.size]


def usable(machine: Machine) -> float:
    """Bytes of a machine's memory that a plan may fill with tensors."""
    return max(0.0, machine.memory_gb - RESERVED_GB) * USABLE * GB


def stored(plan: Plan, channels: int) -> float:
    """Bytes of a stored case: its channels in float16; tissues and brain, a byte each."""
    return float(math.prod(plan.box) * (_HALF * channels + len(plan.tissues) + 1))


def spare_ram(plan: Plan, machine: Machine) -> float:
    """Bytes of RAM that the process and, on a CPU, a training step leave free; 0 where RAM is not known."""
    if machine.kind == "gpu":
        return max(0.0, ((machine.ram_gb or 0.0) - RESERVED_GB) * GB)
    taken = peak(predict(plan, machine.precision_of(plan.precision)).training)
    return max(0.0, (machine.memory_gb - RESERVED_GB) * GB - taken)


class _Model:
    def __init__(self, plan: Plan, precision: str, device: Device) -> None:
        self.plan, self.bytes = plan, 2 if precision == "bfloat16" else _FLOAT
        self.anatomy = Network(plan, 4, precision, device)
        self.restoration = Network(plan, plan.dimension + 3, precision, device)
        self.imaging = sum(recoupling_parameters(plan))
        self.weights = self.anatomy.parameters() + self.restoration.parameters() + self.imaging
        self.box, self.patch = math.prod(plan.box), math.prod(plan.patch)

    def training(self) -> dict[str, Lines]:
        """Moments of a step, by stage."""
        voxels = self.plan.batch_size * self.patch
        drawn = Line("recoupling decoder", 6 * RECOUPLING_WIDTH * self.bytes * voxels)
        trained = {
            "anatomy": (self.anatomy.parameters() + self.imaging, self.anatomy.orthogonalising()),
            "restoration": (self.restoration.parameters(), self.restoration.orthogonalising()),
            "recoupling": (self.imaging, _orthogonalising(RECOUPLING_WIDTH, RECOUPLING_WIDTH * 3**self.plan.dimension)),
        }
        seen = [Line(f"anatomy {name}", 2 * size * voxels) for name, size in self.anatomy.kept()]
        refilled = [Line(f"restoration {name}", size * voxels) for name, size in self.restoration.kept()]
        moments = {
            "anatomy": [
                *seen,
                drawn,
                Line("samples, renderings, losses", (_ANATOMY + _ANATOMY_LAYERS * self.bytes) * voxels),
            ],
            "restoration": [*refilled, Line("samples, renderings, losses", _RESTORATION * voxels)],
            "recoupling": [drawn, Line("samples, renderings, losses", _RECOUPLING * voxels)],
        }
        if self.anatomy.mixed:
            drawing = _JOINING[self.plan.dimension] * voxels
            joined = Line("finest resolution in float32", 2 * self.anatomy.joining() * voxels)
            moments["anatomy, network"] = [*seen, joined, Line("samples and renderings", drawing)]
        passing = Line("restoration, frozen", (self.restoration.passing() + _FROZEN) * voxels)
        result: dict[str, Lines] = {}
        for stage, lines in moments.items():
            count, orthogonalising = trained[stage.partition(",")[0]]
            held = self._held(count)
            cast = Line("weights in bfloat16", float(_HALF) * count if self.bytes == 2 else 0.0)
            result[stage] = (*held, cast, *lines)
            steps = (Line("gradients", _FLOAT * count), Line("optimiser at work", orthogonalising))
            result[f"{stage}, optimiser"] = (*held, *steps)
        result["recoupling, frozen networks"] = (*self._held(self.imaging), passing)
        return result

    def prediction(self) -> dict[str, Lines]:
        """Moments of the prediction of a scan of the plan's box."""
        weights = Line("weights", _FLOAT * self.weights)
        if self.plan.dimension == 3:
            through = math.prod(min(p, n) for p, n in zip(self.plan.patch, self.plan.box, strict=True))
            volumes = float(_VOLUMES * self.box)
        else:
            _, v, w = sorted(self.plan.box)
            through = SLICES * max(v, self.plan.patch[0]) * max(w, self.plan.patch[1])
            volumes = float(_SLICED * self.box + _PADDED * through)
        averaged = _AVERAGED * self.box if self.plan.dimension == 2 else 0
        drawing = 3 * RECOUPLING_WIDTH * self.bytes * self.box
        return {
            "networks": (weights, Line("volumes", volumes), Line("layers", self.restoration.passing() * through)),
            "average of three axes": (weights, Line("volumes", averaged)),
            "recoupling": (weights, Line("volumes", _DRAWN * self.box), Line("layers", drawing)),
        }

    def _held(self, trained: int) -> tuple[Line, ...]:
        return (
            Line("weights", _FLOAT * self.weights),
            Line("optimiser", _FLOAT * _MOMENTUM * trained),
            Line("moving average", _FLOAT * _AVERAGE * trained),
            Line("snapshot of all that", _FLOAT * (self.weights + (_MOMENTUM + _AVERAGE) * trained)),
            Line("cases of the batch", _FLOAT * len(self.plan.tissues) * self.box * self.plan.batch_size),
        )

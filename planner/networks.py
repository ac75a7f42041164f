"""The rules on networks: shape, size and pace of a configuration, from geometry, machine and number of subjects."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from anatomad.planner.machine import Machine
from anatomad.planner.plan import Shape, Stages, total_stride
from anatomad.planner.rules import Choice, Triple

LEAST_SIDE = 8  # voxels at the coarsest resolution: fewer know nothing that the position does not say
MOST_RESOLUTIONS = 6
WIDTHS = ((16, 96), (24, 192), (32, 320))  # channels at the finest resolution, and at most
CPU_VOXELS = 48**3  # of a 3D patch: a step on two CPU cores then takes seconds
BATCHES = {2: (1, 2, 4, 8), 3: (1,)}
GPU_BATCHES = {2: (1, 2, 4, 8, 16, 32), 3: (1, 2, 4, 8)}
RATE = 3e-3  # of networks of the smallest width
STEPS = {"anatomy": 1600, "restoration": 1500, "recoupling": 100}
VIEWS = 10  # of every subject, at least
MOST_TIMES = 10
_PATCH_STEPS = 40

Features = tuple[int, ...]
Fits = Callable[[Shape, Features, int], bool]  # whether patch, features and batch size suit the machine's memory


@dataclass(frozen=True)
class Form:
    """Resolutions of a configuration, finest first: strides and kernel sizes per axis."""

    dimension: Literal[2, 3]
    strides: tuple[Shape, ...]
    kernel_sizes: tuple[Shape, ...]


def form(sides: Shape, spacing_mm: Triple, dimension: Literal[2, 3]) -> Form:
    """Strides and kernel sizes (after nnU-Net, Isensee et al., Nat Methods 2021).

    An axis is halved as long as that leaves 8 voxels; along one whose voxels are at least twice as long as the finest,
    kernels are 1 and nothing is halved until the others have caught up.

    Args:
        sides: Voxels that the largest brain needs.
        spacing_mm: Of the working grid.
        dimension: 3, or 2 for slices (u, v, 1).
    """
    across = math.inf if dimension == 2 else spacing_mm[2]  # a slice ends within its voxel
    side = [float(n) for n in (sides if dimension == 3 else (max(sides),) * 3)]
    step = [spacing_mm[0], spacing_mm[1], across]
    strides: list[Shape] = [(1, 1, 1)]
    kernels = [_kernel(step)]
    least = 4.0  # two resolutions at least, however small the brain
    while len(strides) < MOST_RESOLUTIONS and (stride := _stride(step, side, least)) != (1, 1, 1):
        strides.append(stride)
        side = [n / s for n, s in zip(side, stride, strict=True)]
        step = [mm * s for mm, s in zip(step, stride, strict=True)]
        kernels.append(_kernel(step))
        least = 2.0 * LEAST_SIDE
    return Form(dimension, tuple(strides), tuple(kernels))


def _kernel(step: Sequence[float]) -> Shape:
    return _three(3 if mm < 2 * min(step) else 1 for mm in step)


def _stride(step: Sequence[float], side: Sequence[float], least: float) -> Shape:
    return _three(2 if mm < 2 * min(step) and n >= least else 1 for mm, n in zip(step, side, strict=True))


def strides(found: Form) -> Choice[tuple[Shape, ...]]:
    """The strides of a form, explained."""
    return Choice(
        found.strides,
        f"{len(found.strides)} resolutions: an axis is halved as long as {LEAST_SIDE} voxels are left, one with voxels "
        "twice as long as the finest not before the others have caught up",
        {"resolutions": len(found.strides)},
    )


def kernel_sizes(found: Form) -> Choice[tuple[Shape, ...]]:
    """The kernel sizes of a form, explained."""
    return Choice(found.kernel_sizes, "3 along axes whose voxels are less than twice as long as the finest, else 1")


def patches(box: Shape, found: Form) -> Iterator[Shape]:
    """Patches to choose from, largest first: the whole box (in 2D a slice that holds any), then ever smaller ones."""
    whole = box if found.dimension == 3 else (max(box), max(box), 1)
    seen: set[Shape] = set()
    for number in range(_PATCH_STEPS, 0, -1):
        pairs = zip(whole, total_stride(found.strides), strict=True)
        sides = _three(max(step, side * number // _PATCH_STEPS // step * step) for side, step in pairs)
        if sides not in seen:
            seen.add(sides)
            yield sides


def patch(box: Shape, found: Form, machine: Machine, trains: Fits) -> Choice[Shape]:
    """Largest patch on which the narrowest networks can be trained, one at a time.

    Args:
        box: Working volume in voxels.
        found: Resolutions.
        machine: Its memory in GB is named in the reason.
        trains: Whether a training step fits; a prediction, of which patches decide little, is not asked about.
    """
    limit = CPU_VOXELS if machine.kind == "cpu" and found.dimension == 3 else math.inf
    candidates, narrow = list(patches(box, found)), widths(found)[0]
    suitable = (sides for sides in candidates if math.prod(sides) <= limit and trains(sides, narrow, 1))
    value = next(suitable, None)
    if value is None:
        value = candidates[-1]
        why = f"the smallest; not even on that can networks be trained in {machine.memory_gb:g} GB"
    elif found.dimension == 2 and value[0] == max(box):
        why = (
            f"a whole slice along any axis, as large as the box's longest side of {value[0]} voxels: in the time of "
            "one volume a network sees some eighty slices, each in a contrast of its own"
        )
    else:
        why = f"the largest of the box's shape that can be trained in {machine.memory_gb:g} GB"
        why += f" and a CPU's {CPU_VOXELS} voxels per step" if limit < math.inf else ""
    return Choice(value, why, {"voxels": math.prod(value)})


def widths(found: Form) -> list[Features]:
    """Feature widths to choose from, narrowest first."""
    return [tuple(min(first * 2**i, most) for i in range(len(found.strides))) for first, most in WIDTHS]


def features(sides: Shape, found: Form, machine: Machine, fits: Fits) -> Choice[Features]:
    """Channels per resolution: on a CPU few, for its speed; on a GPU as many as fit with its smallest usual batch."""
    narrow, *wider = widths(found)
    if machine.kind == "cpu":
        return Choice(narrow, "small enough to train on two CPU cores in minutes")
    batch = 8 if found.dimension == 2 else 1
    value = next((each for each in reversed(wider) if fits(sides, each, batch)), None)
    told = f"into {machine.memory_gb:g} GB with a batch of {batch}"
    if value is None:
        return Choice(narrow, f"the narrowest of three sizes; wider ones do not fit {told}")
    return Choice(value, f"the widest of three sizes that fit {told}")


def batch_size(sides: Shape, wide: Features, found: Form, machine: Machine, trains: Fits) -> Choice[int]:
    """People per step: as many as can be trained on at a time, one at least."""
    sizes = (BATCHES if machine.kind == "cpu" else GPU_BATCHES)[found.dimension]
    value = next((size for size in reversed(sizes) if trains(sides, wide, size)), None)
    if value is None:
        return Choice(1, f"the least there is; not even that can be trained in {machine.memory_gb:g} GB")
    if found.dimension == 2 and value == 8:
        return Choice(value, "eight people per step, each in two contrasts: contrasts are what has to be learnt")
    return Choice(value, f"the most of {', '.join(map(str, sizes))} that can be trained in {machine.memory_gb:g} GB")


def learning_rate(wide: Features) -> Choice[float]:
    """Learning rate of Muon and AdamW, in inverse proportion to the width (Yang et al., Tensor Programs V, 2022)."""
    value = round(RATE * WIDTHS[0][0] / max(WIDTHS[0][0], wide[0]), 6)
    reason = "one rate for Muon and AdamW"
    return Choice(value, reason if value == RATE else f"{reason}, in inverse proportion to their width")


def steps(subjects: int, batch: int) -> Choice[Stages]:
    """Steps per stage: enough for the contrasts, and for every subject to be seen, as far as time allows."""
    seen = math.ceil(VIEWS * subjects / batch)
    times = min(MOST_TIMES, max(1.0, seen / STEPS["anatomy"]))
    why = f"the usual number; {subjects} subjects are each seen {VIEWS} times or more"
    if times > 1:
        why = f"{times:.1f} times the usual number, for {subjects} subjects"
    return Choice(
        Stages(**{name: round(count * times) for name, count in STEPS.items()}),
        why,
        {"subjects": subjects, "times": times},
    )


def _three(values: Iterable[int]) -> Shape:
    x, y, z = values
    return x, y, z

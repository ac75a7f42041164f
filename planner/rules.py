"""The rules on data: pure functions from the fingerprint to one decision each, with its figures and the reason."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from anatomad.planner import memory
from anatomad.planner.machine import GB
from anatomad.planner.plan import Shape, Treatment
from anatomad.planner.ranges import Range
from anatomad.planner.records import ChannelFingerprint
from anatomad.planner.splits import LEAVE_ONE_OUT_BELOW, usual_folds
from anatomad.preprocess.normalise import PERCENTILES

T = TypeVar("T")
Triple = tuple[float, float, float]

FINEST_MM = 2.0
THICK = 3.0  # slices this many times as thick as the planes are fine keep their own spacing, as in nnU-Net
AGREEMENT = 0.75
MARGIN_VOXELS = 2
RIM_MM = 2.0  # skull stripping leaves remains there
SMALL_MM, LARGE_MM = (3.0, 10.0), (15.0, 60.0)
NOISE_FLOOR, BIAS_FLOOR, BLUR_FLOOR_MM, SLICE_FLOOR_MM = 0.03, 0.25, 2.5, 5.0
_AXIS = {"L": 0, "R": 0, "A": 1, "P": 1, "S": 2, "I": 2}
_AXES = ("left-right", "front-back", "bottom-top")


class Choice(NamedTuple, Generic[T]):
    """A decided value, why, and the figures that it came from."""

    value: T
    reason: str
    numbers: Mapping[str, float] = {}


def spacing(images: Sequence[ChannelFingerprint]) -> Choice[Triple]:
    """Working spacing in mm along the canonical (RAS) axes: isotropic, except for thick slices that agree."""
    median = _median(sorted(image.spacing_mm)[1] for image in images)
    thick = _median(max(image.spacing_mm) for image in images)
    value = round(max(FINEST_MM, median), 2)
    numbers = {"in_plane_mm": median, "slice_mm": thick, "scans": len(images)}
    why = (
        f"in-plane spacing is {median:.2f} mm (median of {len(images)} scans, turned to RAS), kept no finer than "
        f"{FINEST_MM:g} mm: a whole brain then fits one training step on a CPU"
    )
    axis, share = _thick_axis(images)
    if thick < THICK * value or share < AGREEMENT:
        return Choice((value, value, value), why, numbers)
    sides = [value, value, value]
    sides[axis] = round(thick, 2)
    why = (
        f"{why}; {share:.0%} of the slices are thick along the {_AXES[axis]} axis, at {thick:.2f} mm (median) at least "
    )
    why += f"{THICK:g} times as much, and keep that: finer would be invented"
    return Choice((sides[0], sides[1], sides[2]), why, numbers | {"same_axis_share": share})


def _thick_axis(images: Sequence[ChannelFingerprint]) -> tuple[int, float]:
    """Canonical axis that most scans are thickest along, and their share."""
    axes = Counter(axis_of(i.orientation[int(np.argmax(i.spacing_mm))]) for i in images)
    axis = min(axes, key=lambda a: (-axes[a], a))
    return axis, axes[axis] / len(images)


def axis_of(code: str) -> int:
    """Canonical axis of an orientation code: 0 for L and R, 1 for P and A, 2 for I and S."""
    return _AXIS[code]


def brain_sides(images: Sequence[ChannelFingerprint], spacing_mm: Triple) -> Shape:
    """Voxels along each axis that the largest brain needs, with a margin."""
    x, y, z = (math.ceil(mm / step) + 2 * MARGIN_VOXELS for mm, step in zip(_extent(images), spacing_mm, strict=True))
    return x, y, z


def box(images: Sequence[ChannelFingerprint], spacing_mm: Triple, multiple: Shape) -> Choice[Shape]:
    """Working volume in voxels: the largest brain along each axis, a margin, and divisible by the strides."""
    extent, needed = _extent(images), brain_sides(images, spacing_mm)
    x, y, z = (math.ceil(side / step) * step for side, step in zip(needed, multiple, strict=True))
    return Choice(
        (x, y, z),
        f"largest brain {extent[0]:.0f} x {extent[1]:.0f} x {extent[2]:.0f} mm, {MARGIN_VOXELS} voxels of margin on "
        f"each side, rounded up to multiples of {_product(multiple)}",
        dict(zip(("x_mm", "y_mm", "z_mm"), extent, strict=True)),
    )


def multiple(divisors: Mapping[str, Shape]) -> Choice[Shape]:
    """What the sides of a working volume divide by: the total strides of every configuration."""
    x, y, z = (math.lcm(*axis) for axis in zip(*divisors.values(), strict=True))
    told = ", ".join(f"{name} {_product(divisor)}" for name, divisor in divisors.items())
    return Choice((x, y, z), f"total strides of the networks ({told}): one preprocessed store serves all of them")


def brain_mask(images: Sequence[ChannelFingerprint]) -> Choice[Treatment]:
    """What is taken for the brain: decided scan by scan, so that patients may come in another state than the data."""
    sources = Counter(image.mask_source for image in images)
    stripped, heads = sources["stripped"] + sources["given"], sources["computed"]
    doubtful = sum(image.mask_doubt is not None for image in images)
    why = (
        f"{stripped} of {len(images)} scans came skull-stripped and are kept so; in whole heads ({heads} here), of "
        f"patients too, the brain is found; {doubtful} of the masks are doubtful"
    )
    return Choice("auto", why, {"stripped": stripped, "whole_heads": heads, "doubtful": doubtful})


def normalisation(images: Sequence[ChannelFingerprint], sequence: str) -> Choice[Range]:
    """Percentiles of a sequence's brain intensities that become 0 and 1."""
    if not images:
        return Choice(PERCENTILES, f"{sequence}: none was measured; each scan's own range becomes 0 to 1")
    low, high = (_median(image.percentiles[end] for image in images) for end in (0, -1))
    seen = Counter(image.looks_like for image in images).most_common(1)
    like = f", mostly {seen[0][0]}" if seen[0][0] != "unclear" else ""
    why = (
        f"{sequence} ({len(images)} scans{like}): intensities have no unit, so each scan's own range becomes 0 to 1 "
        f"(median over the scans: {low:.4g} to {high:.4g}), without its brightest and darkest half percent"
    )
    return Choice(PERCENTILES, why, {"scans": len(images), "low": low, "high": high})


def edge_distance(spacing_mm: Triple) -> Choice[Triple]:
    """Distances of neighbours in mm along each axis, whose ratios weigh the edges between them."""
    weights = ", ".join(f"{min(spacing_mm) / mm:.2g}" for mm in spacing_mm)
    why = (
        "the labels of next neighbours are compared, these far apart; an edge counts in inverse proportion "
        f"({weights} along x, y, z), as far neighbours differ anyway"
    )
    return Choice(spacing_mm, why, dict(zip(("x_mm", "y_mm", "z_mm"), spacing_mm, strict=True)))


def rim(spacing_mm: Triple) -> Choice[float]:
    """Thickness in mm of the brain's outermost part that is not scored."""
    value = max(RIM_MM, min(spacing_mm))
    why = (
        f"skull stripping leaves remains in the outermost {RIM_MM:g} mm, and the outermost voxel, {min(spacing_mm):g} "
        "mm here, is brain and surroundings mixed"
    )
    return Choice(value, why, {"spacing_mm": min(spacing_mm)})


def smallest_region(spacing_mm: Triple) -> Choice[float]:
    """Volume in mm³ below which a region is no finding."""
    value = round(math.prod(spacing_mm), 2)
    why = "one voxel of the working grid: the networks see nothing smaller, however fine the scan's own grid is"
    return Choice(value, why, {"voxel_mm3": value})


def noise(images: Sequence[ChannelFingerprint]) -> Choice[Range]:
    """Range of the noise SD, share of the intensity range."""
    return _measured_range("noise SD", [image.noise for image in images], NOISE_FLOOR, "of the intensity range")


def bias(images: Sequence[ChannelFingerprint]) -> Choice[Range]:
    """Range of the SD of the log bias field."""
    return _measured_range("log bias-field SD", [image.bias for image in images], BIAS_FLOOR, "", 1.5)


def blur(images: Sequence[ChannelFingerprint]) -> Choice[Range]:
    """Range of the blur's FWHM in mm; a scan is about as sharp as its in-plane voxels are small."""
    return _measured_range("in-plane spacing", [sorted(i.spacing_mm)[1] for i in images], BLUR_FLOOR_MM, "mm")


def slice_thickness(images: Sequence[ChannelFingerprint], finest_mm: float) -> Choice[Range]:
    """Range of the simulated slice thickness in mm."""
    thickest = _p95(max(image.spacing_mm) for image in images)
    upper = max(finest_mm, round(max(SLICE_FLOOR_MM, thickest), 2))
    return Choice(
        (finest_mm, upper),
        f"from the working spacing to the larger of {SLICE_FLOOR_MM:g} mm, usual in clinical scans, and the data's "
        f"own {thickest:.2f} mm (95th percentile)",
        {"thickest_mm": thickest},
    )


def smoothing(spacing_mm: float) -> Choice[tuple[float, ...]]:
    """Gaussian FWHMs in mm at which the residual is read: none, and octaves that suit small to large lesions."""
    widths, upper = [0.0], LARGE_MM[1] / 3
    while (width := 2 * spacing_mm * 2 ** (len(widths) - 1)) <= upper:
        widths.append(width)
    return Choice(
        tuple(widths),
        "thin lesions need none, diffuse ones much: octaves from twice the working spacing up to a third of the "
        f"largest lesion's {LARGE_MM[1]:g} mm",
        {"spacing_mm": spacing_mm, "largest_lesion_mm": LARGE_MM[1]},
    )


def loader_workers(case: float, cases: int, batch_size: int, spare: float, cores: int) -> Choice[int]:
    """Threads that read the cases of the next batch while a step is at work.

    Args:
        case: Bytes of a stored case.
        cases: How many there are.
        batch_size: Samples of a step, each of its own case.
        spare: Bytes of RAM that training leaves free.
        cores: Of the CPU.
    """
    kept, ahead = memory.KEPT * case * cases, 2 * case * batch_size
    numbers = {"cases_gb": kept / GB, "two_batches_gb": ahead / GB, "free_ram_gb": spare / GB, "cores": cores}
    told = f"{spare / GB:.3g} GB of RAM that training leaves free"
    if kept <= spare:
        return Choice(0, f"all {cases} cases, {kept / GB:.3g} GB, stay in the {told}: each is read once", numbers)
    why = f"the {cases} cases, {kept / GB:.3g} GB, do not fit into the {told}"
    if ahead > spare:
        return Choice(0, f"{why}, nor do two batches, {ahead / GB:.3g} GB: a case is read when it is drawn", numbers)
    value = min(cores, batch_size)
    why = f"{why}: as many threads as cores ({cores}), at most one per sample, read a batch ahead, {ahead / GB:.3g} GB"
    return Choice(value, why, numbers)


def folds(subjects: int) -> Choice[int]:
    """Number of folds."""
    value = usual_folds(subjects)
    why = f"{subjects} subjects; scans of one subject stay in one fold"
    if subjects == 1:
        why = "one subject: it can only validate on itself, so calibration will be too optimistic"
    elif subjects < LEAVE_ONE_OUT_BELOW:
        why = f"{subjects} subjects, fewer than {LEAVE_ONE_OUT_BELOW}: each validates once"
    return Choice(value, why, {"subjects": subjects})


def _extent(images: Sequence[ChannelFingerprint]) -> list[float]:
    return [max(image.brain_extent_mm[axis] for image in images) for axis in range(3)]


def _measured_range(what: str, values: Iterable[float], floor: float, unit: str, margin: float = 2) -> Choice[Range]:
    measured = _p95(values)
    upper = round(max(floor, margin * measured), 3)
    source = f"{margin:g} times that"
    source = source if upper > floor else f"the default {floor:g}, which is more than {source}"
    reason = f"{what} is {measured:.3g} {unit}".rstrip() + f" (95th percentile); up to {source}"
    return Choice((0.0, upper), reason, {"p95": measured})


def _median(values: Iterable[float]) -> float:
    return float(np.median(list(values)))


def _p95(values: Iterable[float]) -> float:
    return float(np.percentile(list(values), 95))


def _product(sides: Shape) -> str:
    return str(sides[0]) if len(set(sides)) == 1 else " x ".join(map(str, sides))

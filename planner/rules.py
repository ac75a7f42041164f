"""The rules: pure functions from the fingerprint to one decision each, with the reason in a sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from anatomad.errors import DataError
from anatomad.planner.fingerprint import ChannelFingerprint, Fingerprint
from anatomad.planner.plan import Corruption, Decision, Plan, Randomisation, Stages
from anatomad.planner.splits import LEAVE_ONE_OUT_BELOW, number_of_folds, subject_of

T = TypeVar("T")

FEATURES = (16, 32, 64, 96)
STRIDE: int = 2 ** (len(FEATURES) - 1)
FINEST_MM = 2.0
MARGIN_VOXELS = 2
SMALL_MM, LARGE_MM = (3.0, 10.0), (15.0, 60.0)
NOISE_FLOOR, BIAS_FLOOR, BLUR_FLOOR_MM, SLICE_FLOOR_MM = 0.03, 0.25, 2.5, 5.0

Shape = tuple[int, int, int]
Range = tuple[float, float]


class Choice(NamedTuple, Generic[T]):
    """A decided value and why."""

    value: T
    reason: str


def spacing(images: Sequence[ChannelFingerprint]) -> Choice[tuple[float, float, float]]:
    """Isotropic working spacing in mm: as fine as the data in its planes, but no finer than 2 mm."""
    median = float(np.median([sorted(image.spacing_mm)[1] for image in images]))
    value = round(max(FINEST_MM, median), 2)
    return Choice(
        (value, value, value),
        f"in-plane spacing is {median:.2f} mm (median of {len(images)} scans), kept no finer than {FINEST_MM:g} mm: "
        "a whole brain then fits one training step on a CPU",
    )


def box(images: Sequence[ChannelFingerprint], spacing_mm: Sequence[float]) -> Choice[Shape]:
    """Working volume in voxels: the largest brain along each axis, a margin, and divisible by the stride."""
    extent = [max(image.brain_extent_mm[axis] for image in images) for axis in range(3)]
    sides = [_round_up(math.ceil(mm / step) + 2 * MARGIN_VOXELS) for mm, step in zip(extent, spacing_mm, strict=True)]
    return Choice(
        (sides[0], sides[1], sides[2]),
        f"largest brain {extent[0]:.0f} x {extent[1]:.0f} x {extent[2]:.0f} mm, {MARGIN_VOXELS} voxels of margin on "
        f"each side, rounded up to multiples of {STRIDE} (the network's total stride)",
    )


def patch(working_box: Shape) -> Choice[Shape]:
    """Training patch in voxels: a slice that holds any of the box's own."""
    side = max(working_box)
    return Choice(
        (side, side, 1),
        f"a whole slice along any axis, as large as the box's longest side of {side} voxels: in the time of one "
        "volume a network sees some eighty slices, each in a contrast of its own",
    )


def noise(images: Sequence[ChannelFingerprint]) -> Choice[Range]:
    """Range of the noise SD, share of the intensity range."""
    return _measured_range("noise SD", [image.noise for image in images], NOISE_FLOOR, "of the intensity range")


def bias(images: Sequence[ChannelFingerprint]) -> Choice[Range]:
    """Range of the SD of the log bias field."""
    return _measured_range("log bias-field SD", [image.bias for image in images], BIAS_FLOOR, "")


def blur(images: Sequence[ChannelFingerprint]) -> Choice[Range]:
    """Range of the blur's FWHM in mm; a scan is about as sharp as its in-plane voxels are small."""
    return _measured_range("in-plane spacing", [sorted(i.spacing_mm)[1] for i in images], BLUR_FLOOR_MM, "mm")


def slice_thickness(images: Sequence[ChannelFingerprint], spacing_mm: float) -> Choice[Range]:
    """Range of the simulated slice thickness in mm."""
    thickest = _p95(max(image.spacing_mm) for image in images)
    upper = round(max(SLICE_FLOOR_MM, thickest, spacing_mm), 2)
    return Choice(
        (spacing_mm, upper),
        f"from the working spacing to the larger of {SLICE_FLOOR_MM:g} mm, usual in clinical scans, and the data's "
        f"own {thickest:.2f} mm (95th percentile)",
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
    )


def folds(subjects: int) -> Choice[int]:
    """Number of folds."""
    value = number_of_folds(subjects)
    if subjects == 1:
        return Choice(value, "one subject: it can only validate on itself, so calibration will be too optimistic")
    if subjects < LEAVE_ONE_OUT_BELOW:
        return Choice(value, f"{subjects} subjects, fewer than {LEAVE_ONE_OUT_BELOW}: each validates once")
    return Choice(value, f"{subjects} subjects; scans of one subject stay in one fold")


def make_plan(fingerprint: Fingerprint, participants: Sequence[str] = ()) -> Plan:
    """Decide everything. The same fingerprint gives the same plan, byte for byte.

    Raises:
        DataError: no measured case to plan from.
    """
    images = fingerprint.channels()
    if not images:
        raise DataError(f"{fingerprint.dataset}: no training scan could be measured; put healthy scans into imagesTr")
    table = _Table()
    spacing_mm = table.add("spacing_mm", spacing(images))
    working_box = table.add("box", box(images, spacing_mm))
    return Plan(
        dataset=fingerprint.dataset,
        channel_names=fingerprint.channel_names,
        dimension=table.fixed(
            "dimension",
            2,
            "slices along all three axes, whose answers are averaged: on the same CPU minutes they beat 3D patches, "
            "because a step sees many contrasts",
        ),
        spacing_mm=spacing_mm,
        box=working_box,
        patch=table.add("patch", patch(working_box)),
        features=table.fixed("features", FEATURES, "small enough to train on two CPU cores in minutes"),
        batch_size=table.fixed(
            "batch_size", 8, "eight people per step, each in two contrasts: contrasts are what has to be learnt"
        ),
        learning_rate=table.fixed("learning_rate", 3e-3, "largest stable rate of small networks under Adam"),
        ema_decay=table.fixed("ema_decay", 0.995, "averages the weights over about 200 steps"),
        prior_weight=table.fixed("prior_weight", (1.0, 0.3), "the tissue prior leads first, then the images decide"),
        temperature=table.fixed("temperature", (1.0, 0.5), "soft one-hot gradients first, sharper ones later"),
        stages=_stages(table),
        randomisation=_randomisation(table, images, spacing_mm[0]),
        corruption=_corruption(table),
        smoothing_mm=table.add("smoothing_mm", smoothing(spacing_mm[0])),
        folds=table.add("folds", folds(len({subject_of(case.id, participants) for case in fingerprint.cases}))),
        decisions=tuple(table.decisions),
    )


def decisions_of(plan: Plan) -> list[Decision]:
    """The plan's decisions with the values that hold now; those changed in the file say so."""
    rows = []
    for decision in plan.decisions:
        value: object = plan
        for key in decision.name.split("."):
            value = getattr(value, key)
        changed = _text(value) != decision.value
        reason = f"set by hand; the rule chose {decision.value}" if changed else decision.reason
        rows.append(Decision(name=decision.name, value=_text(value), reason=reason))
    return rows


def _stages(table: _Table) -> Stages:
    fix = table.under("stages")
    return Stages(
        anatomy=fix("anatomy", 1600, "steps; about half of the time, as every other part stands on the anatomy"),
        restoration=fix("restoration", 1500, "steps; refilling corrupted anatomy is as hard as finding anatomy"),
        recoupling=fix("recoupling", 100, "steps; the decoder only has to learn contrasts"),
    )


def _randomisation(table: _Table, images: Sequence[ChannelFingerprint], spacing_mm: float) -> Randomisation:
    fix = table.under("randomisation")
    return Randomisation(
        class_mean=fix("class_mean", (0.0, 1.0), "any tissue may have any brightness, so no sequence is foreign"),
        class_spread=fix("class_spread", (0.01, 0.05), "tissue is never flat; beyond 0.05 classes melt together"),
        gamma=fix("gamma", (0.6, 1.6), "monotone changes of contrast between scanners"),
        bias=table.add("randomisation.bias", bias(images)),
        noise=table.add("randomisation.noise", noise(images)),
        blur_mm=table.add("randomisation.blur_mm", blur(images)),
        slice_mm=table.add("randomisation.slice_mm", slice_thickness(images, spacing_mm)),
        rotation_deg=fix("rotation_deg", (-12.0, 12.0), "tilt of heads that were not aligned"),
        scaling=fix("scaling", (0.9, 1.1), "spread of adult brain sizes"),
        elastic_mm=fix("elastic_mm", (0.0, 4.0), "spread of sulci and ventricles between healthy people"),
    )


def _corruption(table: _Table) -> Corruption:
    fix = table.under("corruption")
    return Corruption(
        lesions=fix("lesions", (0, 6), "healthy anatomy must come back unchanged, hence 0 too"),
        small_mm=fix("small_mm", SMALL_MM, "diameters of white-matter lesions"),
        large_mm=fix("large_mm", LARGE_MM, "diameters of tumours with their oedema"),
        edge_dropout=fix("edge_dropout", (0.0, 0.2), "edges fade where contrast is weak"),
        erased_share=fix("erased_share", (0.0, 0.2), "what has no edges left must be refilled from its surroundings"),
    )


class _Table:
    """Collects the decisions in the order in which they are made."""

    def __init__(self) -> None:
        self.decisions: list[Decision] = []

    def add(self, name: str, choice: Choice[T]) -> T:
        self.decisions.append(Decision(name=name, value=_text(choice.value), reason=choice.reason))
        return choice.value

    def fixed(self, name: str, value: T, reason: str) -> T:
        return self.add(name, Choice(value, reason))

    def under(self, group: str) -> Callable[[str, T, str], T]:
        return lambda name, value, reason: self.fixed(f"{group}.{name}", value, reason)


def _text(value: object) -> str:
    return ", ".join(map(_text, value)) if isinstance(value, tuple) else f"{value:g}"


def _measured_range(what: str, values: Iterable[float], floor: float, unit: str) -> Choice[Range]:
    measured = _p95(values)
    upper = round(max(floor, 2 * measured), 3)
    source = "twice that" if upper > floor else f"the default {floor:g}, which is more than twice that"
    return Choice((0.0, upper), f"{what} is {measured:.3g} {unit}".rstrip() + f" (95th percentile); up to {source}")


def _p95(values: Iterable[float]) -> float:
    return float(np.percentile(list(values), 95))


def _round_up(size: int) -> int:
    return math.ceil(size / STRIDE) * STRIDE

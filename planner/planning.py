"""From the fingerprint to the plan file: the rules in the order in which they need each other, overrides among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import ValidationError

from anatomad.errors import DataError, UsageError
from anatomad.planner import memory, networks, rules
from anatomad.planner.machine import Machine
from anatomad.planner.plan import (
    TISSUES,
    Configuration,
    Corruption,
    Decision,
    Memory,
    Override,
    Plan,
    PlanFile,
    Postprocessing,
    Randomisation,
    Shape,
    Stages,
    divisor,
    problems_of,
)
from anatomad.planner.ranges import Range
from anatomad.planner.records import ChannelFingerprint, Fingerprint
from anatomad.planner.rules import Choice
from anatomad.planner.settings import parsed, shown, unknown
from anatomad.planner.splits import check_folds, subjects_of

T = TypeVar("T")


def make_plan(
    fingerprint: Fingerprint,
    machine: Machine,
    participants: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
) -> PlanFile:
    """Decide everything. The same input gives the same plan, byte for byte.

    Args:
        fingerprint: What the data set is.
        machine: What the networks have to fit into.
        participants: Ids of ``participants.tsv``.
        settings: Decisions made by hand, by their path in the plan file, as JSON; others follow from them.

    Raises:
        DataError: no measured case to plan from.
        UsageError: a setting is no decision of this plan, or contradicts others or the data.
    """
    images = fingerprint.channels()
    if not images:
        raise DataError(f"{fingerprint.dataset}: no training scan could be measured; put healthy scans into imagesTr")
    table = _Table(settings or {})
    spacing_mm = table.add("spacing_mm", rules.spacing(images))
    sides = rules.brain_sides(images, spacing_mm)
    forms = _forms(table, sides, spacing_mm)
    multiple = table.add(
        "multiple", rules.multiple({name: divisor(each.dimension, each.strides) for name, each in forms.items()})
    )
    box = table.add("box", rules.box(images, spacing_mm, multiple))
    subjects = len(subjects_of((case.id for case in fingerprint.cases), participants, fingerprint.repeats))
    fix = table.fixed
    shared: dict[str, Any] = {
        "dataset": fingerprint.dataset,
        "channel_names": fingerprint.channel_names,
        "spacing_mm": spacing_mm,
        "multiple": multiple,
        "box": box,
        "brain_mask": table.add("brain_mask", rules.brain_mask(images)),
        "normalisation": _normalisation(table, fingerprint),
        "edge_mm": table.add("edge_mm", rules.edge_distance(spacing_mm)),
        "tissues": fix("tissues", TISSUES, "what the prior of every training case tells apart without labels"),
        "prior_weight": fix("prior_weight", (1.0, 0.3), "the tissue prior leads first, then the images decide"),
        "temperature": fix("temperature", (1.0, 0.5), "soft one-hot gradients first, sharper ones later"),
        "randomisation": _randomisation(table, images, min(spacing_mm)),
        "corruption": _corruption(table),
        "smoothing_mm": table.add("smoothing_mm", rules.smoothing(min(spacing_mm))),
        "postprocessing": _postprocessing(table, spacing_mm),
        "folds": _folds(table, subjects),
        "seed": fix("seed", 0, "any number: draws are a function of it, of the step and of the sample"),
    }
    try:
        configurations = {
            name: _configuration(table, name, each, shared, machine, (subjects, len(fingerprint.cases)))
            for name, each in forms.items()
        }
        table.check_settings()
        return PlanFile(
            **shared,
            configurations=configurations,
            machine=machine,
            decisions=tuple(table.decisions),
            overrides=tuple(table.overrides),
        )
    except ValidationError as error:
        told = ", ".join(f"{each.name}={each.value}" for each in table.overrides)
        raise UsageError(f"--set {told}: contradicts the rest of the plan ({problems_of(error)})") from None


def decisions_of(plan: PlanFile) -> list[Decision]:
    """The plan's decisions with the values that hold now; those changed in the file say so, those taken out go."""
    rows = []
    for decision in plan.decisions:
        try:
            value = shown(_at(plan, decision.name))
        except KeyError:  # of a configuration that the file has no more
            continue
        if value != decision.value:
            decision = Decision(name=decision.name, value=value, reason=f"set by hand; was {decision.value}")
        rows.append(decision)
    return rows


def holds(plan: PlanFile, name: str, text: str) -> bool:
    """Whether a plan has the value ``text`` (JSON) for a decision.

    Raises:
        UsageError: no such decision, or no such value for it.
    """
    known = [decision.name for decision in decisions_of(plan)]
    if name not in known:
        raise unknown([name], known)
    held = _at(plan, name)
    return bool(parsed(name, text, _kind(name), held) == held)


def _forms(table: _Table, sides: Shape, spacing_mm: rules.Triple) -> dict[str, networks.Form]:
    isotropic = len(set(spacing_mm)) == 1
    forms = {"2d": networks.form(sides, spacing_mm, 2)} if isotropic else {}
    forms["3d"] = networks.form(sides, spacing_mm, 3)
    told = (
        "slices along all three axes, whose answers are averaged, come first: on the same CPU minutes they beat 3D "
        "patches, because a step sees many contrasts"
        if isotropic
        else "3D alone: slices look the same along every axis only where voxels are cubes"
    )
    table.state("configurations", Choice(tuple(forms), told))
    for name, found in forms.items():
        add = table.under(f"configurations.{name}")
        chosen = add("strides", networks.strides(found)), add("kernel_sizes", networks.kernel_sizes(found))
        forms[name] = networks.Form(found.dimension, *chosen)
    return forms


def _configuration(
    table: _Table, name: str, found: networks.Form, shared: Mapping[str, Any], machine: Machine, counts: tuple[int, int]
) -> Configuration:
    subjects, cases = counts
    add = table.under(f"configurations.{name}")
    own: dict[str, Any] = {
        "dimension": found.dimension,
        "strides": found.strides,
        "kernel_sizes": found.kernel_sizes,
        "learning_rate": networks.RATE,
        "stages": Stages(**networks.STEPS),
        "ema_decay": add("ema_decay", Choice(0.995, "averages the weights over about 200 steps")),
        "precision": add(
            "precision",
            Choice(
                "auto", f"bfloat16 where the hardware multiplies it natively, else float32; here {machine.precision}"
            ),
        ),
    }

    def plan(**changes: Any) -> Plan:
        return Plan(configuration=name, **shared, **own | changes)

    precision = machine.precision_of(own["precision"])

    def fits(patch: Shape, features: tuple[int, ...], batch_size: int) -> bool:
        return memory.fits(plan(patch=patch, features=features, batch_size=batch_size), precision, machine)

    def trains(patch: Shape, features: tuple[int, ...], batch_size: int) -> bool:
        return memory.trains(plan(patch=patch, features=features, batch_size=batch_size), precision, machine)

    patch = add("patch", networks.patch(shared["box"], found, machine, trains))
    features = add("features", networks.features(patch, found, machine, fits))
    batch_size = add("batch_size", networks.batch_size(patch, features, found, machine, trains))
    own |= {"patch": patch, "features": features, "batch_size": batch_size}
    own["learning_rate"] = add("learning_rate", networks.learning_rate(features))
    own["stages"] = _stages(table, f"configurations.{name}.stages", networks.steps(subjects, batch_size))
    needed = memory.predict(plan(), precision, machine.kind)
    told = f"tensors of a training step, and of the prediction of a scan; planned for {machine.memory_gb:g} GB"
    told = "; ".join([told, *(f"does not fit: {each}" for each in memory.excess(plan(), machine))])
    peaks = Memory(training=needed.training_mb(), prediction=needed.prediction_mb())
    for key, value in peaks:
        table.state(f"configurations.{name}.memory_mb.{key}", Choice(value, told))
    case, spare = memory.stored(plan(), len(shared["channel_names"])), memory.spare_ram(plan(), machine)
    workers = add("loader_workers", rules.loader_workers(case, cases, batch_size, spare, machine.cores))
    return Configuration(**own, memory_mb=peaks, loader_workers=workers)


def _stages(table: _Table, name: str, choice: Choice[Stages]) -> Stages:
    shares = {
        "anatomy": "about half of the time, as every other part stands on the anatomy",
        "restoration": "refilling corrupted anatomy is as hard as finding anatomy",
        "recoupling": "the decoder only has to learn contrasts",
    }
    add = table.under(name)
    chosen = {
        key: add(key, Choice(getattr(choice.value, key), f"steps; {why}; {choice.reason}", choice.numbers))
        for key, why in shares.items()
    }
    return Stages.model_construct(**chosen)


def _randomisation(table: _Table, images: Sequence[ChannelFingerprint], finest_mm: float) -> Randomisation:
    add = table.under("randomisation")

    def fix(name: str, value: T, reason: str) -> T:
        return add(name, Choice(value, reason))

    return Randomisation(
        class_mean=fix("class_mean", (0.0, 1.0), "any tissue may have any brightness, so no sequence is foreign"),
        class_spread=fix("class_spread", (0.01, 0.05), "tissue is never flat; beyond 0.05 classes melt together"),
        gamma=fix("gamma", (0.6, 1.6), "monotone changes of contrast between scanners"),
        bias=add("bias", rules.bias(images)),
        noise=add("noise", rules.noise(images)),
        blur_mm=add("blur_mm", rules.blur(images)),
        slice_mm=add("slice_mm", rules.slice_thickness(images, finest_mm)),
        rotation_deg=fix("rotation_deg", (-12.0, 12.0), "tilt of heads that were not aligned"),
        scaling=fix("scaling", (0.9, 1.1), "spread of adult brain sizes"),
        elastic_mm=fix("elastic_mm", (0.0, 4.0), "spread of sulci and ventricles between healthy people"),
    )


def _normalisation(table: _Table, fingerprint: Fingerprint) -> dict[int, Range]:
    scans: dict[int, list[ChannelFingerprint]] = {number: [] for number in fingerprint.channel_names}
    for case in fingerprint.cases:
        for number, channel in case.channels.items():
            scans[number].append(channel)
    add = table.under("normalisation")
    return {
        number: add(str(number), rules.normalisation(found, fingerprint.channel_names[number]))
        for number, found in scans.items()
    }


def _postprocessing(table: _Table, spacing_mm: rules.Triple) -> Postprocessing:
    add = table.under("postprocessing")
    why = "one healthy voxel in a thousand: of 0.01 to 0.0001 it overlaps best with lesions painted into scans"
    return Postprocessing.model_construct(
        rim_mm=add("rim_mm", rules.rim(spacing_mm)),
        mask_p=add("mask_p", Choice(0.001, why)),
        smallest_mm3=add("smallest_mm3", rules.smallest_region(spacing_mm)),
    )


def _folds(table: _Table, subjects: int) -> int:
    value = table.add("folds", rules.folds(subjects))
    check_folds(value, subjects)
    return value


def _corruption(table: _Table) -> Corruption:
    add = table.under("corruption")

    def fix(name: str, value: T, reason: str) -> T:
        return add(name, Choice(value, reason))

    return Corruption(
        lesions=fix("lesions", (0, 6), "healthy anatomy must come back unchanged, hence 0 too"),
        small_mm=fix("small_mm", rules.SMALL_MM, "diameters of white-matter lesions"),
        large_mm=fix("large_mm", rules.LARGE_MM, "diameters of tumours with their oedema"),
        edge_dropout=fix("edge_dropout", (0.0, 0.2), "edges fade where contrast is weak"),
        erased_share=fix("erased_share", (0.0, 0.2), "what has no edges left must be refilled from its surroundings"),
    )


class _Table:
    """Collects the decisions in the order in which they are made; those set by hand replace what a rule chose."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.decisions: list[Decision] = []
        self.overrides: list[Override] = []
        self._settings = dict(settings)

    def add(self, name: str, choice: Choice[T]) -> T:
        """Note a decision; returns what holds."""
        if name not in self._settings:
            return self.state(name, choice)
        value: T = parsed(name, self._settings[name], _kind(name), choice.value)
        original = shown(choice.value)
        self.overrides.append(Override(name=name, value=shown(value), original=original))
        return self.state(
            name, Choice(value, f"set by --set; the rule chose {original}: {choice.reason}", choice.numbers)
        )

    def state(self, name: str, choice: Choice[T]) -> T:
        """Note what follows from other decisions and cannot be set by itself."""
        numbers = {key: float(value) for key, value in choice.numbers.items()}
        self.decisions.append(Decision(name=name, value=shown(choice.value), reason=choice.reason, numbers=numbers))
        return choice.value

    def fixed(self, name: str, value: T, reason: str) -> T:
        """Note what is the same for every data set."""
        return self.add(name, Choice(value, reason))

    def under(self, group: str) -> Callable[[str, Choice[T]], T]:
        """`add` for the keys of one group."""
        return lambda name, choice: self.add(f"{group}.{name}", choice)

    def check_settings(self) -> None:
        """Check that every setting was asked for.

        Raises:
            UsageError: some were not; lists what can be set.
        """
        used = {override.name for override in self.overrides}
        left = [name for name in self._settings if name not in used]
        if left:
            raise unknown(left, [decision.name for decision in self.decisions])


def _kind(name: str) -> Any:
    """Type of a key, with its constraints, so that later rules can work with what it is set to."""
    kind: Any = PlanFile
    field = None
    for key in name.split("."):
        field = None if get_origin(kind) is dict else kind.model_fields[key]
        kind = get_args(kind)[1] if field is None else field.annotation
    return Annotated[kind, field] if field else kind


def _at(plan: PlanFile, name: str) -> object:
    value: Any = plan
    for key in name.split("."):
        value = value[type(next(iter(value)))(key)] if isinstance(value, dict) else getattr(value, key)
    return value

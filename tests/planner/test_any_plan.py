"""What holds for any data set and any machine."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from anatomad.planner import memory, rules
from anatomad.planner.machine import Machine
from anatomad.planner.plan import PlanFile
from anatomad.planner.planning import make_plan
from anatomad.planner.records import CaseFingerprint, ChannelFingerprint, Fingerprint
from tests.planner.test_rules import image

side_mm = st.floats(0.3, 10).map(lambda mm: round(mm, 4))
side_voxels = st.integers(16, 1024)
MOST_MM = 260.0  # a brain mask holds at most 2.5 l, so no brain is longer

orientations = st.sampled_from(["RAS", "LAS", "LPI", "PSR", "SAR", "ASL"])
machines = st.builds(
    lambda kind, gb, precision, ram_gb, cores: Machine(
        kind=kind,
        memory_gb=gb,
        precision="bfloat16" if kind == "gpu" else precision,
        ram_gb=gb if kind == "cpu" else ram_gb,
        cores=cores,
    ),
    st.sampled_from(["cpu", "gpu"]),
    st.floats(4, 80),
    st.sampled_from(["float32", "bfloat16"]),
    st.one_of(st.none(), st.floats(4, 500)),
    st.integers(1, 128),
)


@st.composite
def images(draw: st.DrawFn) -> ChannelFingerprint:
    spacing, shape = draw(st.tuples(side_mm, side_mm, side_mm)), draw(st.tuples(side_voxels, side_voxels, side_voxels))
    most = draw(st.floats(60, MOST_MM))
    extent = tuple(min(most, mm * n) for mm, n in zip(spacing, shape, strict=True))
    return image(
        spacing_mm=spacing,
        shape=shape,
        brain_extent_mm=extent,
        orientation=draw(orientations),
        noise=draw(st.floats(0, 0.3)),
        bias=draw(st.floats(0, 1)),
    )


@st.composite
def fingerprints(draw: st.DrawFn) -> Fingerprint:
    kinds = draw(st.lists(images(), min_size=1, max_size=4))
    cases = draw(st.one_of(st.integers(1, 60), st.sampled_from([1000])))
    return many(kinds, cases, draw(st.integers(1, 16)))


def many(kinds: list[ChannelFingerprint], cases: int, channels: int) -> Fingerprint:
    """A large data set in no time: its cases share a few measured images."""
    rows = [dict.fromkeys(range(channels), kind) for kind in kinds]
    made = tuple(CaseFingerprint.model_construct(id=f"c{n}", channels=rows[n % len(rows)]) for n in range(cases))
    names = {number: f"channel {number}" for number in range(channels)}
    return Fingerprint.model_construct(version=1, dataset="Dataset001_Any", channel_names=names, cases=made)


@settings(max_examples=1000, deadline=None)
@given(fingerprints(), machines)
def test_the_plan_is_valid_fits_divides_and_is_repeatable(taken: Fingerprint, machine: Machine) -> None:
    planned = make_plan(taken, machine)
    text = planned.model_dump_json()
    assert text == make_plan(taken, machine).model_dump_json()
    assert PlanFile.model_validate_json(text) == planned
    for axis in range(3):
        room = (planned.box[axis] - 2 * rules.MARGIN_VOXELS) * planned.spacing_mm[axis]
        assert room >= max(item.brain_extent_mm[axis] for item in taken.channels()) - 1e-6
    for low, high in (planned.randomisation.noise, planned.randomisation.bias, planned.randomisation.slice_mm):
        assert low <= high
    for name, configuration in planned.configurations.items():
        plan = planned.configuration(name)
        precision = machine.precision
        assert memory.fits(plan, precision, machine)
        assert configuration.memory_mb.training * memory.MB <= machine.memory_gb * 1e9
        assert not any(n % s for n, s in zip(plan.patch, plan.total_stride(), strict=True))
        assert not any(n % s for n, s in zip(plan.box, plan.divisor(), strict=True))
        workers, case = configuration.loader_workers, memory.stored(plan, len(taken.channel_names))
        assert 0 <= workers <= min(machine.cores, plan.batch_size)
        kept, ahead = (memory.KEPT * case * len(taken.cases), 2 * case * plan.batch_size)
        assert (workers > 0) == (ahead <= memory.spare_ram(plan, machine) < kept)


@settings(max_examples=500, deadline=None)
@given(fingerprints(), machines, st.floats(0, 76))
def test_more_memory_never_gives_a_smaller_patch(taken: Fingerprint, machine: Machine, more_gb: float) -> None:
    larger = machine.model_copy(update={"memory_gb": machine.memory_gb + more_gb})
    first, second = make_plan(taken, machine), make_plan(taken, larger)
    assert first.configurations.keys() == second.configurations.keys()
    for name, configuration in first.configurations.items():
        assert all(a <= b for a, b in zip(configuration.patch, second.configurations[name].patch, strict=True))


@settings(max_examples=500, deadline=None)
@given(images(), machines, st.floats(1, 10), st.integers(1, 20))
def test_thicker_slices_are_never_pooled_more(
    thin: ChannelFingerprint, machine: Machine, times: float, cases: int
) -> None:
    axis = max(range(3), key=lambda a: (thin.spacing_mm[a], a))
    spacing = list(thin.spacing_mm)
    spacing[axis] = min(10.0, spacing[axis] * times)
    thick = image(**thin.model_dump() | {"spacing_mm": tuple(spacing)})
    along = rules.axis_of(thin.orientation[axis])
    strides = [
        make_plan(many([each], cases, 1), machine).configuration("3d").total_stride()[along] for each in (thin, thick)
    ]
    assert strides[1] <= strides[0]


def test_wider_networks_for_larger_cards() -> None:
    taken = many([image()], 42, 1)
    cards = [Machine(kind="gpu", memory_gb=gb, precision="bfloat16") for gb in (4, 8, 16, 24, 40, 80)]
    plans = [make_plan(taken, card).configurations["3d"] for card in cards]
    assert all(a.features[0] <= b.features[0] for a, b in pairwise(plans))


def test_a_hundred_thousand_cases() -> None:
    planned = make_plan(
        many([image(), image(noise=0.2)], 100_000, 1), CARD, participants=[f"c{n}" for n in range(100_000)]
    )
    assert planned.folds == 5
    assert planned.configuration().stages.anatomy == 16_000


CARD = Machine(kind="gpu", memory_gb=80, precision="bfloat16")

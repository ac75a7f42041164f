from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anatomad.errors import DataError
from anatomad.planner import rules
from anatomad.planner.fingerprint import CaseFingerprint, ChannelFingerprint, Fingerprint


def image(**changes: object) -> ChannelFingerprint:
    values: dict[str, object] = {
        "shape": (160, 200, 150),
        "spacing_mm": (0.87, 0.87, 1.0),
        "orientation": "LAS",
        "dtype": "int16",
        "mask_source": "stripped",
        "mask_doubt": None,
        "brain_ml": 1400.0,
        "brain_extent_mm": (139.0, 172.0, 141.0),
        "percentiles": (0.0, 1.0, 2.0, 3.0, 4.0),
        "noise": 0.01,
        "bias": 0.1,
        "nonfinite_share": 0.0,
    }
    return ChannelFingerprint.model_validate(values | changes)


def fingerprint(*images: ChannelFingerprint) -> Fingerprint:
    cases = tuple(CaseFingerprint(id=f"c{n:02d}", channels={0: image}) for n, image in enumerate(images))
    return Fingerprint(dataset="Dataset001_Demo", channel_names={0: "T1w"}, cases=cases)


def test_plan_of_a_usual_data_set() -> None:
    plan = rules.make_plan(fingerprint(*[image()] * 42))
    assert plan.spacing_mm == (2.0, 2.0, 2.0)
    assert plan.box == (80, 96, 80)
    assert plan.patch == (96, 96, 1)
    assert (plan.dimension, plan.folds, plan.batch_size) == (2, 5, 8)
    assert plan.randomisation.noise == (0.0, 0.03)
    assert plan.randomisation.bias == (0.0, 0.25)
    assert plan.randomisation.blur_mm == (0.0, 2.5)
    assert plan.randomisation.slice_mm == (2.0, 5.0)


@pytest.mark.parametrize(
    ("spacing_mm", "widths"), [(2.0, (0, 4, 8, 16)), (3.0, (0, 6, 12)), (5.5, (0, 11)), (11.0, (0,))]
)
def test_smoothing_in_octaves(spacing_mm: float, widths: tuple[float, ...]) -> None:
    assert rules.smoothing(spacing_mm).value == widths


def test_every_value_of_the_plan_has_its_reason() -> None:
    plan = rules.make_plan(fingerprint(image()))
    values = plan.model_dump(exclude={"version", "dataset", "channel_names", "tissues", "seed", "decisions"})
    keys = {
        f"{key}.{inner}" if isinstance(value, dict) else key
        for key, value in values.items()
        for inner in (value if isinstance(value, dict) else (key,))
    }
    assert {decision.name for decision in plan.decisions} == keys
    assert all(decision.reason and decision.value for decision in plan.decisions)


def test_measured_ranges_widen_the_defaults() -> None:
    randomisation = rules.make_plan(
        fingerprint(*[image(noise=0.05, bias=0.3, spacing_mm=(2.5, 2.5, 6.5))] * 3)
    ).randomisation
    assert randomisation.noise == (0.0, 0.1)
    assert randomisation.bias == (0.0, 0.6)
    assert randomisation.blur_mm == (0.0, 5.0)
    assert randomisation.slice_mm == (2.5, 6.5)


def test_values_set_by_hand_are_marked() -> None:
    plan = rules.make_plan(fingerprint(image()))
    stages = plan.stages.model_copy(update={"anatomy": 7})
    rows = {row.name: row for row in rules.decisions_of(plan.model_copy(update={"stages": stages}))}
    assert (rows["stages.anatomy"].value, rows["stages.anatomy"].reason) == ("7", "set by hand; the rule chose 1600")
    assert rows["box"] == next(decision for decision in plan.decisions if decision.name == "box")


@pytest.mark.parametrize(
    ("subjects", "folds", "words"), [(1, 1, "itself"), (4, 4, "fewer than 10"), (12, 5, "stay in")]
)
def test_folds_by_subjects(subjects: int, folds: int, words: str) -> None:
    choice = rules.folds(subjects)
    assert choice.value == folds
    assert words in choice.reason


def test_repeated_scans_count_as_one_subject() -> None:
    cases = tuple(CaseFingerprint(id=f"p{n // 2}_{n}", channels={0: image()}) for n in range(8))
    taken = Fingerprint(dataset="Dataset001_Demo", channel_names={0: "T1w"}, cases=cases)
    assert rules.make_plan(taken).folds == 8
    assert rules.make_plan(taken, participants=("p0", "p1", "p2", "p3")).folds == 4


def test_nothing_measured() -> None:
    with pytest.raises(DataError, match="Dataset001_Demo: no training scan could be measured"):
        rules.make_plan(fingerprint())


side = st.floats(0.3, 10)
images = st.builds(
    lambda spacing, extent, noise, bias: image(spacing_mm=spacing, brain_extent_mm=extent, noise=noise, bias=bias),
    st.tuples(side, side, side),
    st.tuples(*[st.floats(60, 400)] * 3),
    st.floats(0, 0.3),
    st.floats(0, 1),
)


@given(st.lists(images, min_size=1, max_size=6))
def test_any_fingerprint_gives_a_valid_and_repeatable_plan(many: list[ChannelFingerprint]) -> None:
    taken = fingerprint(*many)
    plan = rules.make_plan(taken)
    assert plan.model_dump_json() == rules.make_plan(taken).model_dump_json()
    for axis in range(3):
        room = (plan.box[axis] - 2 * rules.MARGIN_VOXELS) * plan.spacing_mm[axis]
        assert room >= max(item.brain_extent_mm[axis] for item in many)
    assert plan.patch == (max(plan.box), max(plan.box), 1)
    for low, high in (plan.randomisation.noise, plan.randomisation.bias, plan.randomisation.slice_mm):
        assert low <= high


def test_finer_data_never_gives_a_coarser_grid() -> None:
    steps = [rules.spacing([image(spacing_mm=(mm, mm, mm))]).value[0] for mm in (0.5, 1.0, 2.0, 3.0, 5.0)]
    assert all(first <= second for first, second in pairwise(steps))

from __future__ import annotations

from typing import Any

import pytest

from anatomad.errors import DataError, UsageError
from anatomad.planner.machine import Machine
from anatomad.planner.plan import TISSUES, PlanFile
from anatomad.planner.planning import decisions_of, holds, make_plan
from anatomad.planner.records import CaseFingerprint, Fingerprint
from anatomad.planner.settings import shown
from tests.planner.test_rules import fingerprint, image

CPU = Machine(kind="cpu", memory_gb=16, precision="bfloat16")
USUAL = fingerprint(*[image()] * 42)


def card(memory_gb: float) -> Machine:
    return Machine(kind="gpu", memory_gb=memory_gb, precision="bfloat16")


def test_plan_of_a_usual_data_set() -> None:
    planned = make_plan(USUAL, CPU)
    plan = planned.configuration()
    assert planned.spacing_mm == (2.0, 2.0, 2.0)
    assert planned.box == (80, 96, 80)
    assert planned.folds == 5
    assert (plan.dimension, plan.patch, plan.batch_size) == (2, (96, 96, 1), 8)
    assert plan.features == (16, 32, 64, 96)
    assert plan.strides == ((1, 1, 1), (2, 2, 1), (2, 2, 1), (2, 2, 1))
    assert plan.kernel_sizes == ((3, 3, 1),) * 4
    assert (plan.learning_rate, plan.ema_decay, plan.precision) == (3e-3, 0.995, "auto")
    assert (plan.stages.anatomy, plan.stages.restoration, plan.stages.recoupling) == (1600, 1500, 100)
    assert plan.randomisation.noise == (0.0, 0.03)
    assert plan.randomisation.slice_mm == (2.0, 5.0)
    volumes = planned.configuration("3d")
    assert (volumes.patch, volumes.batch_size) == ((40, 48, 40), 1)


def test_a_large_card_gets_wide_networks_and_whole_volumes() -> None:
    plan = make_plan(USUAL, card(40)).configuration("3d")
    assert plan.patch == plan.box
    assert (plan.features, plan.batch_size) == ((32, 64, 128, 256), 8)
    assert plan.learning_rate == pytest.approx(1.5e-3)
    fine = make_plan(fingerprint(image()), card(40), settings={"spacing_mm": "[1, 1, 1]"}).configuration("3d")
    assert fine.features == (32, 64, 128, 256, 320)


def test_a_plan_says_what_does_not_fit() -> None:
    nothing = {row.name: row.reason for row in make_plan(USUAL, card(0.5)).decisions}
    assert "not even on that can networks be trained in 0.5 GB" in nothing["configurations.2d.patch"]
    assert "not even that can be trained in 0.5 GB" in nothing["configurations.2d.batch_size"]
    assert "does not fit: a training step needs" in nothing["configurations.2d.memory_mb.training"]
    enough = make_plan(USUAL, card(8)).decisions
    assert not [row.reason for row in enough if "does not fit" in row.reason or "not even" in row.reason]


def test_a_patch_is_as_large_as_training_allows_where_prediction_does_not_fit() -> None:
    planned = make_plan(USUAL, card(0.8))
    assert planned.configuration().patch > (64, 64, 1)
    rows = {row.name: row.reason for row in planned.decisions}
    assert "that can be trained in 0.8 GB" in rows["configurations.2d.patch"]
    assert "planned for 0.8 GB; does not fit: the prediction" in rows["configurations.2d.memory_mb.prediction"]


def test_thick_slices_are_pooled_when_the_planes_have_caught_up() -> None:
    planned = make_plan(fingerprint(*[image(spacing_mm=(0.5, 0.5, 6.0))] * 5), CPU)
    assert list(planned.configurations) == ["3d"]
    plan = planned.configuration()
    assert plan.spacing_mm == (2.0, 2.0, 6.0)
    assert plan.strides == ((1, 1, 1), (2, 2, 1), (2, 2, 2), (2, 2, 1))
    assert plan.kernel_sizes == ((3, 3, 1), (3, 3, 3), (3, 3, 3), (3, 3, 3))
    assert planned.multiple == (8, 8, 2)
    assert planned.model_name(0, "3d") == "fold0"


def test_every_value_of_the_plan_has_its_reason() -> None:
    planned = make_plan(USUAL, CPU)
    values = planned.model_dump(exclude={"version", "dataset", "channel_names", "decisions", "overrides", "machine"})

    def leaves(group: dict[Any, object], path: str) -> set[str]:
        found: set[str] = set()
        for key, value in group.items():
            found |= leaves(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}"}
        return found

    # whether it is about slices or volumes is what the configurations are called after
    expected = {name for name in leaves(values, "") if not name.endswith(".dimension")} | {"configurations"}
    assert {decision.name for decision in planned.decisions} == expected
    assert all(decision.reason and decision.value for decision in planned.decisions)


def test_cases_beyond_ram_are_read_ahead() -> None:
    assert make_plan(USUAL, CPU).configurations["2d"].loader_workers == 0
    many = fingerprint(*[image()] * 500)
    workstation = card(8).model_copy(update={"ram_gb": 16.0, "cores": 6})
    assert make_plan(many, workstation).configurations["2d"].loader_workers == 6
    assert make_plan(many, workstation.model_copy(update={"ram_gb": 64.0})).configurations["2d"].loader_workers == 0
    assert make_plan(many, card(8)).configurations["2d"].loader_workers == 0  # RAM is not known
    by_hand = make_plan(USUAL, CPU, settings={"configurations.2d.loader_workers": "2"})
    assert by_hand.configurations["2d"].loader_workers == 2
    assert by_hand.configuration().digest() == make_plan(USUAL, CPU).configuration().digest()


def test_decisions_are_kept_with_their_figures() -> None:
    rows = {row.name: row for row in make_plan(USUAL, CPU).decisions}
    assert rows["spacing_mm"].numbers == {"in_plane_mm": 0.87, "slice_mm": 1.0, "scans": 42}
    assert rows["folds"].numbers == {"subjects": 42}
    assert rows["randomisation.noise"].numbers == {"p95": 0.01}


def test_values_set_in_the_file_are_marked() -> None:
    planned = make_plan(USUAL, CPU)
    two = planned.configurations["2d"].model_copy(update={"batch_size": 7})
    edited = planned.model_copy(update={"configurations": planned.configurations | {"2d": two}})
    rows = {row.name: row for row in decisions_of(edited)}
    assert rows["configurations.2d.batch_size"].value == "7"
    assert rows["configurations.2d.batch_size"].reason == "set by hand; was 8"
    assert rows["box"] == next(decision for decision in planned.decisions if decision.name == "box")


def test_decisions_of_a_configuration_that_was_taken_out_are_gone() -> None:
    planned = make_plan(USUAL, CPU)
    volumes = planned.model_copy(update={"configurations": {"3d": planned.configurations["3d"]}})
    rows = {row.name: row for row in decisions_of(volumes)}
    assert rows["configurations"].reason == "set by hand; was 2d, 3d"
    assert not [name for name in rows if name.startswith("configurations.2d")]
    with pytest.raises(UsageError, match=r"no such decision in this plan; close to it: configurations\.3d\.batch_size"):
        holds(volumes, "configurations.2d.batch_size", "8")


def test_values_are_told_apart_to_the_last_digit() -> None:
    planned = make_plan(USUAL, CPU, settings={"seed": "20240101", "postprocessing.rim_mm": "2.0000001"})
    rows = {row.name: row.value for row in planned.decisions}
    assert (rows["seed"], rows["postprocessing.rim_mm"]) == ("20240101", "2.0000001")
    assert holds(planned, "seed", "20240101")
    assert not holds(planned, "seed", "20240102")
    assert not holds(planned, "postprocessing.rim_mm", "2")
    edited = planned.model_copy(update={"seed": 20240102})
    assert [row.reason for row in decisions_of(edited) if row.name == "seed"] == ["set by hand; was 20240101"]


def test_settings_are_followed_marked_and_recorded() -> None:
    planned = make_plan(USUAL, CPU, settings={"spacing_mm": "[3, 3, 3]", "configurations.2d.precision": "float32"})
    assert planned.spacing_mm == (3.0, 3.0, 3.0)
    assert planned.box == (52, 64, 52)  # what depends on a setting follows it
    assert planned.smoothing_mm == (0, 6, 12)
    assert [(o.name, o.value, o.original) for o in planned.overrides] == [
        ("spacing_mm", "3, 3, 3", "2, 2, 2"),
        ("configurations.2d.precision", "float32", "auto"),
    ]
    rows = {row.name: row for row in decisions_of(planned)}
    assert rows["spacing_mm"].reason.startswith("set by --set; the rule chose 2, 2, 2: ")
    assert holds(planned, "spacing_mm", "[3, 3, 3]")
    assert not holds(planned, "spacing_mm", "[2, 2, 2]")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("patchsize", "3", r"--set patchsize: no such decision in this plan; close to it: .*configurations\.2d\.patch"),
        ("batch_size", "3", r"close to it: configurations\.2d\.batch_size, configurations\.3d\.batch_size$"),
        ("hippopotamus", "3", "no such decision in this plan; anatomad_plan prints those that there are"),
        ("spacing_mm", "1.5,1.5", "--set spacing_mm=1.5,1.5: .*; give it like --set spacing_mm=2,2,2"),
        ("configurations.3d.strides", "2x2", r"give it like --set .*strides=1x1x1,2x2x2,2x2x2,2x2x2"),
        ("normalisation.0", "99,1", "contradicts the rest of the plan .*99 must lie below 1"),
        (
            "randomisation.noise",
            "0.3,0.1",
            "--set randomisation.noise=0.3,0.1: .*0.3 must not lie above 0.1",
        ),
        ("temperature", "1,0", "--set temperature=1,0: .*greater than 0"),
        ("normalisation.1", "1,99", "--set normalisation.1: no such decision"),
        ("brain_mask", "maybe", "--set brain_mask=maybe: .*'auto'.*give it like --set brain_mask=auto"),
        ("configurations.4d.patch", "[8, 8, 8]", "--set configurations.4d.patch: no such decision"),
        ("configurations.2d.dimension", "3", "--set configurations.2d.dimension: no such decision"),
        ("folds", "many", "--set folds=many: .*valid integer"),
        ("folds", "1", "folds=1: expected 2 to 42 .subjects: 42.; choose with --set folds=N"),
        ("folds", "43", "folds=43: expected 2 to 42"),
        ("configurations.2d.batch_size", "0", "--set configurations.2d.batch_size=0: .*greater than 0"),
        ("box", "[81, 96, 80]", r"--set box=81, 96, 80: contradicts the rest of the plan .*must divide by"),
        ("spacing_mm", "[2, 2, 3]", "3D alone"),
        ("configurations.2d.features", "[16, 32]", "contradicts the rest of the plan .*rows, features 2"),
        ("configurations.2d.patch", "[96, 96, 96]", "contradicts the rest of the plan .*sees slices"),
        ("configurations.2d.patch", "[90, 90, 1]", "contradicts the rest of the plan .*must divide by"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(name: str, value: str, message: str) -> None:
    if message == "3D alone":
        rows = {row.name: row for row in make_plan(USUAL, CPU, settings={name: value}).decisions}
        assert rows["configurations"].reason.startswith(message)
        return
    with pytest.raises(UsageError, match=message):
        make_plan(USUAL, CPU, settings={name: value})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("spacing_mm", "1.5,1.5,1.5", (1.5, 1.5, 1.5)),
        ("spacing_mm", "1.5, 1.5, 1.5", (1.5, 1.5, 1.5)),
        ("spacing_mm", "[1.5, 1.5, 1.5]", (1.5, 1.5, 1.5)),
        ("spacing_mm", "1.5", (1.5, 1.5, 1.5)),
        ("smoothing_mm", "4", (4.0,)),
        ("normalisation.0", "1,99", (1.0, 99.0)),
        ("postprocessing.rim_mm", "4", 4.0),
        ("tissues", "background, csf, grey matter, white matter", TISSUES),
        ("configurations.3d.kernel_sizes", "3x3x1, 3x3x3, 3x3x3, 3x3x3", ((3, 3, 1), *((3, 3, 3),) * 3)),
    ],
)
def test_settings_are_read_as_the_table_prints_them(name: str, text: str, value: object) -> None:
    planned = make_plan(USUAL, CPU, settings={name: text})
    assert holds(planned, name, text)
    assert value_at(planned, name) == value
    assert next(row.value for row in planned.decisions if row.name == name) == shown(value)


def test_every_printed_value_can_be_given_back() -> None:
    planned = make_plan(USUAL, CPU)
    assert all(holds(planned, row.name, row.value) for row in planned.decisions if row.name != "configurations")


def value_at(plan: PlanFile, name: str) -> object:
    value: Any = plan.model_dump()
    for key in name.split("."):
        value = value[int(key) if key.isdigit() else key]
    return value


def test_repeated_scans_count_as_one_subject() -> None:
    cases = tuple(CaseFingerprint(id=f"p{n // 2}_{n}", channels={0: image()}) for n in range(8))
    taken = Fingerprint(dataset="Dataset001_Demo", channel_names={0: "T1w"}, cases=cases)
    assert make_plan(taken, CPU).folds == 8
    assert make_plan(taken, CPU, participants=("p0", "p1", "p2", "p3")).folds == 4


def test_many_subjects_get_more_steps() -> None:
    steps = [make_plan(fingerprint(*[image()] * n), CPU).configuration().stages.anatomy for n in (1, 1000, 5000)]
    assert steps == [1600, 1600, 6250]


def test_nothing_measured() -> None:
    with pytest.raises(DataError, match="Dataset001_Demo: no training scan could be measured"):
        make_plan(fingerprint(), CPU)

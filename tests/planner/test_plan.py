import json
from pathlib import Path
from typing import Any

import pytest

from anatomad.errors import PlanError, UsageError
from anatomad.planner.migration import migrated
from anatomad.planner.plan import PlanFile, Postprocessing, kept_plan, read_plan
from anatomad.planner.planning import decisions_of, make_plan
from anatomad.preprocess.store import preprocessing_digest
from tests.planner.test_planning import CPU
from tests.planner.test_rules import fingerprint, image


@pytest.fixture
def values() -> dict[str, Any]:
    dumped: dict[str, Any] = make_plan(fingerprint(image()), CPU).model_dump(mode="json")
    return dumped


def write(tmp_path: Path, values: dict[str, Any]) -> Path:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(values))
    return path


def test_round_trip_keeps_the_digest(tmp_path: Path, values: dict[str, Any]) -> None:
    plan = make_plan(fingerprint(image()), CPU)
    read = read_plan(write(tmp_path, values))
    assert read == plan
    assert read.configuration("3d").digest() == plan.configuration("3d").digest()


def changed(values: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    *groups, key = path.split(".")
    result: dict[str, Any] = json.loads(json.dumps(values))
    place = result
    for group in groups:
        place = place[group]
    if value is None:
        del place[key]
    else:
        place[key] = value
    return result


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("patchsize", 3, "patchsize: Extra inputs"),
        ("configurations.2d.batch_size", 0, r"configurations\.2d\.batch_size: .*greater than 0"),
        ("spacing_mm", [2, 2], r"spacing_mm\.2: Field required"),
        ("spacing_mm", [2, 2, 4], r"2d looks along all three axes: spacing_mm \(2.0, 2.0, 4.0\)"),
        ("box", [81, 96, 80], r"box \(81, 96, 80\) must divide by multiple \(8, 8, 8\)"),
        ("multiple", [4, 8, 8], r"multiple \(4, 8, 8\) must divide by \(8, 8, 8\), the total stride of 2d"),
        ("configurations.3d.patch", [20, 16, 16], r"patch \(20, 16, 16\) must divide by \(8, 8, 8\)"),
        ("configurations.2d.patch", [96, 96, 8], "a 2D configuration sees slices"),
        ("configurations.2d.features", [16, 32], "strides has 4 rows, features 2|kernel_sizes has 4 rows, features 2"),
        ("configurations.2d.features", [16, 32, 64, 90], "must be multiples of 4"),
        ("configurations.3d.ema_decay", 1, "ema_decay"),
        ("configurations.3d.stages.recoupling", None, r"stages\.recoupling: Field required"),
        ("normalisation", {"0": [5, 5]}, "normalisation of channel 0: 5 must lie below 5"),
        ("normalisation", {"1": [1, 99]}, r"normalisation has channels \[1\], channel_names \[0\]"),
        ("postprocessing.mask_p", 1, r"mask_p: .*less than 1"),
        ("postprocessing.rim_mm", 0, r"rim_mm: .*greater than 0"),
        ("edge_mm", [2, 2, 4], r"2d looks along all three axes: edge_mm \(2.0, 2.0, 4.0\) must be the same along each"),
        ("randomisation.noise", [0.5, 0.1], r"randomisation\.noise: .*0\.5 must not lie above 0\.1"),
        ("randomisation.noise", [-0.5, 0.1], r"randomisation\.noise\.0: .*greater than or equal to 0 \(found -0\.5\)"),
        ("randomisation.scaling", [0, 1], r"randomisation\.scaling\.0: .*greater than 0 \(found 0\)"),
        ("temperature", [1, 0], r"temperature\.1: .*greater than 0 \(found 0\)"),
        ("corruption.lesions", [-1, 2], r"corruption\.lesions\.0: .*greater than or equal to 0 \(found -1\)"),
        ("corruption.lesions", [3, 2], r"corruption\.lesions: .*3 must not lie above 2"),
        ("corruption.edge_dropout", [0, 2], r"corruption\.edge_dropout\.1: .*less than or equal to 1 \(found 2\)"),
        ("tissues", ["background", "tissue"], "tissues are background, csf"),
    ],
)
def test_bad_keys_are_named(tmp_path: Path, values: dict[str, Any], path: str, value: object, message: str) -> None:
    with pytest.raises(PlanError, match=rf"plan\.json: .*({message})"):
        read_plan(write(tmp_path, changed(values, path, value)))


@pytest.mark.parametrize("version", [1, 4])
def test_another_version_is_refused_with_the_way_out(tmp_path: Path, values: dict[str, Any], version: int) -> None:
    with pytest.raises(PlanError, match=rf"a plan of version {version}, .* reads versions 2 and 3; delete it and run"):
        read_plan(write(tmp_path, values | {"version": version}))


NEW = ("brain_mask", "normalisation", "edge_mm", "postprocessing")


def of_version_2(values: dict[str, Any]) -> dict[str, Any]:
    rows = [row for row in values["decisions"] if row["name"].split(".")[0] not in NEW]
    return {key: value for key, value in values.items() if key not in NEW} | {"version": 2, "decisions": rows}


def test_version_2_is_migrated_to_what_it_did(tmp_path: Path, values: dict[str, Any]) -> None:
    planned, now = read_plan(write(tmp_path, of_version_2(values))), PlanFile.model_validate(values)
    assert planned.version == 3
    old = {"rim_mm": 2.0, "mask_p": 0.01, "smallest_mm3": 0.0}
    assert planned.postprocessing == Postprocessing(**old)
    assert planned.model_copy(update={"postprocessing": now.postprocessing, "decisions": now.decisions}) == now
    assert {row.name for row in planned.decisions} == {row.name for row in now.decisions}
    assert decisions_of(planned) == list(planned.decisions)  # nothing looks changed by hand


def test_the_migrated_rim_is_one_voxel_whatever_its_size(values: dict[str, Any]) -> None:
    thick = make_plan(fingerprint(image(spacing_mm=(0.5, 0.5, 6.0))), CPU).model_dump(mode="json")
    fine = make_plan(fingerprint(image()), CPU, settings={"spacing_mm": "1"}).model_dump(mode="json")
    for each in (values, thick, fine):
        assert PlanFile.model_validate(migrated(of_version_2(each))).rim() == (1, 1, 1)
    assert PlanFile.model_validate(fine).rim() == (2, 2, 2)
    assert PlanFile.model_validate(thick).rim() == (1, 1, 1)


def test_damaged_plan_of_version_2(tmp_path: Path, values: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match="a damaged plan of version 2"):
        read_plan(write(tmp_path, changed(of_version_2(values), "spacing_mm", None)))


def test_a_model_keeps_its_plan_over_a_version(values: dict[str, Any]) -> None:
    plan = PlanFile.model_validate(values).configuration()
    assert kept_plan(json.loads(plan.model_dump_json())) == plan
    old = of_version_2(json.loads(plan.model_dump_json()) | {"decisions": []})
    del old["decisions"]
    assert kept_plan(old).postprocessing.smallest_mm3 == 0


def test_configurations_share_the_store(values: dict[str, Any]) -> None:
    planned = PlanFile.model_validate(values)
    slices, volumes = planned.configuration(), planned.configuration("3d")
    assert (slices.configuration, slices.dimension, volumes.dimension) == ("2d", 2, 3)
    assert preprocessing_digest(slices) == preprocessing_digest(volumes)
    assert slices.digest() != volumes.digest()
    assert [planned.model_name(1), planned.model_name(1, "2d"), planned.model_name(1, "3d")] == [
        "fold1",
        "fold1",
        "fold1_3d",
    ]
    with pytest.raises(UsageError, match="no configuration '4d'; its plan has 2d, 3d"):
        planned.configuration("4d")


def test_reasons_and_the_machine_do_not_change_what_a_model_depends_on(values: dict[str, Any]) -> None:
    other = PlanFile.model_validate(values | {"decisions": [], "machine": values["machine"] | {"memory_gb": 5}})
    assert other.configuration().digest() == PlanFile.model_validate(values).configuration().digest()


def test_not_a_plan(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no plan here; make one with 'anatomad_plan -d DATASET'"):
        read_plan(tmp_path / "plan.json")
    (tmp_path / "plan.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(PlanError, match=r"plan\.json: "):
        read_plan(tmp_path / "plan.json")

import json
from pathlib import Path
from typing import Any

import pytest

from anatomad.errors import PlanError
from anatomad.planner.plan import read_plan
from anatomad.planner.rules import make_plan
from tests.planner.test_rules import fingerprint, image


@pytest.fixture
def values() -> dict[str, Any]:
    dumped: dict[str, Any] = make_plan(fingerprint(image())).model_dump(mode="json")
    return dumped


def write(tmp_path: Path, values: dict[str, Any]) -> Path:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(values))
    return path


def test_round_trip_keeps_the_digest(tmp_path: Path, values: dict[str, Any]) -> None:
    plan = make_plan(fingerprint(image()))
    read = read_plan(write(tmp_path, values))
    assert read == plan
    assert read.digest() == plan.digest()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patchsize": 3}, "patchsize: Extra inputs"),
        ({"batch_size": 0}, "batch_size: .*greater than 0"),
        ({"spacing_mm": [2, 2]}, r"spacing_mm\.2: Field required"),
        ({"box": [81, 96, 80]}, r"box \(81, 96, 80\) must divide by 8"),
        ({"version": 2}, "version"),
        ({"ema_decay": 1}, "ema_decay"),
        ({"stages": {"anatomy": 1, "restoration": 1}}, r"stages\.recoupling: Field required"),
    ],
)
def test_bad_keys_are_named(tmp_path: Path, values: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=rf"plan\.json: .*{message}"):
        read_plan(write(tmp_path, values | change))


def test_not_a_plan(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no plan here; make one with 'anatomad_plan -d DATASET'"):
        read_plan(tmp_path / "plan.json")
    (tmp_path / "plan.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(PlanError, match=r"plan\.json: "):
        read_plan(tmp_path / "plan.json")

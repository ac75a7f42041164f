import re
from pathlib import Path

import pytest

from anatomad.baselines.peer import CONTRASTS
from anatomad.baselines.registry import METHODS, find_method
from anatomad.errors import UsageError
from anatomad.planner.plan import METHOD
from anatomad.train.method import DAL
from tests.train.fold import tiny_plan

TABLE = re.compile(r"^\| `([a-z][\w-]*)` \|", re.MULTILINE)
DOCUMENT = Path(__file__).parents[2] / "docs" / "baselines.md"


def test_the_table_has_every_method_once() -> None:
    named = TABLE.findall(DOCUMENT.read_text(encoding="utf-8"))
    assert sorted(named) == sorted(name for name in METHODS if not name.endswith(CONTRASTS))


def test_none_means_our_own() -> None:
    assert METHODS[METHOD] is DAL is find_method(None) is find_method("dal")
    with pytest.raises(UsageError, match=r"no method 'DAL'; there are dal, "):
        find_method("DAL")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_gets_the_same_steps(name: str) -> None:
    plan = tiny_plan()
    steps = METHODS[name].steps(plan)
    assert list(steps) == [stage.name for stage in METHODS[name].stages]
    if steps:
        assert sum(steps.values()) == sum(plan.stages.model_dump().values())


@pytest.mark.parametrize("name", [name for name in METHODS if name.endswith(CONTRASTS)])
def test_with_and_without_our_contrasts_it_is_the_same_method(name: str) -> None:
    drawn, plain = METHODS[name], METHODS[name.removesuffix(CONTRASTS)]
    assert (drawn.networks, drawn.read, drawn.shares) == (plain.networks, plain.read, plain.shares)
    assert getattr(drawn.fit, "func", drawn.fit) is plain.fit
    assert all(stage.contrasts for stage in drawn.stages)
    assert not any(stage.contrasts for stage in plain.stages)

"""What the benchmarks make up themselves goes through the planner like any data set, so that none breaks unseen."""

from __future__ import annotations

import pytest

from benchmarks.memory import GROUPS, cases


@pytest.mark.parametrize("group", GROUPS)
def test_the_memory_benchmark_plans_2d_and_3d_of_every_kind_of_scan(group: str) -> None:
    planned = cases([group]).values()
    kinds, _ = GROUPS[group]
    assert {case.scans for case in planned} == {scans.name for scans in kinds}
    assert {case.plan.configuration for case in planned} == {"2d", "3d"}

"""Conversions in this process: what spawned workers do is tested with the commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from anatomad.convert import run


def _in_turn(
    function: Callable[..., Any], jobs: Mapping[str, Sequence[Any]], workers: int, label: str
) -> tuple[dict[str, Any], dict[str, Exception]]:
    results, failures = {}, {}
    for name, arguments in jobs.items():
        try:
            results[name] = function(*arguments)
        except Exception as error:  # noqa: BLE001 - as run_jobs does
            failures[name] = error
    return results, failures


@pytest.fixture
def in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convert case by case, which takes milliseconds instead of the seconds that workers need to start."""
    monkeypatch.setattr(run, "run_jobs", _in_turn)

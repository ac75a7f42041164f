from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anatomad.benchmark import machine
from anatomad.benchmark.machine import describe_machine, forget_peak, peak_memory_mb, threads_per_worker


def test_the_peak_is_that_since_it_was_forgotten() -> None:
    if peak_memory_mb() is None:
        pytest.skip("this system does not say")
    large = np.ones(300_000_000 // 8)
    high = peak_memory_mb()
    del large
    forget_peak()
    low = peak_memory_mb()
    assert high is not None
    assert low is not None
    assert high - low > 200


def test_a_system_that_does_not_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("_STATUS", "_CLEAR"):
        monkeypatch.setattr(machine, name, tmp_path / "none" / "file")
    forget_peak()
    assert peak_memory_mb() is None


@pytest.mark.parametrize(
    ("workers", "cores", "limit", "threads"),
    [(1, 8, "", 8), (3, 8, "", 2), (9, 8, "", 1), (2, 8, "4", 2), (1, 8, "3,1", 3)],
)
def test_workers_share_the_cores(
    workers: int, cores: int, limit: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert threads_per_worker(workers, cores) == threads


def test_machine_is_described() -> None:
    assert {"processor", "gpu", "threads", "torch", "python"} == describe_machine().keys()

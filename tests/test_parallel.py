import multiprocessing
import os
import signal
import time
from concurrent.futures import Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from anatomad import parallel
from anatomad.errors import AnatomadError, ImageError, ResourceError
from anatomad.parallel import default_workers, run_jobs
from anatomad.progress import Progress


def double(value: int) -> int:
    return 2 * value


def die_once(marker: Path, value: int) -> int:
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def die(marker: Path) -> None:
    with marker.open("a") as file:
        file.write("x")
    os.kill(os.getpid(), signal.SIGKILL)


def fail(kind: str) -> None:
    class OddError(Exception):
        pass

    raise {"known": ImageError("scan.nii: bad"), "foreign": OddError("odd"), "memory": MemoryError()}[kind]


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def dispatch(name: str, *args: object) -> object:
    return globals()[name](*args)


def threads() -> str:
    return os.environ["OMP_NUM_THREADS"]


def test_results_in_order_of_the_jobs() -> None:
    jobs = {name: (number,) for number, name in enumerate("dcba")}
    results, failures = run_jobs(double, jobs, 2, "test")
    assert list(results.items()) == [("d", 0), ("c", 2), ("b", 4), ("a", 6)]
    assert failures == {}


def test_no_jobs() -> None:
    assert run_jobs(double, {}, 2, "test") == ({}, {})


def test_killed_worker_is_tried_again(tmp_path: Path) -> None:
    jobs = {"a": (tmp_path / "a", 1), "b": (tmp_path / "b", 2)}
    results, failures = run_jobs(die_once, jobs, 2, "test")
    assert results == {"a": 1, "b": 2}
    assert failures == {}


def test_job_that_always_kills_its_worker_is_named(tmp_path: Path) -> None:
    marker = tmp_path / "deaths"
    jobs = {"bad": ("die", marker), "x": ("double", 1), "y": ("double", 2), "z": ("double", 3)}
    results, failures = run_jobs(dispatch, jobs, 2, "test")
    assert results == {"x": 2, "y": 4, "z": 6}
    assert list(failures) == ["bad"]
    assert isinstance(failures["bad"], ResourceError)
    assert "bad: its worker process was killed 3 times" in str(failures["bad"])
    assert marker.read_text() == "xxx"
    assert not multiprocessing.active_children()


def test_failures_keep_their_type_or_their_words() -> None:
    jobs = {"one": ("known",), "two": ("foreign",), "three": ("memory",)}
    results, failures = run_jobs(fail, jobs, 1, "test")
    assert results == {}
    assert str(failures["one"]) == "scan.nii: bad"
    assert isinstance(failures["one"], ImageError)
    assert type(failures["two"]) is AnatomadError
    assert str(failures["two"]) == "two: OddError: odd"
    assert isinstance(failures["three"], ResourceError)


def test_job_beyond_the_deadline_is_stopped() -> None:
    started = time.monotonic()
    results, failures = run_jobs(sleep, {"slow": (60.0,), "quick": (0.0,)}, 1, "test", deadline_s=3)
    assert results == {"quick": 0.0}
    assert "slow: not done after 3 s" in str(failures["slow"])
    assert time.monotonic() - started < 30


def test_job_that_ends_while_another_is_told_is_no_death(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Future[Any]] = []
    submit = parallel.ProcessPoolExecutor.submit

    def submitted(pool: ProcessPoolExecutor, *args: Any) -> Future[Any]:
        started.append(submit(pool, *args))
        return started[-1]

    def advance(self: Progress, *_: object, **__: object) -> None:
        wait(started)

    monkeypatch.setattr(parallel.ProcessPoolExecutor, "submit", submitted)
    monkeypatch.setattr(Progress, "advance", advance)
    assert run_jobs(sleep, {"a": (0.0,), "b": (1.0,)}, 2, "test") == ({"a": 0.0, "b": 1.0}, {})
    assert len(started) == 2  # neither was done again


def test_interrupt_leaves_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(parallel, "wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_jobs(sleep, {"a": (60.0,)}, 1, "test")
    assert not multiprocessing.active_children()


def test_workers_use_the_threads_they_are_given() -> None:
    assert run_jobs(threads, {"a": ()}, 1, "test")[0] == {"a": "1"}
    assert run_jobs(threads, {"a": ()}, 1, "test", threads=3)[0] == {"a": "3"}


def test_default_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "free_memory", lambda: 3 * 2**30)
    assert default_workers(2 * 2**30) == 1
    assert default_workers(100 * 2**30) == 1
    monkeypatch.setattr(parallel, "free_memory", lambda: None)
    assert default_workers() >= 1


def test_free_memory_is_plausible() -> None:
    free = parallel.free_memory()
    assert free is None or 2**20 < free < 2**50


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The process's own cgroup, two below the root."""
    monkeypatch.setattr(parallel, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(parallel, "_OWN_CGROUP", tmp_path / "own")
    (tmp_path / "own").write_text("1:name=systemd:/other\n0::/jobs/ours\n")
    folder = tmp_path / "cgroup" / "jobs" / "ours"
    folder.mkdir(parents=True)
    return folder


def limit(group: Path, most: str, used: int = 0, cached: int = 0) -> None:
    (group / "memory.max").write_text(f"{most}\n")
    (group / "memory.current").write_text(f"{used}\n")
    (group / "memory.stat").write_text(f"anon {used - 2 * cached}\ninactive_file {cached}\nslab_reclaimable {cached}\n")


def test_what_the_kernel_gives_back_is_free(group: Path) -> None:
    limit(group, "4096", used=3000, cached=1000)
    assert parallel.free_memory() == 4096 - 1000
    assert parallel.total_memory() == 4096


def test_the_least_limit_of_all_groups_counts(group: Path) -> None:
    limit(group, "max")
    limit(group.parent, "4096", used=96)
    limit(group.parents[1], "8192", used=8000)
    assert parallel.total_memory() == 4096
    assert parallel.free_memory() == 192
    for folder in (group.parent, group.parents[1]):
        limit(folder, "max")
    assert parallel.total_memory() == parallel._meminfo("MemTotal")


def test_a_group_that_is_not_shown_leaves_the_root(group: Path) -> None:
    group.rmdir()  # as in a container that sees its own group as the root
    limit(group.parents[1], "4096", used=96)
    assert parallel.free_memory() == 4000

"""Jobs in worker processes: a killed worker's job is tried again, then named; nothing waits for ever."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from pathlib import Path
from typing import Any, Generic, TypeVar

from anatomad.errors import AnatomadError, ResourceError
from anatomad.progress import Progress

T = TypeVar("T")

RETRIES = 2
BYTES_PER_WORKER = 2 * 2**30
_POLL_S = 1.0
_CGROUPS, _OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_RECLAIMABLE = ("inactive_file", "slab_reclaimable")
_THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")


def default_workers(bytes_per_worker: int = BYTES_PER_WORKER) -> int:
    """Workers that the cores and the free memory of this machine allow; at least one."""
    free = free_memory()
    return max(1, cores() if free is None else min(cores(), free // bytes_per_worker))


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int | None:
    """Bytes of memory that can be had now without swapping, within the container's limit; None if unknown."""
    known = [value for value in (_meminfo("MemAvailable"), _cgroup_free()) if value is not None]
    return min(known, default=None)


def total_memory() -> int | None:
    """Bytes of memory of this machine, or the container's limit where that is less; None if unknown."""
    known = [value for value in (_meminfo("MemTotal"), _cgroup_limit()) if value is not None]
    return min(known, default=None)


def run_jobs(
    function: Callable[..., T],
    jobs: Mapping[str, Sequence[Any]],
    workers: int,
    label: str,
    deadline_s: float = 3600.0,
    threads: int = 1,
) -> tuple[dict[str, T], dict[str, Exception]]:
    """Call ``function(*jobs[name])`` for every job in spawned worker processes.

    When a worker dies (as when memory runs out), the jobs that were running are tried again, each alone, at most
    twice. An exception of a job is kept and the other jobs go on.

    Args:
        function: a module-level function; arguments and result must pickle.
        jobs: name to positional arguments.
        workers: processes at a time.
        label: shown beside the progress.
        deadline_s: a job that runs longer is killed and reported, seconds.
        threads: of each worker.

    Returns:
        Results and failures by name, both in the order of ``jobs``; together they hold every job.
    """
    with Progress(len(jobs), label) as progress:
        run = _Run(function, jobs, deadline_s, threads, progress)
        waiting = deque(jobs)
        suspects: list[str] = []
        while waiting:
            suspects += run.pool(waiting, workers)
        for name in suspects:
            run.alone(name)
    return run.ordered(run.results), run.ordered(run.failures)


class _Run(Generic[T]):
    """State of one `run_jobs`."""

    def __init__(
        self,
        function: Callable[..., T],
        jobs: Mapping[str, Sequence[Any]],
        deadline_s: float,
        threads: int,
        progress: Progress,
    ) -> None:
        self.function, self.jobs, self.deadline_s, self.threads = function, jobs, deadline_s, threads
        self.progress = progress
        self.results: dict[str, T] = {}
        self.failures: dict[str, Exception] = {}

    def ordered(self, found: dict[str, Any]) -> dict[str, Any]:
        return {name: found[name] for name in self.jobs if name in found}

    def alone(self, name: str) -> None:
        for _ in range(RETRIES):
            if not self.pool(deque([name]), 1):
                return
        self._fail(
            name,
            ResourceError(
                f"{name}: its worker process was killed {RETRIES + 1} times, most often because memory ran out; "
                "free memory or use fewer workers (-j 1)"
            ),
        )

    def pool(self, waiting: deque[str], workers: int) -> list[str]:
        """Run what is waiting in one pool; when a worker dies, return the jobs that were running."""
        bystanders = set(multiprocessing.active_children())
        running: dict[Future[T], tuple[str, float]] = {}
        context = multiprocessing.get_context("spawn")
        executor = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(self.threads,))
        try:
            while waiting or running:
                # No more than one job per worker is handed over, so that a death leaves few suspects.
                while waiting and len(running) < workers:
                    name = waiting[0]
                    future = executor.submit(_call, self.function, name, self.jobs[name])
                    running[future] = (waiting.popleft(), time.monotonic())
                self._collect(running)
                self._enforce_deadline(running)
            return []
        except BaseException as error:
            # After a death, a deadline or an interrupt no worker may linger.
            for child in set(multiprocessing.active_children()) - bystanders:
                child.kill()
            if not isinstance(error, BrokenProcessPool):
                raise
            return [name for name, _ in running.values()]
        finally:
            executor.shutdown(wait=True, cancel_futures=True)

    def _collect(self, running: dict[Future[T], tuple[str, float]]) -> None:
        broken = False
        for future in wait(running, timeout=_POLL_S, return_when=FIRST_COMPLETED).done:
            error = future.exception()
            if isinstance(error, BrokenProcessPool):
                broken = True
                continue
            name, _ = running.pop(future)
            if isinstance(error, Exception):
                self._fail(name, error)
            else:
                self.results[name] = future.result()
                self.progress.advance(text=name)
        if broken:
            raise BrokenProcessPool

    def _enforce_deadline(self, running: dict[Future[T], tuple[str, float]]) -> None:
        late = [f for f, (_, started) in running.items() if time.monotonic() - started > self.deadline_s]
        for future in late:
            name, _ = running.pop(future)
            self._fail(name, ResourceError(f"{name}: not done after {self.deadline_s:.0f} s and therefore stopped"))
        if late:
            raise BrokenProcessPool

    def _fail(self, name: str, error: Exception) -> None:
        self.failures[name] = error
        self.progress.advance(text=name)


def _call(function: Callable[..., T], name: str, args: Sequence[Any]) -> T:
    try:
        return function(*args)
    except AnatomadError:
        raise
    except MemoryError:
        raise ResourceError(f"{name}: not enough memory; use fewer workers (-j 1)") from None
    except Exception as error:
        # A foreign exception may not survive pickling; its words do, and the pool sends its trace.
        raise AnatomadError(f"{name}: {type(error).__name__}: {error}") from error


def _start_worker(threads: int) -> None:
    for name in _THREAD_LIMITS:
        os.environ[name] = str(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides.
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _meminfo(what: str) -> int | None:
    lines = _text(Path("/proc/meminfo")).splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{what}:")), None)


def _cgroup_limit() -> int | None:
    return min((limit for _, limit in _limits()), default=None)


def _cgroup_free() -> int | None:
    return min((max(0, limit - _used(group)) for group, limit in _limits()), default=None)


def _limits() -> Iterator[tuple[Path, int]]:
    """The process's cgroup (version 2) and those above it, each with its limit in bytes where it has one."""
    own = next((line[3:] for line in _text(_OWN_CGROUP).splitlines() if line.startswith("0::")), "")
    path = _CGROUPS / own.strip("/")
    for group in (path, *path.parents[: len(path.parts) - len(_CGROUPS.parts)]):
        limit = _text(group / "memory.max").strip()
        if limit.isdigit():
            yield group, int(limit)


def _used(group: Path) -> int:
    """Bytes of a cgroup without what the kernel gives back before anything is killed, such as files read once."""
    parts = dict(line.split() for line in _text(group / "memory.stat").splitlines())
    current = int(_text(group / "memory.current") or 0)
    return current - sum(int(parts.get(name, 0)) for name in _RECLAIMABLE)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""

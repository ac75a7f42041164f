"""Runs work in child processes and kills them with SIGKILL, at any time or within a write.

One process imports torch and forks a child per run, so that a kill costs a fraction of a second.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

Work = Callable[[Path], None]


def attempt(work: Work, root: Path, prepare: Callable[[], None] = lambda: None) -> int:
    """Do the work in a child until it ends or is killed; returns its exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        try:
            prepare()
            work(root)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # a child must not go on as its parent
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def after(seconds: float) -> Callable[[], None]:
    """Kill when a time has passed."""

    def prepare() -> None:
        timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()

    return prepare


def within_write(number: int) -> Callable[[], None]:
    """Kill at a call of fsync, which every write makes once before its rename and once after."""

    def prepare() -> None:
        left, fsync = [number], os.fsync

        def deadly(descriptor: int) -> None:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            fsync(descriptor)

        os.fsync = deadly

    return prepare


def killed_runs(work: Work, root: Path, most_writes: int, kills: int = 10) -> dict[str, float]:
    """Do the work once in ROOT/whole; then in ROOT/killed0, ... until ``kills`` runs were killed, and to the end.

    Args:
        work: Done in a child each time.
        root: Where to.
        most_writes: Kills within a write strike at one of so many first calls of fsync.
        kills: Number of runs that must have been killed; every other kill waits for a write.

    Returns:
        ``finished``: folders ROOT/killedN, each from runs that were killed and one that was not; ``seconds`` of a run.
    """
    start = time.monotonic()
    if attempt(work, root / "whole") != 0:
        raise SystemExit("the uninterrupted run failed")
    duration = time.monotonic() - start
    choose = random.Random(0)
    killed = finished = 0
    for number in range(6 * kills):
        timed = after(choose.uniform(0, 0.7) * duration)
        written = within_write(choose.randint(1, most_writes))
        status = attempt(work, root / f"killed{finished}", timed if number % 2 else written)
        if status not in (0, -signal.SIGKILL):
            raise SystemExit(f"a run ended with {status}")
        killed += status == -signal.SIGKILL
        finished += status == 0
        if killed == kills:
            break
    if killed < kills or attempt(work, root / f"killed{finished}") != 0:
        raise SystemExit(f"{killed} of {kills} runs were killed, or the last one did not end")
    return {"finished": finished + 1, "seconds": duration}

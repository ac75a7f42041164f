"""Trains the tiny fold in child processes and kills them; run as ``python killer.py FOLDER``, prints JSON.

One process imports torch and forks a child per run, so that a kill costs a fraction of a second.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

from anatomad.planner.plan import Stages
from anatomad.train import picture
from anatomad.train.loop import train_fold
from tests.train.fold import make_job, no_calibration, tiny_plan

PLAN = tiny_plan(stages=Stages(anatomy=45, restoration=42, recoupling=23))
TIMED_KILLS, WRITE_KILLS = 6, 6


def attempt(root: Path, prepare: Callable[[], None]) -> int:
    """Train in a child until it ends or is killed; returns its exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        prepare()
        train_fold(make_job(root, PLAN, checkpoint_s=0), no_calibration)
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


def killed_runs(root: Path, kills: list[Callable[[], None]]) -> tuple[int, int]:
    """Train to the end in new folders until every kill has been tried; returns (kills, finished folders)."""
    killed = finished = 0
    while kills or finished == 0:
        status = attempt(root / f"killed{finished}", kills.pop() if kills else lambda: None)
        killed += status == -signal.SIGKILL
        if status not in (0, -signal.SIGKILL):
            raise SystemExit(f"training ended with {status}")
        finished += status == 0
    if attempt(root / f"killed{finished}", lambda: None) != 0:
        raise SystemExit("training did not end")
    return killed, finished + 1


def main(root: Path) -> None:
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    picture.draw = lambda *_: None  # half of the time of so short a training
    start = time.monotonic()
    attempt(root / "whole", lambda: None)
    duration = time.monotonic() - start
    choose = random.Random(0)
    kills = [after(choose.uniform(0, 0.7) * duration) for _ in range(TIMED_KILLS)]
    kills += [within_write(choose.randint(1, 50)) for _ in range(WRITE_KILLS)]
    choose.shuffle(kills)
    killed, finished = killed_runs(root, kills)
    sys.stdout.write(json.dumps({"killed": killed, "finished": finished, "seconds": duration}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Trains the tiny fold in child processes and kills them; run as ``python killer.py FOLDER``, prints JSON."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import torch

from anatomad.planner.plan import Stages
from anatomad.train import picture
from anatomad.train.loop import train_fold
from tests.killing import killed_runs
from tests.train.fold import make_job, no_calibration, tiny_plan

PLAN = tiny_plan(dimension=2, batch_size=2, stages=Stages(anatomy=45, restoration=42, recoupling=23))


def train(root: Path) -> None:
    """Train the tiny fold in ROOT."""
    train_fold(make_job(root, PLAN, checkpoint_s=0), no_calibration)


def main(root: Path) -> None:
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    picture.draw = lambda *_: None  # half of the time of so short a training
    sys.stdout.write(json.dumps(killed_runs(train, root, most_writes=50)) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

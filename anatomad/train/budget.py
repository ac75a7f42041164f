"""A time budget turned into steps: each stage is tried for a few steps on a copy of the model."""

from __future__ import annotations

import copy
import logging
import statistics
import time
from dataclasses import dataclass

from torch import nn

from anatomad.planner.plan import Plan
from anatomad.predict.calibration import calibration_seconds
from anatomad.train.cases import CaseSource, SampleLoader
from anatomad.train.learner import Learner
from anatomad.train.method import Method
from anatomad.train.schedule import MIN_STEPS, fit_steps
from anatomad.train.stages import Stage
from anatomad.train.validate import MAX_CASES

_LOOK_SHARE = 0.1
_TRIED_STEPS = 8
_COLD_STEPS = 2  # the first steps also choose algorithms and fill caches

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Schedule:
    """What a run will do: steps per stage, validation cases looked at after each, and the seconds that a step took."""

    steps: dict[str, int]
    watched: int
    seconds_per_step: dict[str, float]


def fit_schedule(
    budget_s: float,
    began: float,
    method: Method,
    model: nn.Module,
    plan: Plan,
    cases: CaseSource,
    validation: CaseSource,
    precision: str,
) -> Schedule:
    """Measure the speed of every stage and fit the run into a time budget.

    What has passed since ``began``, the calibration (half of the budget at most), and the looks at validation cases
    after each stage (some 10 % at most) are taken off the budget first.

    Args:
        budget_s: Seconds for the whole run.
        began: When it began, by ``time.monotonic``.
        method: Its stages, at least one, and how validation cases are looked at.
        model: Left as it is.
        plan: Its steps per stage are the stages' shares of the time.
        cases: Training cases.
        validation: Validation cases.
        precision: See :func:`anatomad.models.device.precision_of`.
    """
    device = next(model.parameters()).device
    trial = copy.deepcopy(model)
    seconds = {stage.name: _seconds_per_step(trial, stage, plan, cases, precision) for stage in method.stages}
    start = time.monotonic()
    method.validate(trial, [validation[0]], plan, method.stages[0].name, device, precision)
    look = (time.monotonic() - start) * len(method.stages)
    watched = max(1, min(MAX_CASES, len(validation), int(_LOOK_SHARE * budget_s / look) - 1))
    calibration = calibration_seconds(trial.eval().requires_grad_(False), plan, validation, device, method)
    if calibration > budget_s / 2:
        _log.warning("calibrating takes some %.0f s of --time %g s: the run will take longer", calibration, budget_s)
    left = budget_s - min(calibration, budget_s / 2) - look * (watched + 1) - (time.monotonic() - began)  # + 1: picture
    steps = fit_steps(method.steps(plan), seconds, left)
    if min(steps.values()) <= MIN_STEPS:
        _log.warning("--time %g s is too little to train; a stage gets %d steps only", budget_s, MIN_STEPS)
    return Schedule(steps, watched, {name: round(value, 4) for name, value in seconds.items()})


def _seconds_per_step(model: nn.Module, stage: Stage, plan: Plan, cases: CaseSource, precision: str) -> float:
    learner = Learner(model, stage, plan, _TRIED_STEPS, precision)
    loader = SampleLoader(cases, plan, stage.name, next(model.parameters()).device)
    took = []
    for step in range(_TRIED_STEPS):
        start = time.monotonic()
        learner.step(next(loader), step)
        took.append(time.monotonic() - start)
    return statistics.median(took[_COLD_STEPS:])  # a moment in which the machine did something else counts little

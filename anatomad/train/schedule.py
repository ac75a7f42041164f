"""How long each stage runs and how fast it learns along the way."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from anatomad.errors import UsageError

WARM_UP_STEPS = 50
MIN_STEPS = 10
_FINAL_RATE = 0.02
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_TIME = re.compile(r"(\d+(?:\.\d+)?)([smh])")


def parse_time(text: str) -> float:
    """Seconds of a time such as ``90s``, ``20m``, ``1.5h`` or ``1h30m``.

    Raises:
        UsageError: anything else, or no time at all.
    """
    parts = _TIME.findall(text)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or seconds <= 0:
        raise UsageError(f"{text!r} is no time; expected a number with its unit, like 90s, 20m, 1.5h or 1h30m")
    return seconds


def rate_factor(step: int, steps: int) -> float:
    """Factor in (0, 1] on the learning rate: linear warm-up, then a cosine down to 2 %.

    Args:
        step: Step about to be made, from 0.
        steps: Steps of the whole stage.
    """
    warm_up = max(1, min(WARM_UP_STEPS, steps // 10))
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    return min(1.0, (step + 1) / warm_up) * (_FINAL_RATE + (1 - _FINAL_RATE) * cosine)


def average_decay(step: int, longest: float) -> float:
    """Decay of the weights' moving average at ``step``: short memory at first, ``longest`` in the end."""
    return min(longest, (1 + step) / (10 + step))


def fit_steps(planned: Mapping[str, int], seconds_per_step: Mapping[str, float], seconds: float) -> dict[str, int]:
    """Steps per stage that fill ``seconds``; a stage's share of the time is its share of the planned steps.

    Args:
        planned: Steps of the plan, by stage.
        seconds_per_step: Measured cost of a step, by stage.
        seconds: Time for all stages together; each makes at least 10 steps, however little that is.
    """
    total = sum(planned.values())
    return {
        name: max(MIN_STEPS, int(seconds * steps / total / max(seconds_per_step[name], 1e-6)))
        for name, steps in planned.items()
    }

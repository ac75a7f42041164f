"""What a stage changes: its parameters, their moving average and the optimiser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anatomad.models.device import autocast
from anatomad.planner.plan import Plan
from anatomad.train.cases import Sample
from anatomad.train.optimiser import Optimiser
from anatomad.train.schedule import average_decay, rate_factor
from anatomad.train.stages import Stage, Step

_MAX_NORM = 1.0
_MODEL, _AVERAGE, _OPTIMISER = "model.", "average.", "optimiser."

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Outcome:
    """What one step gave: its losses, gradient norm before clipping, and whether all was finite."""

    losses: dict[str, float]
    gradient_norm: float
    learning_rate: float

    @property
    def finite(self) -> bool:
        """Whether the step could be made."""
        return math.isfinite(self.gradient_norm) and all(map(math.isfinite, self.losses.values()))


class Learner:
    """Optimises the parts of a model that a stage trains and freezes the others.

    Args:
        model: The whole model, on its device.
        stage: Names the parts and the loss.
        plan: Learning rate and decay of the moving average.
        steps: Steps of the stage.
        precision: See :func:`anatomad.models.device.precision_of`.
    """

    def __init__(self, model: nn.Module, stage: Stage, plan: Plan, steps: int, precision: str) -> None:
        self.model, self.stage, self.plan, self.steps = model.train(), stage, plan, steps
        self._autocast = autocast(next(model.parameters()).device, precision)
        self._trained = {name: p for name, p in model.named_parameters() if name.partition(".")[0] in stage.trains}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in self._trained)
        self._optimiser = Optimiser(self._trained, plan.learning_rate)
        self._average = {name: p.detach().clone() for name, p in self._trained.items()}

    def step(self, samples: Sequence[Sample], number: int, factor: float = 1.0) -> Outcome:
        """Make optimiser step ``number``; a step whose loss or gradient is not finite changes nothing.

        Args:
            samples: The batch.
            number: Step of the stage, from 0.
            factor: On the scheduled learning rate.
        """
        rate = self.plan.learning_rate * factor * rate_factor(number, self.steps)
        self._optimiser.zero_grad()
        with self._autocast:
            parts = self.stage.loss(self.model, Step(samples, number / self.steps, self.plan, self.stage.contrasts))
            loss = torch.stack([part.float() for part in parts.values()]).sum()
        loss.backward()
        losses = {name: float(part.detach()) for name, part in parts.items()}
        norm = float(torch.nn.utils.clip_grad_norm_(self._trained.values(), _MAX_NORM))
        outcome = Outcome(losses, norm, rate)
        if outcome.finite:
            self._apply(rate, average_decay(number, self.plan.ema_decay))
        return outcome

    def finish(self) -> None:
        """Give the trained parameters their moving average."""
        with torch.no_grad():
            for name, parameter in self._trained.items():
                parameter.copy_(self._average[name])

    def tensors(self) -> Tensors:
        """Copy of everything that the next step depends on."""
        tensors = {_MODEL + name: tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {_AVERAGE + name: tensor for name, tensor in self._average.items()}
        tensors |= {_OPTIMISER + name: tensor for name, tensor in self._optimiser.tensors().items()}
        return {name: tensor.detach().clone() for name, tensor in tensors.items()}

    def restore(self, tensors: Tensors) -> None:
        """Go back to what :meth:`tensors` gave; a checkpoint from before the stage's first step has weights only."""
        restore_weights(self.model, tensors)
        with torch.no_grad():
            for name, parameter in self._trained.items():
                self._average[name].copy_(tensors.get(_AVERAGE + name, parameter))
        own = {name: tensor for name, tensor in tensors.items() if name.startswith(_OPTIMISER)}
        self._optimiser.restore({name.removeprefix(_OPTIMISER): tensor for name, tensor in own.items()})

    def _apply(self, rate: float, decay: float) -> None:
        self._optimiser.step(rate)
        average = list(self._average.values())
        torch._foreach_mul_(average, decay)
        torch._foreach_add_(average, [p.detach() for p in self._trained.values()], alpha=1 - decay)


def weights(model: nn.Module) -> Tensors:
    """Copy of a model's weights, named as in a checkpoint."""
    return {_MODEL + name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def restore_weights(model: nn.Module, tensors: Tensors) -> None:
    """Give a model the weights among ``tensors``; it must have each of them."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            tensor.copy_(tensors[_MODEL + name])

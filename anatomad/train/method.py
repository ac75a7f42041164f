"""A method: what is trained, in which stages, how it is watched, and how it reads a scan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from anatomad.planner.plan import Plan
from anatomad.predict.reader import DAL as DAL_READER
from anatomad.predict.reader import Reader
from anatomad.preprocess.store import StoredCase
from anatomad.train.picture import Row, mosaic_row
from anatomad.train.stages import STAGES, Stage
from anatomad.train.validate import validate

Validate = Callable[[Any, Sequence[StoredCase], Plan, str, torch.device, str], dict[str, float]]


def leave(networks: nn.Module, cases: Sequence[StoredCase], plan: Plan, device: torch.device) -> None:
    """Read nothing off the training cases."""


@dataclass(frozen=True)
class Method(Reader):
    """A way to find anomalies, from training to reading; all run in the same loop.

    Attributes:
        stages: Stages of gradient descent in their order; none where nothing is trained.
        shares: Share of the plan's steps (and of a time budget) by stage; by default a stage has those of its name.
        fit: Reads off the training cases, once the stages are done, what no gradient finds, into the networks' buffers.
        validate: Figures of a stage on validation cases, for the log.
        row: A validation case's line in ``progress.png``.
    """

    stages: tuple[Stage, ...] = ()
    shares: Mapping[str, float] | None = None
    fit: Callable[[Any, Sequence[StoredCase], Plan, torch.device], None] = leave
    validate: Validate = validate
    row: Callable[[Any, StoredCase, torch.device, str], Row] = mosaic_row

    def steps(self, plan: Plan) -> dict[str, int]:
        """Steps of each stage where no time budget is given."""
        planned = plan.stages.model_dump()
        if self.shares is None:
            return {stage.name: planned[stage.name] for stage in self.stages}
        return {name: max(1, round(share * sum(planned.values()))) for name, share in self.shares.items()}


DAL = Method(**vars(DAL_READER), stages=STAGES)

"""A patch with three nested tissues and the draws to change it."""

from __future__ import annotations

import torch

from anatomad.planner.plan import Plan
from anatomad.synth.deform import Patch
from tests.train.fold import SIDE, tiny_plan

LEVELS = (0.2, 0.6, 0.9)


def make_plan(**corruption: object) -> Plan:
    plan = tiny_plan(spacing_mm=(4.0, 4.0, 4.0))
    return plan.model_copy(update={"corruption": plan.corruption.model_copy(update=corruption)})


def make_patch() -> Patch:
    line = torch.arange(SIDE) - (SIDE - 1) / 2
    x, y, z = torch.meshgrid(line / 7, line / 7.4, line / 6.5, indexing="ij")
    radius = (x**2 + y**2 + z**2).sqrt()
    label = torch.where(radius < 1, 1, 0) + (radius < 0.9).long() + (radius < 0.65).long() - 2 * (radius < 0.25).long()
    tissue = torch.nn.functional.one_hot(label, 4).movedim(-1, 0)[None].float()
    image = sum(tissue[:, k : k + 1] * level for k, level in enumerate(LEVELS, start=1))
    return Patch(tissue, torch.as_tensor(image), tissue[:, :1] == 0, torch.zeros(1, 3, SIDE, SIDE, SIDE))

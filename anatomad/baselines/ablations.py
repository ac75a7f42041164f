"""Our own method without one of its modules, to see what each adds.

Source: Yang et al., arXiv 2512.21924, as :mod:`anatomad.models.dal` makes it. Settings: ours but for what the name
says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from anatomad.kernels import label_map, one_hot
from anatomad.models.dal import DisentangledAnatomy, logits_in_brain
from anatomad.predict.decompose import Decomposition, decompose
from anatomad.train.method import DAL, Method
from anatomad.train.stages import Losses, Step, anatomy_stage, recoupling_stage, restoration_stage


def _without(name: str, changes: dict[str, dict[str, Any]], **others: Any) -> Method:
    """The method with other fields in the stages named by ``changes``."""
    stages = tuple(replace(stage, **changes.get(stage.name, {})) for stage in DAL.stages)
    return replace(DAL, name=f"dal-{name}", stages=stages, **others)


def _softmax(logits: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    return F.softmax(logits_in_brain(logits.float(), mask) / temperature, 1)


def _soft(labels: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
    """Probabilities where the labels are the likeliest; where corruption changed them there is only their one-hot."""
    probabilities = _softmax(logits, mask)
    return torch.where(labels == label_map(probabilities), probabilities, one_hot(labels, probabilities.shape[1]))


def _with_background(probabilities: Tensor, mask: Tensor) -> Tensor:
    return torch.cat([(~mask).to(probabilities.dtype), probabilities[None]], 1)


def _no_prior(networks: DisentangledAnatomy, step: Step) -> Losses:
    """Real scans and drawn ones have no tissue map to agree with; how much of each tissue there is, is still known."""
    return {name: loss for name, loss in anatomy_stage(networks, step).items() if name != "prior"}


def _no_corruption(networks: DisentangledAnatomy, step: Step) -> Losses:
    none: dict[str, tuple[int, int]] = dict.fromkeys(("lesions", "edge_dropout", "erased_share"), (0, 0))
    plan = step.plan.model_copy(update={"corruption": step.plan.corruption.model_copy(update=none)})
    return restoration_stage(networks, replace(step, plan=plan))


class AnatomyShown(DisentangledAnatomy):
    """Restoration sees the anatomy itself, as one label-coded channel along each axis."""

    def edges_of(self, labels: Tensor) -> Tensor:
        """Labels [batch, 3, ...] in [0, 1]."""
        coded = labels if labels.shape[1] == 1 else label_map(labels)
        return (coded.float() / (self.tissues - 1)).repeat(1, 3, *[1] * (labels.ndim - 2))


def _only(recoupling: str) -> Callable[[DisentangledAnatomy, Tensor, Tensor, str], Decomposition]:
    @torch.no_grad()
    def read(networks: DisentangledAnatomy, image: Tensor, mask: Tensor, precision: str) -> Decomposition:
        parts = decompose(networks, image, mask, precision)
        return replace(parts, recoupled={recoupling: parts.recoupled[recoupling]})

    return read


METHODS = (
    _without(
        "soft",
        {
            "anatomy": {"loss": partial(anatomy_stage, anatomy_of=_softmax)},
            "restoration": {"loss": partial(restoration_stage, shown=_soft)},
            "recoupling": {"loss": partial(recoupling_stage, shown=_soft)},
        },
        read=partial(decompose, shown=_with_background),
    ),
    _without("no-prior", {"anatomy": {"loss": _no_prior}}),
    _without("no-randomisation", {stage.name: {"contrasts": False} for stage in DAL.stages}),
    _without("no-corruption", {"restoration": {"loss": _no_corruption}}),
    _without("no-edges", {}, networks=AnatomyShown),
    _without("closed-form", {}, read=_only("closed form")),
    _without("learned", {}, read=_only("learned")),
)

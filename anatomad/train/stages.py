"""The three training stages: what one optimiser step of each one sees and asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from anatomad.models.dal import DisentangledAnatomy, one_hot_in_brain
from anatomad.planner.plan import Plan, Range
from anatomad.synth.contrast import rendered, scanned
from anatomad.synth.deform import CaseVolumes, Patch, draw_patch
from anatomad.synth.draws import Draws
from anatomad.synth.lesions import add_lesions, corrupt_anatomy, corrupt_edges
from anatomad.train import losses

_LESION_SHARE = 0.35  # most of what the encoder sees is healthy: it must be exact there
_RESTORED_LESION_SHARE = 0.7

Losses = dict[str, Tensor]


@dataclass(frozen=True)
class Step:
    """Inputs of one optimiser step: a case, its randomness and how far the stage is (0 to 1)."""

    case: CaseVolumes
    draws: Draws
    progress: float
    plan: Plan


@dataclass(frozen=True)
class View:
    """One rendering of a patch: the image as input, the same without lesions' voxels counted, its origin."""

    image: Tensor
    healthy: Tensor
    real: bool


def _between(span: Range, progress: float) -> float:
    return span[0] + (span[1] - span[0]) * progress


def _view(patch: Patch, step: Step, lesion_share: float = _LESION_SHARE) -> View:
    image, real = rendered(patch, step.draws, step.plan)
    extent = torch.zeros_like(image)
    if step.draws.chance(lesion_share):
        image, extent = add_lesions(image, patch, step.draws, step.plan, minimum=1)
    return View(scanned(image, patch.mask, step.draws, step.plan), patch.mask * (extent < 0.05), real)


def anatomy_stage(model: DisentangledAnatomy, step: Step) -> Losses:
    """Two contrasts of one anatomy: both must give the tissue map, agree, and rebuild each other's image.

    On drawn contrasts the tissue map is the truth; on the real scan it is a prior whose weight falls.
    """
    patch = draw_patch(step.case, step.plan, step.draws)
    views = [_view(patch, step) for _ in range(2)]
    logits = model.see(torch.cat([v.image for v in views]), patch.position)
    weights = [_between(step.plan.prior_weight, step.progress) if v.real else 1.0 for v in views]
    halves = logits.chunk(2)
    prior = sum(
        w * losses.anatomy(half, patch.tissue, patch.mask) for w, half in zip(weights, halves, strict=True)
    ) / len(views)
    temperature = _between(step.plan.temperature, step.progress)
    source, target = (0, 1) if step.draws.chance(0.5) else (1, 0)
    anatomies = [one_hot_in_brain(half, patch.mask, temperature) for half in halves]
    view = views[target]
    rebuilt = model.recouple(anatomies[source], patch.position, view.image, anatomies[target].detach())
    return {
        "prior": torch.as_tensor(prior),
        "consistency": 0.2 * losses.consistency(halves[0], halves[1], patch.mask),
        "usage": 0.1 * losses.usage(logits, patch.tissue, patch.mask),
        "reconstruction": 0.3 * losses.reconstruction(rebuilt, view.image, view.healthy),
    }


@torch.no_grad()
def _lesioned_anatomy(model: DisentangledAnatomy, patch: Patch, step: Step) -> Tensor:
    """What the encoder makes of an image with lesions, further corrupted."""
    view = _view(patch, step, _RESTORED_LESION_SHARE)
    one_hot = one_hot_in_brain(model.see(view.image, patch.position), patch.mask)
    return corrupt_anatomy(one_hot.float(), patch, step.draws, step.plan)


def restoration_stage(model: DisentangledAnatomy, step: Step) -> Losses:
    """Corrupted edges and position must give the healthy tissue map; the encoder is frozen."""
    patch = draw_patch(step.case, step.plan, step.draws)
    with torch.no_grad():
        corrupted = _lesioned_anatomy(model, patch, step)
        edge = corrupt_edges(model.edges_of(corrupted), step.draws, step.plan)
    logits = model.restore(edge, patch.position)
    return {"anatomy": losses.anatomy(logits, patch.tissue, patch.mask)}


def recoupling_stage(model: DisentangledAnatomy, step: Step) -> Losses:
    """The restored anatomy under the image's own code must look like the image where it is healthy."""
    patch = draw_patch(step.case, step.plan, step.draws)
    view = _view(patch, step)
    with torch.no_grad():
        one_hot = one_hot_in_brain(model.see(view.image, patch.position), patch.mask)
        logits = model.restore(model.edges_of(one_hot.float()), patch.position)
        restored = one_hot_in_brain(logits, patch.mask)
    image = model.recouple(restored.float(), patch.position, view.image, restored)
    return {"reconstruction": losses.reconstruction(image, view.image, view.healthy)}


@dataclass(frozen=True)
class Stage:
    """A stage: its name, its loss and the parts of the model that it trains."""

    name: str
    loss: Callable[[DisentangledAnatomy, Step], Losses]
    trains: tuple[str, ...]


STAGES = (
    Stage("anatomy", anatomy_stage, ("anatomy", "imaging", "recoupling")),
    Stage("restoration", restoration_stage, ("restoration",)),
    Stage("recoupling", recoupling_stage, ("imaging", "recoupling")),
)

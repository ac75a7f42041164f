"""The three training stages: what one optimiser step of each one sees and asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anatomad.kernels import label_map, one_hot
from anatomad.models.dal import DisentangledAnatomy, labels_in_brain, one_hot_in_brain
from anatomad.planner.plan import Plan
from anatomad.planner.ranges import Range
from anatomad.synth.contrast import rendered, scanned
from anatomad.synth.deform import Patch, draw_patch, stacked
from anatomad.synth.draws import Draws
from anatomad.synth.lesions import add_lesions, corrupt_anatomy, corrupt_edges
from anatomad.train import losses
from anatomad.train.cases import Sample

_LESION_SHARE = 0.35  # most of what the encoder sees is healthy: it must be exact there
_RESTORED_LESION_SHARE = 0.7
_HIDDEN_WEIGHT = 3.0

Losses = dict[str, Tensor]
OneHot = Callable[[Tensor, Tensor, float], Tensor]
Shown = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Step:
    """Inputs of one optimiser step: its samples, how far the stage is (0 to 1), and whether contrasts are drawn."""

    samples: Sequence[Sample]
    progress: float
    plan: Plan
    contrasts: bool = True

    def patches(self) -> list[Patch]:
        """One patch of each sample."""
        return [draw_patch(sample.volumes, self.plan, sample.draws) for sample in self.samples]

    def rendered(self, patch: Patch, draws: Draws) -> tuple[Tensor, bool]:
        """A patch in a random contrast, without noise, and whether that came from the scan; else the scan itself."""
        return rendered(patch, draws, self.plan) if self.contrasts else (patch.image, True)

    def scanned(self, image: Tensor, patch: Patch, draws: Draws) -> Tensor:
        """The image of a patch with what a scanner adds, or without where no contrasts are drawn."""
        return scanned(image, patch.mask, draws, self.plan) if self.contrasts else image


@dataclass(frozen=True)
class View:
    """Renderings [batch, 1, ...] of patches, their healthy brain (without painted lesions), which are real scans."""

    image: Tensor
    healthy: Tensor
    real: Tensor


def _between(span: Range, progress: float) -> float:
    return span[0] + (span[1] - span[0]) * progress


def _view(patches: Sequence[Patch], step: Step, lesion_share: float = _LESION_SHARE) -> View:
    rows = [_render(patch, s.draws, step, lesion_share) for patch, s in zip(patches, step.samples, strict=True)]
    image, healthy, real = zip(*rows, strict=True)
    return View(torch.cat(image), torch.cat(healthy), torch.tensor(real, device=image[0].device))


def _render(patch: Patch, draws: Draws, step: Step, lesion_share: float) -> tuple[Tensor, Tensor, bool]:
    image, real = step.rendered(patch, draws)
    extent = torch.zeros_like(image)
    if draws.chance(lesion_share):
        image, extent = add_lesions(image, patch, draws, step.plan, minimum=1)
    return step.scanned(image, patch, draws), patch.mask * (extent < 0.05), real


def labels_alone(labels: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
    """What edges are taken of: label maps [batch, 1, ...], whatever the logits behind them."""
    return labels


def anatomy_stage(model: DisentangledAnatomy, step: Step, anatomy_of: OneHot | None = None) -> Losses:
    """Two contrasts of one anatomy: both must give the tissue map, agree, and rebuild each other's image.

    On drawn contrasts the tissue map is the truth; on the real scan it is a prior whose weight falls. ``anatomy_of``
    logits, brain and temperature is their differentiable one-hot unless something else is to be tried.
    """
    patches = step.patches()
    views = [_view(patches, step) for _ in range(2)]
    patch, both = stacked(patches), stacked([*patches, *patches])
    logits = model.see(torch.cat([v.image for v in views]), both.position, both.mask)
    trust = _between(step.plan.prior_weight, step.progress)
    weight = torch.where(torch.cat([v.real for v in views]), trust, 1.0).view(-1, 1, 1, 1, 1)
    halves = logits.chunk(2)
    temperature = _between(step.plan.temperature, step.progress)
    source, target = (0, 1) if step.samples[0].draws.chance(0.5) else (1, 0)
    anatomies = [(anatomy_of or one_hot_in_brain)(half, patch.mask, temperature) for half in halves]
    view = views[target]
    rebuilt = model.recouple(anatomies[source], patch.position, view.image, label_map(anatomies[target]))
    return {
        "prior": weight.mean() * losses.anatomy(logits, both.tissue, both.mask * weight),
        "consistency": 0.2 * losses.consistency(halves[0], halves[1], patch.mask),
        "usage": 0.1 * losses.usage(logits, both.tissue, both.mask),
        "reconstruction": 0.3 * losses.reconstruction(rebuilt, view.image, view.healthy),
    }


def restoration_stage(model: DisentangledAnatomy, step: Step, shown: Shown = labels_alone) -> Losses:
    """Corrupted edges and position must give the healthy tissue map; the encoder is frozen.

    What a lesion or corruption hides counts more than the rest, most of which edges give away.
    """
    patches = step.patches()
    patch, draws = stacked(patches), [sample.draws for sample in step.samples]
    with torch.no_grad():
        view = _view(patches, step, _RESTORED_LESION_SHARE)
        logits = model.see(view.image, patch.position, patch.mask)
        seen = labels_in_brain(logits, patch.mask)
        corrupted = [
            corrupt_anatomy(own, p, d, step.plan) for own, p, d in zip(seen.split(1), patches, draws, strict=True)
        ]
        whole = model.edges_of(shown(torch.cat(corrupted), logits, patch.mask))
        hidden = (torch.cat(corrupted) != seen) | (view.healthy == 0)
        edge = torch.cat([corrupt_edges(own, d, step.plan) for own, d in zip(whole.split(1), draws, strict=True)])
    logits = model.restore(edge, patch.position)
    return {"anatomy": losses.anatomy(logits, patch.tissue, patch.mask * (1 + _HIDDEN_WEIGHT * hidden))}


def recoupling_stage(model: DisentangledAnatomy, step: Step, shown: Shown = labels_alone) -> Losses:
    """The restored anatomy under the image's own code must look like the image where it is healthy."""
    patches = step.patches()
    patch = stacked(patches)
    view = _view(patches, step)
    with torch.no_grad():
        logits = model.see(view.image, patch.position, patch.mask)
        seen = shown(labels_in_brain(logits, patch.mask), logits, patch.mask)
        logits = model.restore(model.edges_of(seen), patch.position)
        restored = labels_in_brain(logits, patch.mask)
    anatomy = one_hot(restored, model.tissues)
    image = model.recouple(anatomy, patch.position, view.image, restored)
    return {"reconstruction": losses.reconstruction(image, view.image, view.healthy)}


@dataclass(frozen=True)
class Stage:
    """A stage: its name, its loss (of networks and a step) and the parts of the networks that it trains.

    It sees drawn contrasts, or the scans as they are.
    """

    name: str
    loss: Callable[[Any, Step], Losses]
    trains: tuple[str, ...]
    contrasts: bool = True


STAGES = (
    Stage("anatomy", anatomy_stage, ("anatomy", "imaging", "recoupling")),
    Stage("restoration", restoration_stage, ("restoration",)),
    Stage("recoupling", recoupling_stage, ("imaging", "recoupling")),
)

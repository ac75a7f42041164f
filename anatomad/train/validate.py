"""How well a model finds and restores the anatomy of validation cases: real scans and drawn contrasts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from anatomad.kernels import label_map, one_hot
from anatomad.models.dal import DisentangledAnatomy, labels_in_brain
from anatomad.models.device import autocast
from anatomad.planner.plan import Plan
from anatomad.preprocess.store import StoredCase
from anatomad.synth.contrast import from_tissue, scanned
from anatomad.synth.deform import Patch
from anatomad.synth.draws import Draws
from anatomad.train.cases import whole_case
from anatomad.train.losses import cross_entropy

MAX_CASES = 4
RENDERINGS = 3


@dataclass(frozen=True)
class Decomposed:
    """A whole scan through the model, each [1, channel, x, y, z]: logits, their one-hot, edges, restored logits."""

    logits: Tensor
    labels: Tensor
    edges: Tensor
    restored: Tensor


@torch.no_grad()
def decompose(model: DisentangledAnatomy, image: Tensor, patch: Patch, precision: str) -> Decomposed:
    """Anatomy, edges and restored anatomy of ``image`` [1, 1, x, y, z] in the brain of ``patch``."""
    with autocast(image.device, precision):
        logits = model.see_whole(image, patch.position, patch.mask)
        labels = labels_in_brain(logits, patch.mask)
        edges = model.edges_of(labels)
        return Decomposed(logits, labels, edges, model.restore_whole(edges, patch.position, patch.mask))


@torch.no_grad()
def decoder_image(model: DisentangledAnatomy, image: Tensor, healthy: Tensor, patch: Patch, precision: str) -> Tensor:
    """PHI [1, 1, x, y, z] of the decoder: ``healthy`` (a label map) under the imaging information of ``image``."""
    anatomy = one_hot(healthy, model.tissues)
    with autocast(image.device, precision):
        return model.recouple(anatomy, patch.position, image, healthy).float() * patch.mask


def healthy_labels(parts: Decomposed, patch: Patch) -> Tensor:
    """Label map [1, 1, x, y, z] of the restored anatomy; tissue wherever there is brain."""
    return labels_in_brain(parts.restored, patch.mask)


def validate(
    model: DisentangledAnatomy,
    cases: Sequence[StoredCase],
    plan: Plan,
    stage: str,
    device: torch.device,
    precision: str,
) -> dict[str, float]:
    """How well validation cases fare in what a stage has trained; each as the real scan and in three drawn contrasts.

    Args:
        model: On ``device``.
        cases: Validation cases.
        plan: Ranges of the contrasts and the seed.
        stage: Name of the stage.
        device: Where to compute.
        precision: See :func:`anatomad.models.device.precision_of`.

    Returns:
        Means: after the first two stages ``{real,rendered}_{anatomy,restored}_{cross_entropy,dice}`` against the stored
        tissue maps, Dice in [0, 1] without background; after the last ``{real,rendered}_decoder_error``, the mean
        absolute difference of PHI and the scan in the brain.
    """
    found: dict[str, list[float]] = {}
    for case in cases:
        patch = whole_case(case, device)
        for kind, image in _views(case.id, patch, plan):
            parts = decompose(model, image, patch, precision)
            if stage == "recoupling":
                phi = decoder_image(model, image, healthy_labels(parts, patch), patch, precision)
                scores = {"decoder_error": float((phi - image)[patch.mask].abs().mean())}
            else:
                scores = _agreement(parts, patch)
            for name, value in scores.items():
                found.setdefault(f"{kind}_{name}", []).append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}


def _agreement(parts: Decomposed, patch: Patch) -> dict[str, float]:
    scores = {}
    for name, logits in (("anatomy", parts.logits), ("restored", parts.restored)):
        scores[f"{name}_cross_entropy"] = float(cross_entropy(logits, patch.tissue, patch.mask))
        scores[f"{name}_dice"] = _dice(logits, patch)
    return scores


def _views(case_id: str, patch: Patch, plan: Plan) -> Iterator[tuple[str, Tensor]]:
    yield "real", patch.image
    for number in range(RENDERINGS):
        draws = Draws(plan.seed, "validation", case_id, number, device=patch.image.device)
        yield "rendered", scanned(from_tissue(patch, draws, plan.randomisation), patch.mask, draws, plan)


def _dice(logits: Tensor, patch: Patch) -> float:
    """Mean over the tissues that occur of the overlap of the most likely labels, in the brain."""
    found, true = labels_in_brain(logits, patch.mask)[patch.mask], label_map(patch.tissue)[patch.mask]
    scores = []
    for tissue in range(1, logits.shape[1]):
        sizes = int((found == tissue).sum() + (true == tissue).sum())
        if sizes:
            scores.append(2 * int(((found == tissue) & (true == tissue)).sum()) / sizes)
    return sum(scores) / len(scores) if scores else 0.0

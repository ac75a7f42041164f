"""A scan taken apart: its anatomy, the anatomy restored from edges, and its pseudo-healthy images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from anatomad.models.closed_form import Recoupled, recouple, regain
from anatomad.models.dal import DisentangledAnatomy, brain_position, logits_in_brain, one_hot_in_brain
from anatomad.models.device import autocast

RECOUPLINGS = ("closed form", "learned")


@dataclass(frozen=True)
class Decomposition:
    """What the method makes of one scan; all volumes [x, y, z] on the working grid.

    Attributes:
        image: The scan, normalised.
        mask: Brain.
        anatomy: Tissue probabilities [tissue, x, y, z] seen by the encoder, without background.
        restored: Tissue probabilities [tissue, x, y, z] rebuilt from edges.
        recoupled: Pseudo-healthy image and predicted spread, per way of recoupling.
    """

    image: Tensor
    mask: Tensor
    anatomy: Tensor
    restored: Tensor
    recoupled: dict[str, Recoupled]

    def residual(self, recoupling: str) -> Tensor:
        """Signed difference from the pseudo-healthy image in predicted SDs [x, y, z]; 0 outside the brain."""
        answer = self.recoupled[recoupling]
        return torch.where(self.mask, (self.image - answer.image) / answer.spread, 0.0)


def _probabilities(logits: Tensor, mask: Tensor) -> Tensor:
    return F.softmax(logits_in_brain(logits.float(), mask), 1)[0, 1:] * mask[0]


@torch.no_grad()
def decompose(networks: DisentangledAnatomy, image: Tensor, mask: Tensor, precision: str) -> Decomposition:
    """Take a scan apart and build its pseudo-healthy images.

    The answers for the scan and for its mirror image are averaged: left and right are exchangeable in health.

    Args:
        networks: Trained networks in evaluation mode.
        image: Scan [x, y, z] on the plan's working grid, normalised, sides that divide by the networks' stride.
        mask: Brain [x, y, z], bool, not empty.
        precision: ``bfloat16`` or ``float32`` for the convolutions.
    """
    scan, brain = image[None, None], mask[None, None]
    inside = mask.nonzero().float()
    whole = (slice(0, mask.shape[0]), slice(0, mask.shape[1]), slice(0, mask.shape[2]))
    position = brain_position(whole, inside.min(0).values, inside.max(0).values)[None]
    anatomy = restored = torch.zeros(())
    with autocast(image.device, precision):
        for axes in ((), (2,)):
            # the mirror image has its own left and right
            there = torch.cat([-position.flip(2)[:, :1], position.flip(2)[:, 1:]], 1) if axes else position
            mirrored = brain.flip(axes)
            seen = networks.see_whole(scan.flip(axes), there, mirrored)
            edge = networks.edges_of(one_hot_in_brain(seen, mirrored))
            rebuilt = networks.restore_whole(edge, there, mirrored)
            anatomy = anatomy + _probabilities(seen.flip(axes), brain) / 2
            restored = restored + _probabilities(rebuilt.flip(axes), brain) / 2
        labelled = one_hot_in_brain(torch.cat([torch.zeros_like(scan), restored[None]], 1), brain)
        soft = torch.cat([(~brain).float(), restored[None]], 1)
        drawn = networks.recouple(soft, position, scan, labelled)[0, 0].float()
    closed = recouple(image, restored, mask)
    learned = regain(image, drawn, restored, mask, closed)
    return Decomposition(image, mask, anatomy, restored, dict(zip(RECOUPLINGS, (closed, learned), strict=True)))

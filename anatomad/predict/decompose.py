"""A scan taken apart: its anatomy, the anatomy restored from edges, and its pseudo-healthy images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from anatomad.models.closed_form import Recoupled, imaging_of, regain
from anatomad.models.dal import DisentangledAnatomy, brain_position, labels_in_brain, logits_in_brain
from anatomad.models.device import autocast

RECOUPLINGS = ("closed form", "learned")
TISSUES, DOUBT = "tissues", "doubt"
_SHARES = {TISSUES: 1.0, DOUBT: 1.0}  # how chosen: docs/concepts/method.md


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

    @property
    def kinds(self) -> tuple[str, ...]:
        """Ways of recoupling: each has its residual."""
        return tuple(self.recoupled)

    def phi(self, recoupling: str) -> Tensor:
        """Pseudo-healthy image [x, y, z]; 0 outside the brain."""
        return self.recoupled[recoupling].image

    @property
    def supplements(self) -> Mapping[str, float]:
        """Disagreement of tissues, and doubt between them."""
        return _SHARES

    def residual(self, kind: str) -> Tensor:
        """Evidence, signed; 0 outside the brain.

        The difference from the pseudo-healthy image of a recoupling in predicted SDs [x, y, z]; as ``TISSUES``, the
        probabilities of the tissues seen minus those restored [tissue, x, y, z]; or, as ``DOUBT``, the entropy of the
        tissues seen [x, y, z], 0 to log 3: what is no tissue that the encoder knows is hardly ever seen with certainty.
        """
        if kind == TISSUES:
            found = self.anatomy - self.restored
        elif kind == DOUBT:
            found = torch.special.entr(self.anatomy).sum(0)
        else:
            answer = self.recoupled[kind]
            found = (self.image - answer.image) / answer.spread
        return torch.where(self.mask, found, 0.0)


def _probabilities(logits: Tensor, mask: Tensor) -> Tensor:
    return F.softmax(logits_in_brain(logits.float(), mask), 1)[0, 1:] * mask[0]


def _labelled(probabilities: Tensor, mask: Tensor) -> Tensor:
    return labels_in_brain(torch.cat([torch.zeros_like(probabilities[:1]), probabilities])[None], mask)


@torch.no_grad()
def decompose(
    networks: DisentangledAnatomy,
    image: Tensor,
    mask: Tensor,
    precision: str,
    shown: Callable[[Tensor, Tensor], Tensor] = _labelled,
) -> Decomposition:
    """Take a scan apart and build its pseudo-healthy images.

    The anatomies seen in the scan and in its mirror image are averaged, and so are those restored from the edges of
    that average and of its mirror image: left and right are exchangeable in health.

    Args:
        networks: Trained networks in evaluation mode.
        image: Scan [x, y, z] on the plan's working grid, normalised, sides that divide by the networks' stride.
        mask: Brain [x, y, z], bool, not empty.
        precision: ``bfloat16`` or ``float32`` for the convolutions.
        shown: What edges are taken of, from tissue probabilities [tissue, x, y, z] and brain [1, 1, x, y, z].
    """
    scan, brain = image[None, None], mask[None, None]
    inside = mask.nonzero().float()
    whole = (slice(0, mask.shape[0]), slice(0, mask.shape[1]), slice(0, mask.shape[2]))
    position = brain_position(whole, inside.min(0).values, inside.max(0).values)[None]
    # the mirror image has its own left and right
    swapped = torch.cat([-position.flip(2)[:, :1], position.flip(2)[:, 1:]], 1)

    def restore(view: Tensor, place: Tensor, within: Tensor) -> Tensor:
        return networks.restore_whole(networks.edges_of(view), place, within)

    def mirrored(network: Callable[[Tensor, Tensor, Tensor], Tensor], volume: Tensor) -> Tensor:
        here = _probabilities(network(volume, position, brain), brain)
        there = network(volume.flip(2), swapped, brain.flip(2)).flip(2)
        return (here + _probabilities(there, brain)) / 2

    with autocast(image.device, precision):
        anatomy = mirrored(networks.see_whole, scan)
        restored = mirrored(restore, shown(anatomy, brain))
        soft = torch.cat([(~brain).float(), restored[None]], 1)
        drawn = networks.recouple(soft, position, scan, _labelled(restored, brain))[0, 0].float()
    imaging = imaging_of(image, restored, mask)
    recouplings = imaging.recouple(restored, mask), regain(image, drawn, restored, mask, imaging)
    return Decomposition(image, mask, anatomy, restored, dict(zip(RECOUPLINGS, recouplings, strict=True)))

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
from anatomad.synth.draws import FWHM, gaussian_blur

RECOUPLINGS = ("closed form", "learned")
TISSUES, DOUBT, BRIGHTNESS, SURROUNDINGS = "tissues", "doubt", "brightness", "surroundings"
_SHARES = {TISSUES: 1.0, DOUBT: 1.0, BRIGHTNESS: 0.5, SURROUNDINGS: 0.25}  # how chosen: docs/concepts/method.md
_AFAR = 20  # so often goes the width of what is seen from afar into the brain: some 8 mm in an adult's


@dataclass(frozen=True)
class Decomposition:
    """What the method makes of one scan; all volumes [x, y, z] on the working grid.

    Attributes:
        image: The scan, normalised.
        mask: Brain.
        anatomy: Tissue probabilities [tissue, x, y, z] seen by the encoder, without background.
        restored: Tissue probabilities [tissue, x, y, z] rebuilt from edges.
        outlying: Distance of the scan from the brightness of the nearest tissue [x, y, z], signed, in SDs of that.
        outstanding: Its distance from what the restored anatomy looks like from afar [x, y, z], signed, in predicted
            SDs.
        recoupled: Pseudo-healthy image and predicted spread, per way of recoupling.
    """

    image: Tensor
    mask: Tensor
    anatomy: Tensor
    restored: Tensor
    outlying: Tensor
    outstanding: Tensor
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
        """Disagreement of tissues, doubt between them, brightness that none has, and unlikeness to the surroundings."""
        return _SHARES

    def residual(self, kind: str) -> Tensor:
        """Evidence, signed; 0 outside the brain.

        The difference from the pseudo-healthy image of a recoupling in predicted SDs [x, y, z]; as ``TISSUES``, the
        probabilities of the tissues seen minus those restored [tissue, x, y, z]; as ``DOUBT``, the entropy of the
        tissues seen [x, y, z], 0 to log 3: what is no tissue that the encoder knows is hardly ever seen with
        certainty; as ``BRIGHTNESS``, the distance from the nearest tissue [x, y, z] in its SDs; or, as
        ``SURROUNDINGS``, the difference from what the restored anatomy looks like from afar [x, y, z], in predicted
        SDs: there the contour of a lesion, should it have been restored, is lost in the tissue around it.
        """
        if kind in self.recoupled:
            answer = self.recoupled[kind]
            return torch.where(self.mask, (self.image - answer.image) / answer.spread, 0.0)
        if kind == TISSUES:
            found = self.anatomy - self.restored
        elif kind == DOUBT:
            found = torch.special.entr(self.anatomy).sum(0)
        else:
            found = {BRIGHTNESS: self.outlying, SURROUNDINGS: self.outstanding}[kind]
        return torch.where(self.mask, found, 0.0)


def _probabilities(logits: Tensor, mask: Tensor) -> Tensor:
    return F.softmax(logits_in_brain(logits.float(), mask), 1)[0, 1:] * mask[0]


def _labelled(probabilities: Tensor, mask: Tensor) -> Tensor:
    return labels_in_brain(torch.cat([torch.zeros_like(probabilities[:1]), probabilities])[None], mask)


def _nearest(distances: Tensor) -> Tensor:
    """Of signed distances [tissue, x, y, z], those of least magnitude [x, y, z]."""
    return distances.gather(0, distances.abs().argmin(0, keepdim=True))[0]


def _from_afar(tissue: Tensor, mask: Tensor) -> Tensor:
    """Tissue probabilities [tissue, x, y, z], smoothed within the brain in proportion to its size."""
    inside = mask.nonzero()
    x, y, z = (int(side) / _AFAR / FWHM for side in inside.max(0).values - inside.min(0).values + 1)
    blurred = gaussian_blur(tissue[None], (x, y, z))[0]
    return torch.where(mask, blurred / blurred.sum(0).clamp(min=1e-3), 0.0)


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
    afar = imaging.recouple(_from_afar(restored, mask), mask)
    return Decomposition(
        image,
        mask,
        anatomy,
        restored,
        outlying=_nearest(imaging.distances(image)),
        outstanding=(image - afar.image) / afar.spread,
        recoupled=dict(zip(RECOUPLINGS, recouplings, strict=True)),
    )

"""Synthetic anomalies: networks that learn to find, or to undo, what was put into healthy scans.

Sources: ``fpi``: Tan et al., Detecting Outliers with Foreign Patch Interpolation (MELBA 2022); ``disyre``: Naval
Marimont et al., DISYRE: Diffusion-Inspired Synthetic Restoration (ISBI 2024). Settings: the plan's U-Net. FPI blends
a square (in 3D a cube) in from the same place of another case, deformed and imaged alike; its side is 10 to 40 % of
the patch's, its factor 0.05 to 0.95. The network predicts the factor (cross-entropy), and its prediction is the score.
DISYRE blends a random shape in, of foreign texture, smooth texture or changed intensity, at a strength of 0 to 1, of
which a channel tells the network; it undoes the change (mean absolute error). A scan is restored in one step under each
of 5 strengths from 0.2 to 1, and the mean of these images is the restored one; theirs averages the absolute differences
from them. What is put in owes nothing to our own method's lesions.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from anatomad.baselines.denoising import coarse_noise, layout_of
from anatomad.baselines.peer import Batch, Peer, absolute_error, peer_losses, peer_methods
from anatomad.models.unet import UNet
from anatomad.planner.plan import Plan
from anatomad.synth.deform import CaseVolumes
from anatomad.synth.draws import Draws
from anatomad.train.cases import Sample
from anatomad.train.stages import Losses, Step

STRENGTHS = 5
_SEEDS = 2**62
_HALF_SIDE = (0.05, 0.2)  # of a patch's side
_CENTRE = (0.1, 0.9)
_FACTOR = (0.05, 0.95)
_SHAPE_LEVEL = (0.3, 1.2)  # of the smooth noise whose excess is a shape


def mirrored(volumes: CaseVolumes) -> CaseVolumes:
    """A case with left and right exchanged."""
    last = volumes.tissue_and_image.shape[1] - 1
    low, high = volumes.low.clone(), volumes.high.clone()
    low[0], high[0] = last - volumes.high[0], last - volumes.low[0]
    return CaseVolumes(volumes.tissue_and_image.flip(1), low, high)


def paired(step: Step) -> Step:
    """A step of twice the samples: some of its cases, then the same places of others, deformed and imaged alike.

    Each sample's partner is the next one's case in whichever channel was drawn, or, where that is the same case, its
    mirror image.
    """
    own, seeds = step.samples, [sample.draws.integer(0, _SEEDS) for sample in step.samples]
    others = [
        mirrored(other.volumes) if other.case_id == sample.case_id else other.volumes
        for sample, other in zip(own, [*own[1:], own[0]], strict=True)
    ]
    both = [
        Sample(sample.case_id, volumes, Draws(seed, device=sample.draws.device))
        for half in ([sample.volumes for sample in own], others)
        for sample, volumes, seed in zip(own, half, seeds, strict=True)
    ]
    return replace(step, samples=both)


def square(draws: Draws, plan: Plan) -> Tensor:
    """A random square (in 3D a cube) [1, x, y, z] of ones, cut off where it leaves the patch."""
    half = max(1, round(plan.patch[0] * draws.uniform(*_HALF_SIDE)))
    centres = [int(n * draws.uniform(*_CENTRE)) for n in plan.patch]
    x, y, z = (slice(max(0, centre - half), centre + half) for centre in centres)
    result = torch.zeros(1, *plan.patch, device=draws.device)
    result[:, x, y, z] = 1
    return result


class ForeignPatches(Peer):
    """U-Net that predicts how much of each voxel is foreign."""

    restores = False

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.net = UNet(1, 1, layout_of(plan))

    def losses(self, batch: Batch) -> Losses:
        """Cross-entropy of the predicted blending factor; the batch is that of a :func:`paired` step."""
        (image, other), (mask, _) = batch.image.chunk(2), batch.mask.chunk(2)
        share = batch.drawn(lambda d: square(d, batch.plan) * d.uniform(*_FACTOR)).chunk(2)[0] * mask
        logits = self.net(torch.lerp(image, other * mask, share)).float()
        loss = F.binary_cross_entropy_with_logits(logits, share, weight=mask.float(), reduction="sum")
        return {"blending": loss / mask.sum().clamp(min=1)}

    def answer(self, image: Tensor, mask: Tensor) -> Tensor:
        """The predicted factor."""
        return torch.sigmoid(self.net(image).float())


def _paired_losses(networks: ForeignPatches, step: Step) -> Losses:
    return peer_losses(networks, paired(step))


class SyntheticRestoration(Peer):
    """U-Net that undoes a synthetic anomaly of known strength."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.net = UNet(2, 1, layout_of(plan))

    def restored(self, image: Tensor, strength: Tensor) -> Tensor:
        """Patches with an anomaly of ``strength`` [batch, 1, 1, 1, 1], 0 to 1, undone."""
        answer: Tensor = self.net(torch.cat([image, strength.expand_as(image)], 1))
        return answer.float()

    def losses(self, batch: Batch) -> Losses:
        """Mean absolute error of the patches with the anomaly undone."""
        other = (batch.image.roll(1, 0) if len(batch.image) > 1 else batch.image.flip(2)) * batch.mask
        changed = [
            _changed(image, strange, unit, draws, batch.plan)
            for image, strange, unit, draws in zip(batch.image, other, batch.unit, batch.draws, strict=True)
        ]
        strength = batch.drawn(lambda draws: draws.rand(1, 1, 1, 1))
        corrupted = torch.lerp(batch.image, torch.stack(changed) * batch.mask, strength)
        return {"restoration": absolute_error(self.restored(corrupted, strength), batch.image, batch.mask)}

    def answer(self, image: Tensor, mask: Tensor) -> Tensor:
        """Mean of the scans restored under each of the strengths."""
        strengths = torch.arange(1, STRENGTHS + 1, device=image.device) / STRENGTHS
        return torch.stack([self.restored(image, strength.view(1, 1, 1, 1, 1)) for strength in strengths]).mean(0)


def _changed(image: Tensor, other: Tensor, unit: Tensor, draws: Draws, plan: Plan) -> Tensor:
    """A patch [1, ...] with a random shape of another texture, smooth texture or changed intensity put in."""
    noise = coarse_noise(draws, plan)
    shape = ((noise - draws.uniform(*_SHAPE_LEVEL)) / draws.uniform(0.05, 0.5)).clamp(0, 1)
    level = draws.uniform(-1, 1) * unit
    textures = (other, coarse_noise(draws, plan) * 0.2 * unit + level, image + level)
    return torch.lerp(image, textures[draws.integer(0, 2)], shape)


METHODS = (
    *peer_methods("fpi", ForeignPatches, restores=False, stages=(("training", _paired_losses, ("net",)),)),
    *peer_methods("disyre", SyntheticRestoration),
)

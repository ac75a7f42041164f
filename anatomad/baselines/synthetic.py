"""Synthetic anomalies: networks that learn to find, or to undo, what was put into healthy scans.

Sources: ``fpi``: Tan et al., Detecting Outliers with Foreign Patch Interpolation (MELBA 2022); ``disyre``: Naval
Marimont et al., DISYRE: Diffusion-Inspired Synthetic Restoration (ISBI 2024). Settings: the plan's U-Net. FPI blends
a box (a tenth to a half of each side) of another patch in with a factor from 0 to 1, which the network predicts
(cross-entropy); its prediction is the score. DISYRE blends a random shape in, of foreign texture, smooth texture or
changed intensity, at one of 5 strengths; the network undoes it (mean absolute error), and a scan is restored in 5
steps. What is put in owes nothing to our own method's lesions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from anatomad.baselines.denoising import coarse_noise, layout_of
from anatomad.baselines.peer import Batch, Peer, absolute_error, peer_methods
from anatomad.models.unet import UNet
from anatomad.planner.plan import Plan
from anatomad.synth.draws import Draws
from anatomad.train.stages import Losses

STEPS = 5
_SHARE = (0.1, 0.5)  # of a side
_SHAPE_LEVEL = (0.3, 1.2)  # of the smooth noise whose excess is a shape


def foreign(batch: Batch) -> Tensor:
    """Another patch for each of a batch; of a batch of one its own mirror image."""
    return batch.image.roll(1, 0) if len(batch.image) > 1 else batch.image.flip(2)


def box(draws: Draws, plan: Plan) -> Tensor:
    """A random box [1, x, y, z] of ones."""
    result = torch.zeros(1, *plan.patch, device=draws.device)
    sides = [max(1, round(n * draws.uniform(*_SHARE))) for n in plan.patch]
    starts = [draws.integer(0, n - side) for n, side in zip(plan.patch, sides, strict=True)]
    x, y, z = (slice(start, start + side) for start, side in zip(starts, sides, strict=True))
    result[:, x, y, z] = 1
    return result


class ForeignPatches(Peer):
    """U-Net that predicts how much of each voxel is foreign."""

    restores = False

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.net = UNet(1, 1, layout_of(plan))

    def losses(self, batch: Batch) -> Losses:
        """Cross-entropy of the predicted blending factor."""
        share = batch.drawn(lambda d: box(d, batch.plan) * d.uniform(0, 1)) * batch.mask
        logits = self.net(torch.lerp(batch.image, foreign(batch) * batch.mask, share)).float()
        loss = F.binary_cross_entropy_with_logits(logits, share, weight=batch.mask.float(), reduction="sum")
        return {"blending": loss / batch.mask.sum().clamp(min=1)}

    def answer(self, image: Tensor, mask: Tensor) -> Tensor:
        """The predicted factor."""
        return torch.sigmoid(self.net(image).float())


class SyntheticRestoration(Peer):
    """U-Net that undoes a synthetic anomaly, in steps."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.net = UNet(1, 1, layout_of(plan))

    def losses(self, batch: Batch) -> Losses:
        """Mean absolute error of the patches with the anomaly undone."""
        other = foreign(batch) * batch.mask
        own = [
            _corrupted(image, strange, unit, draws, batch.plan)
            for image, strange, unit, draws in zip(batch.image, other, batch.unit, batch.draws, strict=True)
        ]
        return {"restoration": absolute_error(self.net(torch.stack(own) * batch.mask), batch.image, batch.mask)}

    def answer(self, image: Tensor, mask: Tensor) -> Tensor:
        """The scan after 5 steps, each of which goes its share of the way to what the network says."""
        restored = image
        for left in range(STEPS, 0, -1):
            restored = restored + (self.net(restored).float() * mask - restored) / left
        return restored


def _corrupted(image: Tensor, other: Tensor, unit: Tensor, draws: Draws, plan: Plan) -> Tensor:
    """A patch [1, ...] with a random shape of another texture, smooth texture or changed intensity blended in."""
    noise = coarse_noise(draws, plan)
    shape = ((noise - draws.uniform(*_SHAPE_LEVEL)) / draws.uniform(0.05, 0.5)).clamp(0, 1)
    level = draws.uniform(-1, 1) * unit
    textures = (other, coarse_noise(draws, plan) * 0.2 * unit + level, image + level)
    strength = draws.integer(0, STEPS) / STEPS
    return torch.lerp(image, textures[draws.integer(0, 2)], shape * strength)


METHODS = (
    *peer_methods("fpi", ForeignPatches, restores=False),
    *peer_methods("disyre", SyntheticRestoration),
)

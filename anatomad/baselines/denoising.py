"""Denoising autoencoder: a U-Net that takes coarse noise off healthy scans takes lesions off others.

Source: Kascenas et al., Denoising Autoencoders for Unsupervised Anomaly Detection in Brain MRI (MIDL 2022). Settings:
our U-Net with the plan's widths; Gaussian noise of SD 0.2 of the intensity range, drawn every 15 mm (16 x 16 points
on their 128 x 128 slices), interpolated linearly and rolled by a random shift, in the brain only; mean squared error.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor

from anatomad.baselines.peer import Batch, Peer, peer_methods, squared_error
from anatomad.models.unet import Layout, UNet
from anatomad.planner.plan import Plan
from anatomad.synth.draws import Draws
from anatomad.train.stages import Losses

NOISE = 0.2
CELL_MM = 15.0


def layout_of(plan: Plan) -> Layout:
    """The plan's U-Net."""
    return Layout(plan.dimension, plan.features, plan.kernel_sizes, plan.strides)


def coarse_noise(draws: Draws, plan: Plan) -> Tensor:
    """Smooth noise [1, x, y, z] of SD about 1 for a patch, with nothing special about any place in it."""
    cells = [max(2, round(n * mm / CELL_MM)) for n, mm in zip(plan.patch, plan.spacing_mm, strict=True)]
    noise = draws.field(plan.patch, (cells[0], cells[1], cells[2]))
    return noise.roll([draws.integer(0, n - 1) for n in plan.patch], (1, 2, 3))


class DenoisingAutoencoder(Peer):
    """U-Net from noisy to clean patches."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.net = UNet(1, 1, layout_of(plan))

    def losses(self, batch: Batch) -> Losses:
        """Mean squared error of the denoised patches."""
        noise = batch.drawn(lambda draws: coarse_noise(draws, batch.plan)) * NOISE * batch.unit
        return {"denoising": squared_error(self.net(batch.image + noise * batch.mask), batch.image, batch.mask)}

    def answer(self, image: Tensor, mask: Tensor) -> Tensor:
        """The scan without what looks like noise."""
        return cast(Tensor, self.net(image))


METHODS = peer_methods("dae", DenoisingAutoencoder)

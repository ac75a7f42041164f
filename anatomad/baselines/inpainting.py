"""Reconstruction by inpainting: what the surroundings do not foretell is anomalous.

Source: Zavrtanik et al., Reconstruction by inpainting for visual anomaly detection (RIAD, Pattern Recognition 2021).
Settings: a grid of cells of 4, 8 or 16 voxels, dealt at random into 3 disjoint sets; the plan's U-Net sees the patch
without one set (and which voxels are missing) and fills it in; mean absolute error over what was missing (for theirs
of squares, gradients and SSIM). A scan is put together from its three fillings, and the images of the three sizes
averaged.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anatomad.baselines.denoising import layout_of
from anatomad.baselines.peer import Batch, Peer, absolute_error, peer_methods
from anatomad.models.unet import UNet
from anatomad.planner.plan import Plan
from anatomad.synth.draws import Draws
from anatomad.train.stages import Losses

CELLS = (4, 8, 16)
SETS = 3


def dealt(shape: Sequence[int], size: int, draws: Draws) -> Tensor:
    """Which of the sets each voxel of a patch [1, x, y, z] belongs to: whole cells of ``size`` voxels, dealt evenly."""
    cells = [-(-n // size) for n in shape]
    count = cells[0] * cells[1] * cells[2]
    order = draws.rand(count).argsort()
    sets = torch.empty_like(order)
    sets[order] = torch.arange(count, device=order.device) % SETS
    dealt_cells = sets.view(*cells)
    for axis in range(3):
        dealt_cells = dealt_cells.repeat_interleave(size, axis)
    x, y, z = shape
    return dealt_cells[None, :x, :y, :z]


class Inpainting(Peer):
    """U-Net that fills in missing cells."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.net = UNet(2, 1, layout_of(plan))

    def losses(self, batch: Batch) -> Losses:
        """Mean absolute error over the missing cells of one set."""
        missing = batch.drawn(lambda d: dealt(batch.plan.patch, CELLS[d.integer(0, len(CELLS) - 1)], d) == 0)
        return {"inpainting": absolute_error(self._filled(batch.image, missing), batch.image, batch.mask & missing)}

    def answer(self, image: Tensor, mask: Tensor) -> Tensor:
        """The scan with every voxel foretold by its surroundings."""
        whole = []
        for size in CELLS:
            sets = dealt(image.shape[2:], size, Draws("inpainting", size, device=image.device))[None]
            fillings = [self._filled(image, (sets == k).expand_as(image)) * (sets == k) for k in range(SETS)]
            whole.append(torch.stack(fillings).sum(0))
        return torch.stack(whole).mean(0)

    def _filled(self, image: Tensor, missing: Tensor) -> Tensor:
        answer: Tensor = self.net(torch.cat([image * ~missing, missing.to(image.dtype)], 1))
        return answer.float()


METHODS = peer_methods("inpainting", Inpainting)

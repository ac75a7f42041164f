"""Disentangled anatomy learning: the four networks and how they meet (Yang et al., arXiv 2512.21924).

Only the paper's abstract was open to us; every architectural detail is anatomad's own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anatomad.kernels import edges, label_map, one_hot_argmax
from anatomad.models.imaging import ImagingEncoder, RecouplingDecoder, tissue_quantiles
from anatomad.models.tiling import tiled
from anatomad.models.unet import UNet
from anatomad.planner.plan import Plan


class DisentangledAnatomy(nn.Module):
    """Anatomy encoder, imaging encoder, recoupling decoder and edge-to-anatomy restoration.

    Volumes are [batch, channel, x, y, z] on the plan's working grid, intensities about [0, 1] in the brain.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        tissues, axes = len(plan.tissues), plan.dimension
        self.spacing = plan.spacing_mm[:axes]
        self.anatomy = UNet(4, tissues, plan.features, axes)
        self.restoration = UNet(axes + 3, tissues, plan.features, axes)
        self.imaging = ImagingEncoder(tissues)
        self.recoupling = RecouplingDecoder(tissues)
        self.tissues = tissues
        self.patch = plan.patch

    def see(self, image: Tensor, position: Tensor) -> Tensor:
        """Logits of the anatomy in images [batch, 1, x, y, z].

        The position [1 or batch, 3, x, y, z] tells tissues apart where a contrast leaves their order open.
        """
        result: Tensor = self.anatomy(torch.cat([image, position.expand(len(image), -1, -1, -1, -1)], 1))
        return result

    def see_whole(self, image: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        """As :meth:`see`, for a whole volume [1, 1, x, y, z] and its brain, tile by tile."""
        return tiled(self.anatomy, torch.cat([image, position], 1), mask, self.patch)

    def restore_whole(self, edge: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        """As :meth:`restore`, for a whole volume [1, axes, x, y, z] and its brain, tile by tile."""
        return tiled(self.restoration, torch.cat([edge, position], 1), mask, self.patch)

    def edges_of(self, one_hot: Tensor) -> Tensor:
        """Edges [batch, axes, x, y, z] of an anatomy; within slices for a 2D configuration."""
        if len(self.spacing) == 3:
            return edges(one_hot, self.spacing)
        batch, depth = one_hot.shape[0], one_hot.shape[-1]
        slices = one_hot.movedim(-1, 1).flatten(0, 1)
        return edges(slices, self.spacing).unflatten(0, (batch, depth)).movedim(1, -1)

    def restore(self, edge: Tensor, position: Tensor) -> Tensor:
        """Logits of the healthy anatomy from edges and the position in the brain box only."""
        result: Tensor = self.restoration(torch.cat([edge, position], 1))
        return result

    def code_of(self, image: Tensor, one_hot: Tensor) -> tuple[Tensor, Tensor]:
        """Quartiles per tissue and the imaging code of an image under an anatomy."""
        quantiles = tissue_quantiles(image, label_map(one_hot), self.tissues)
        return quantiles, self.imaging(quantiles)

    def recouple(self, anatomy: Tensor, position: Tensor, image: Tensor, one_hot: Tensor) -> Tensor:
        """Image of ``anatomy`` under the imaging information of ``image`` (read off under ``one_hot``)."""
        quantiles, code = self.code_of(image, one_hot)
        result: Tensor = self.recoupling(anatomy, position, quantiles, code)
        return result


def one_hot_in_brain(logits: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """Differentiable one-hot with the brain mask's say: background outside, a tissue inside.

    Args:
        logits: [batch, tissue, x, y, z], background first.
        mask: Brain [batch, 1, x, y, z], bool.
        temperature: See :func:`anatomad.kernels.one_hot_argmax`.
    """
    return one_hot_argmax(logits_in_brain(logits, mask), temperature)


def logits_in_brain(logits: Tensor, mask: Tensor) -> Tensor:
    """Logits whose background score is settled by the brain mask."""
    settled = torch.where(mask, -30.0, 30.0).to(logits.dtype)
    return torch.cat([settled, logits[:, 1:]], 1)


def brain_position(box: tuple[slice, slice, slice], low: Tensor, high: Tensor) -> Tensor:
    """Position in the brain box: -1 to 1 along each axis from the brain's lower to its upper bound.

    Args:
        box: Which voxels of the working volume to give positions for.
        low: Lower bound of the brain [3] in voxels.
        high: Upper bound of the brain [3] in voxels.

    Returns:
        [3, x, y, z]; values beyond [-1, 1] outside the brain's bounding box.
    """
    axes = [
        2 * (torch.arange(s.start, s.stop, dtype=torch.float32, device=low.device) - a) / (b - a).clamp(min=1) - 1
        for s, a, b in zip(box, low, high, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))

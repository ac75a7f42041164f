"""Disentangled anatomy learning: the four networks and how they meet (Yang et al., arXiv 2512.21924).

Only the paper's abstract was open to us; every architectural detail is anatomad's own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anatomad.kernels import edges, label_map, one_hot_argmax
from anatomad.models.imaging import ImagingEncoder, RecouplingDecoder, tissue_quantiles
from anatomad.models.slicing import sliced
from anatomad.models.tiling import tiled
from anatomad.models.unet import Layout, UNet
from anatomad.planner.plan import Plan


class DisentangledAnatomy(nn.Module):
    """Anatomy encoder, imaging encoder, recoupling decoder and edge-to-anatomy restoration.

    Volumes are [batch, channel, x, y, z] on the plan's working grid, intensities about [0, 1] in the brain. In a 2D
    configuration a batch holds slices [batch, channel, u, v, 1] across any of the three axes; a whole volume goes
    through along all three, and the answers are averaged (after Roy et al., QuickNAT, NeuroImage 2019).
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        tissues, axes = len(plan.tissues), plan.dimension
        self.dimension, self.edge_mm = axes, plan.edge_mm
        layout = Layout(axes, plan.features, plan.kernel_sizes, plan.strides)
        self.anatomy = UNet(4, tissues, layout)
        self.restoration = UNet(axes + 3, tissues, layout)
        self.imaging = ImagingEncoder(tissues)
        self.recoupling = RecouplingDecoder(tissues, axes)
        self.tissues = tissues
        self.patch = plan.patch

    def see(self, image: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        """Logits of the anatomy in images [batch, 1, ...] of a brain [batch, 1, ...].

        Images are standardised within the brain that they show, so that a patch looks as it does within its volume.
        The position [batch, 3, ...] tells tissues apart where a contrast leaves their order open.
        """
        result: Tensor = self.anatomy(torch.cat([standardised(image, mask), position], 1))
        return result

    def see_whole(self, image: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        """As :meth:`see`, for a whole volume [1, 1, x, y, z], patch by patch."""
        volume = torch.cat([image, position, mask.to(image.dtype)], 1)

        def network(part: Tensor) -> Tensor:
            return self.see(part[:, :1], part[:, 1:4], part[:, 4:] > 0.5)

        if self.dimension == 3:
            return tiled(network, volume, mask, self.patch)
        return torch.stack([sliced(network, volume, mask, axis, self.patch) for axis in range(3)]).mean(0)

    def edges_of(self, labels: Tensor) -> Tensor:
        """Edges [batch, 3, ...] of an anatomy along the three axes: of its label map [batch, 1, ...] or a one-hot.

        They lie between next neighbours, and count in inverse proportion to the plan's ``edge_mm`` along their axis.
        """
        return edges(labels, self.edge_mm)

    def restore(self, edge: Tensor, position: Tensor) -> Tensor:
        """Logits of the healthy anatomy from edges [batch, 3, ...] and the position in the brain box only."""
        result: Tensor = self.restoration(torch.cat([edge[:, : self.dimension], position], 1))
        return result

    def restore_whole(self, edge: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        """As :meth:`restore`, for a whole volume [1, 3, x, y, z] and its brain, patch by patch."""

        def network(part: Tensor) -> Tensor:
            return self.restore(part[:, :3], part[:, 3:])

        if self.dimension == 3:
            return tiled(network, torch.cat([edge, position], 1), mask, self.patch)
        # Slices know the edges within their plane; those across it come last and are not used.
        turned = [torch.cat([edge[:, [d for d in range(3) if d != axis] + [axis]], position], 1) for axis in range(3)]
        parts = [sliced(network, volume, mask, axis, self.patch) for axis, volume in enumerate(turned)]
        return torch.stack(parts).mean(0)

    def code_of(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Quartiles per tissue and the imaging code of an image under an anatomy's label map [batch, 1, ...]."""
        quantiles = tissue_quantiles(image, labels, self.tissues)
        return quantiles, self.imaging(quantiles)

    def recouple(self, anatomy: Tensor, position: Tensor, image: Tensor, labels: Tensor) -> Tensor:
        """Image of ``anatomy`` under the imaging information of ``image`` (read off under the label map ``labels``)."""
        quantiles, code = self.code_of(image, labels)
        result: Tensor = self.recoupling(anatomy, position, quantiles, code)
        return result


def standardised(image: Tensor, mask: Tensor) -> Tensor:
    """Images [batch, 1, ...] with mean 0 and SD 1 within each one's brain [batch, 1, ...], and 0 outside."""
    axes = tuple(range(2, image.ndim))
    voxels = mask.sum(axes, keepdim=True).clamp(min=1)
    centred = (image - (image * mask).sum(axes, keepdim=True) / voxels) * mask
    spread = (centred.square().sum(axes, keepdim=True) / voxels).sqrt()
    return centred / spread.clamp(min=0.01)


def one_hot_in_brain(logits: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """Differentiable one-hot with the brain mask's say: background outside, a tissue inside.

    Args:
        logits: [batch, tissue, x, y, z], background first.
        mask: Brain [batch, 1, x, y, z], bool.
        temperature: See :func:`anatomad.kernels.one_hot_argmax`.
    """
    return one_hot_argmax(logits_in_brain(logits, mask), temperature)


def labels_in_brain(logits: Tensor, mask: Tensor) -> Tensor:
    """Label map uint8 [batch, 1, x, y, z] of logits with the brain mask's say: background outside, a tissue inside."""
    return label_map(logits_in_brain(logits, mask))


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

"""Imaging information: a global code of contrast, and the decoder that puts it back onto an anatomy."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatomad.models.unet import convolution
from anatomad.planner.plan import RECOUPLING_WIDTH

QUANTILES = (0.25, 0.5, 0.75)
MIN_VOXELS = 32
_SAMPLE = 40_000  # voxels a volume's quartiles are read from: more change nothing but the time


def tissue_quantiles(image: Tensor, label: Tensor, tissues: int) -> Tensor:
    """Quartiles of the intensity within each tissue.

    Quartiles are what makes the imaging code global: a lesion that fills less than a quarter of a tissue cannot move
    them far, and nothing in them says where a voxel lies.

    Args:
        image: [batch, 1, x, y, z].
        label: Tissue index [batch, 1, x, y, z]; 0 is background.
        tissues: Number of classes with background.

    Returns:
        [batch, tissues - 1, 3]; a tissue of fewer than 32 voxels takes the whole brain's quartiles.
    """
    levels = torch.tensor(QUANTILES, device=image.device)
    rows = []
    stride = _stride(image[0].numel())
    for values, labels in zip(image.float().flatten(1)[:, ::stride], label.flatten(1)[:, ::stride], strict=True):
        whole = torch.quantile(values[labels > 0], levels) if (labels > 0).any() else torch.zeros_like(levels)
        for k in range(1, tissues):
            chosen = values[labels == k]
            rows.append(torch.quantile(chosen, levels) if len(chosen) >= MIN_VOXELS else whole)
    return torch.stack(rows).unflatten(0, (len(image), tissues - 1))


def _stride(voxels: int) -> int:
    # One that shares a factor with a side of the volume would meet the same few of its planes again and again.
    return next(step for step in itertools.count(max(1, voxels // _SAMPLE)) if math.gcd(step, voxels) == 1)


class ImagingEncoder(nn.Module):
    """Code ``z`` [batch, 8] of an image's contrast, from quartiles per tissue [batch, tissues - 1, 3]."""

    code = 8

    def __init__(self, tissues: int) -> None:
        super().__init__()
        width = 32
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear((tissues - 1) * len(QUANTILES), width), nn.SiLU(), nn.Linear(width, self.code)
        )

    def forward(self, quantiles: Tensor) -> Tensor:
        """Map quartiles [batch, tissues - 1, 3] to codes [batch, 8]."""
        result: Tensor = self.layers(quantiles)
        return result


class _ModulatedConv(nn.Module):
    """Convolution whose channels are scaled and shifted by the code (FiLM, Perez et al., AAAI 2018)."""

    def __init__(self, inputs: int, outputs: int, code: int, dimension: int) -> None:
        super().__init__()
        self.conv = convolution(dimension)(inputs, outputs, 3, padding=1)
        self.modulation = nn.Linear(code, 2 * outputs)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        modulation = self.modulation(code)
        scale, shift = modulation.view(*modulation.shape, *[1] * (x.ndim - 2)).chunk(2, dim=1)
        return F.silu(self.conv(x) * (1 + scale) + shift)


class RecouplingDecoder(nn.Module):
    """Image [batch, 1, x, y, z] from an anatomy, its position in the brain box and an imaging code.

    The tissue medians, spread over the anatomy, are the start; the convolutions add what blur, partial volume and
    regional differences within a tissue change. In 2D they see the slices across the last axis one by one.
    """

    def __init__(self, tissues: int, dimension: int, width: int = RECOUPLING_WIDTH) -> None:
        super().__init__()
        self.first = _ModulatedConv(tissues + 3, width, ImagingEncoder.code, dimension)
        self.second = _ModulatedConv(width, width, ImagingEncoder.code, dimension)
        self.head = convolution(dimension)(width, 1, 1)
        self.dimension = dimension
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def forward(self, anatomy: Tensor, position: Tensor, quantiles: Tensor, code: Tensor) -> Tensor:
        """Draw the image [batch, 1, x, y, z] of an anatomy [batch, tissues, x, y, z]."""
        median = quantiles[:, :, QUANTILES.index(0.5), None, None, None]
        start = (anatomy[:, 1:] * median).sum(1, keepdim=True)
        inputs, depth = torch.cat([anatomy, position], 1), anatomy.shape[-1]
        if self.dimension == 3:
            return start + self._draw(inputs, code)
        drawn = self._draw(inputs.movedim(-1, 1).flatten(0, 1), code.repeat_interleave(depth, 0))
        return start + drawn.unflatten(0, (-1, depth)).movedim(1, -1)

    def _draw(self, inputs: Tensor, code: Tensor) -> Tensor:
        result: Tensor = self.head(self.second(self.first(inputs, code), code))
        return result

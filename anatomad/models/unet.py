"""One U-Net for volumes: 3D convolutions, or 2D ones applied slice by slice."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatomad.kernels import group_norm_silu
from anatomad.planner.plan import GROUPS, Shape


def convolution(dimension: int) -> type[nn.Conv2d | nn.Conv3d]:
    """The convolution of a 2D or 3D configuration."""
    return nn.Conv3d if dimension == 3 else nn.Conv2d


@dataclass(frozen=True)
class Layout:
    """Form of a U-Net, as a plan has it; one row per resolution, finest first.

    Attributes:
        dimension: 3, or 2 to treat every slice along the last axis on its own.
        features: Channels.
        kernel_sizes: Odd, per axis; in 2D the last is not used.
        strides: Voxels per voxel of the next finer resolution, per axis; the first row is 1, 1, 1.
    """

    dimension: int
    features: tuple[int, ...]
    kernel_sizes: tuple[Shape, ...]
    strides: tuple[Shape, ...]


class GroupNormSiLU(nn.GroupNorm):
    """Group normalisation and SiLU."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise and activate [batch, channel, *spatial]."""
        return group_norm_silu(x, self.num_groups, self.weight, self.bias, self.eps)


class ConvBlock(nn.Sequential):
    """Two convolutions, each with group normalisation and SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, ...]) -> None:
        conv: Callable[..., nn.Module] = convolution(len(kernel))
        padding = tuple(size // 2 for size in kernel)
        # The names are those under which trained models keep their weights.
        super().__init__(
            OrderedDict(
                {
                    "0": conv(inputs, outputs, kernel, padding=padding, bias=False),
                    "1": GroupNormSiLU(GROUPS, outputs),
                    "3": conv(outputs, outputs, kernel, padding=padding, bias=False),
                    "4": GroupNormSiLU(GROUPS, outputs),
                }
            )
        )


class UNet(nn.Module):
    """U-Net over volumes (Ronneberger et al., MICCAI 2015), anisotropic where its layout is.

    Maps [batch, inputs, x, y, z] to [batch, outputs, x, y, z]; convolved axes divide by the product of their strides.
    """

    def __init__(self, inputs: int, outputs: int, layout: Layout) -> None:
        super().__init__()
        self.dimension, features = layout.dimension, layout.features
        kernels = [size[: self.dimension] for size in layout.kernel_sizes]
        self.strides = [step[: self.dimension] for step in layout.strides]
        self.down = nn.ModuleList(
            ConvBlock(i, o, kernel) for i, o, kernel in zip((inputs, *features[:-1]), features, kernels, strict=True)
        )
        self.up = nn.ModuleList(
            ConvBlock(low + high, high, kernel)
            for low, high, kernel in zip(features[:0:-1], features[-2::-1], kernels[-2::-1], strict=True)
        )
        self.head = convolution(self.dimension)(features[0], outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, inputs, x, y, z] to [batch, outputs, x, y, z]."""
        if self.dimension == 3:
            return self._convolve(x.contiguous(memory_format=torch.channels_last_3d))
        batch, depth = x.shape[0], x.shape[-1]
        slices = x.movedim(-1, 1).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        return self._convolve(slices).unflatten(0, (batch, depth)).movedim(1, -1)

    def _convolve(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        pool = F.max_pool3d if self.dimension == 3 else F.max_pool2d
        for block, step in zip(self.down, self.strides, strict=True):
            x = block(pool(x, step) if skips else x)
            skips.append(x)
        for block, skip, step in zip(self.up, skips[-2::-1], self.strides[:0:-1], strict=True):
            wider = [float(size) for size in step]
            x = block(torch.cat([F.interpolate(x, scale_factor=wider, mode="nearest"), skip], 1))
        result: Tensor = self.head(x)
        return result

"""One U-Net for volumes: 3D convolutions, or 2D ones applied slice by slice."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def convolution(dimension: int) -> type[nn.Conv2d | nn.Conv3d]:
    """The convolution of a 2D or 3D configuration."""
    return nn.Conv3d if dimension == 3 else nn.Conv2d


class ConvBlock(nn.Sequential):
    """Two 3x3(x3) convolutions, each with group normalisation and SiLU."""

    def __init__(self, inputs: int, outputs: int, dimension: int, groups: int = 4) -> None:
        conv = convolution(dimension)
        super().__init__(
            conv(inputs, outputs, 3, padding=1, bias=False),
            nn.GroupNorm(groups, outputs),
            nn.SiLU(),
            conv(outputs, outputs, 3, padding=1, bias=False),
            nn.GroupNorm(groups, outputs),
            nn.SiLU(),
        )


class UNet(nn.Module):
    """U-Net over volumes (Ronneberger et al., MICCAI 2015).

    Args:
        inputs: Input channels.
        outputs: Output channels.
        features: Channels per resolution, finest first.
        dimension: 3, or 2 to treat every slice along the last axis on its own.

    Maps [batch, inputs, x, y, z] to [batch, outputs, x, y, z]; convolved axes divide by ``2 ** (len(features) - 1)``.
    """

    def __init__(self, inputs: int, outputs: int, features: tuple[int, ...], dimension: int) -> None:
        super().__init__()
        self.dimension = dimension
        self.down = nn.ModuleList(
            ConvBlock(i, o, dimension) for i, o in zip((inputs, *features[:-1]), features, strict=True)
        )
        self.up = nn.ModuleList(
            ConvBlock(low + high, high, dimension) for low, high in zip(features[:0:-1], features[-2::-1], strict=True)
        )
        self.head = convolution(dimension)(features[0], outputs, 1)

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
        for block in self.down:
            x = block(pool(x, 2) if skips else x)
            skips.append(x)
        for block, skip in zip(self.up, skips[-2::-1], strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), skip], 1))
        result: Tensor = self.head(x)
        return result

"""Counter-based randomness: every draw is keyed, so results depend on no worker, order or restart."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor
from torch.nn import functional as F

FWHM = 2.3548  # of a Gaussian, in SDs


class Draws:
    """Random draws that are a pure function of their keys.

    Args:
        keys: What the draws belong to, e.g. seed, stage, step, sample.
        device: Where tensors are drawn.
    """

    def __init__(self, *keys: int | str, device: torch.device | str = "cpu") -> None:
        digest = hashlib.blake2b("/".join(map(str, keys)).encode(), digest_size=8).digest()
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device).manual_seed(int.from_bytes(digest, "little") >> 1)
        self._scalars = torch.Generator().manual_seed(int.from_bytes(digest[::-1], "little") >> 1)

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * float(torch.rand((), generator=self._scalars))

    def integer(self, low: int, high: int) -> int:
        """A whole number in [low, high], both included."""
        return int(torch.randint(low, high + 1, (), generator=self._scalars))

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.uniform(0, 1) < probability

    def normal(self, *shape: int) -> Tensor:
        """Standard normal tensor."""
        return torch.randn(shape, generator=self.generator, device=self.device)

    def rand(self, *shape: int) -> Tensor:
        """Tensor uniform in [0, 1)."""
        return torch.rand(shape, generator=self.generator, device=self.device)

    def field(self, shape: tuple[int, ...], cells: tuple[int, ...], channels: int = 1) -> Tensor:
        """Smooth random field [channels, *shape]: normal noise on ``cells`` points, interpolated linearly."""
        coarse = self.normal(1, channels, *(max(2, c) for c in cells))
        return F.interpolate(coarse, size=shape, mode="trilinear", align_corners=True)[0]


def gaussian_blur(volume: Tensor, sigma: tuple[float, float, float]) -> Tensor:
    """Separable Gaussian of a volume [batch, channel, x, y, z], cut off at 3 SD; 0 beyond the volume.

    Every axis is a product with a banded matrix, which is many times faster on CPUs than a convolution.

    Args:
        volume: What to blur.
        sigma: SD along each axis, voxels; up to 0.05, or where there is one voxel, an axis is left alone.
    """
    for axis, s in enumerate(sigma, 2):
        side = volume.shape[axis]
        if s <= 0.05 or side == 1:
            continue
        place = torch.arange(side, dtype=volume.dtype, device=volume.device)
        reach = max(1, int(3 * s + 0.5))
        apart = torch.arange(-reach, reach + 1, dtype=volume.dtype, device=volume.device)
        kernel = torch.exp(-0.5 * (apart / s) ** 2)
        index = (place[:, None] - place).long() + reach
        inside = (index >= 0) & (index <= 2 * reach)
        band = (kernel / kernel.sum())[index.clamp(0, 2 * reach)] * inside
        lines = torch.movedim(volume, axis, -1)  # one large product: of many small ones each would copy the matrix
        volume = torch.movedim((lines.reshape(-1, side) @ band).view(lines.shape), -1, axis)
    return volume

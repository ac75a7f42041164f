"""Autoencoders: what does not fit through a narrow code is anomalous.

Source: Baur et al., Autoencoders for unsupervised anomaly segmentation in brain MR images: a comparative study
(Medical Image Analysis 2021). Settings: encoder and decoder with the plan's widths and strides, no skip connections;
the code of ``ae-spatial`` is a map of 16 channels at the coarsest resolution, that of ``ae-dense`` and ``vae`` a
vector of 128; mean absolute error, and for the VAE the Kullback-Leibler divergence at the weight of the evidence
bound (Laplace noise).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatomad.baselines.peer import Batch, Peer, absolute_error, peer_methods
from anatomad.models.unet import ConvBlock, convolution
from anatomad.planner.plan import Plan
from anatomad.train.stages import Losses

CODE = 128
SPATIAL_CODE = 16


class Encoder(nn.Module):
    """Patches [batch, 1, ...] to a map [batch, widest, ...] at the plan's coarsest resolution."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.dimension = plan.dimension
        self.strides = [step[: plan.dimension] for step in plan.strides]
        kernels = [size[: plan.dimension] for size in plan.kernel_sizes]
        widths = zip((1, *plan.features[:-1]), plan.features, kernels, strict=True)
        self.blocks = nn.ModuleList(ConvBlock(i, o, kernel) for i, o, kernel in widths)

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, 1, x, y, z] (2D: [batch, 1, u, v, 1]) to [batch, widest, ...], with the plan's number of axes."""
        return self.maps(x)[-1]

    def maps(self, x: Tensor) -> list[Tensor]:
        """The maps of all resolutions, finest first."""
        x = x[..., 0] if self.dimension == 2 else x
        pool = F.max_pool3d if self.dimension == 3 else F.max_pool2d
        found: list[Tensor] = []
        for block, step in zip(self.blocks, self.strides, strict=True):
            x = block(pool(x, step) if found else x)
            found.append(x)
        return found


class Decoder(nn.Module):
    """From the coarsest map back to patches [batch, 1, ...]."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.dimension = plan.dimension
        self.strides = [step[: plan.dimension] for step in plan.strides]
        kernels = [size[: plan.dimension] for size in plan.kernel_sizes]
        widths = zip(plan.features[:0:-1], plan.features[-2::-1], kernels[-2::-1], strict=True)
        self.blocks = nn.ModuleList(ConvBlock(i, o, kernel) for i, o, kernel in widths)
        self.head = convolution(plan.dimension)(plan.features[0], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, widest, ...] to [batch, 1, x, y, z] ([batch, 1, u, v, 1] in 2D)."""
        for block, step in zip(self.blocks, self.strides[:0:-1], strict=True):
            x = block(F.interpolate(x, scale_factor=[float(size) for size in step], mode="nearest"))
        x = self.head(x)
        return x[..., None] if self.dimension == 2 else x


class Autoencoder(nn.Module):
    """Encoder, a code, and decoder.

    Args:
        plan: Widths and strides.
        code: Length of a dense code; None for a spatial one.
        outputs: Numbers per entry of a dense code: 2 for mean and log variance.
    """

    def __init__(self, plan: Plan, code: int | None, outputs: int = 1) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(plan), Decoder(plan)
        widest, axes = plan.features[-1], plan.dimension
        self.grid = [side // step for side, step in zip(plan.patch, plan.total_stride(), strict=True)][:axes]
        self.widest, self.dense = widest, code is not None
        if code is None:
            conv = convolution(axes)
            self.narrow: nn.Module = conv(widest, SPATIAL_CODE, 1)
            self.widen: nn.Module = conv(SPATIAL_CODE, widest, 1)
        else:
            size = widest * int(torch.tensor(self.grid).prod())
            self.narrow, self.widen = nn.Linear(size, outputs * code), nn.Linear(code, size)

    def encode(self, x: Tensor) -> tuple[Tensor, list[int]]:
        """Code of patches, and the sides of their coarsest map; a dense code sees it at the plan's size."""
        coarse = self.encoder(x)
        sides = list(coarse.shape[2:])
        if self.dense:
            coarse = self._sized(coarse, self.grid).flatten(1)
        return self.narrow(coarse), sides

    def decode(self, code: Tensor, sides: list[int] | None = None) -> Tensor:
        """Patches of codes; ``sides`` as :meth:`encode` gave them, or the plan's."""
        coarse = self.widen(code)
        if self.dense:
            coarse = self._sized(coarse.unflatten(1, (self.widest, *self.grid)), sides or self.grid)
        return cast(Tensor, self.decoder(coarse))

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct patches [batch, 1, ...]."""
        return self.decode(*self.encode(x))

    def _sized(self, coarse: Tensor, sides: list[int]) -> Tensor:
        if list(coarse.shape[2:]) == sides:
            return coarse
        mode = "trilinear" if coarse.ndim == 5 else "bilinear"
        return F.interpolate(coarse, size=sides, mode=mode, align_corners=False)


class SpatialAutoencoder(Peer):
    """Autoencoder whose code is a coarse map."""

    code: int | None = None

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.net = Autoencoder(plan, self.code)

    def losses(self, batch: Batch) -> Losses:
        """Mean absolute error."""
        return {"reconstruction": absolute_error(self.net(batch.image), batch.image, batch.mask)}

    def answer(self, image: Tensor, mask: Tensor) -> Tensor:
        """Reconstruction."""
        return cast(Tensor, self.net(image))


class DenseAutoencoder(SpatialAutoencoder):
    """Autoencoder whose code is a vector."""

    code = CODE


class VariationalAutoencoder(Peer):
    """VAE (Kingma and Welling, ICLR 2014) with a dense code."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.net = Autoencoder(plan, CODE, outputs=2)

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor, list[int]]:
        """Mean and log variance [batch, code] of patches, and the sides of their coarsest map."""
        both, sides = self.net.encode(image)
        mean, log_variance = both.float().chunk(2, 1)
        return mean, log_variance.clamp(-10, 10), sides

    def bound(self, image: Tensor, target: Tensor, mask: Tensor, noise: Tensor | float) -> Losses:
        """The negative evidence bound per brain voxel, in its two parts."""
        mean, log_variance, sides = self.encode(image)
        code = mean + noise * (0.5 * log_variance).exp()
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        return {
            "reconstruction": absolute_error(self.net.decode(code, sides), target, mask),
            "divergence": divergence / mask.sum().clamp(min=1),
        }

    def losses(self, batch: Batch) -> Losses:
        """The negative evidence bound."""
        noise = torch.stack([draws.normal(CODE) for draws in batch.draws])
        return self.bound(batch.image, batch.image, batch.mask, noise)

    def answer(self, image: Tensor, mask: Tensor) -> Tensor:
        """Reconstruction from the mean code."""
        mean, _, sides = self.encode(image)
        return self.net.decode(mean, sides)


METHODS = (
    *peer_methods("ae-dense", DenseAutoencoder),
    *peer_methods("ae-spatial", SpatialAutoencoder),
    *peer_methods("vae", VariationalAutoencoder),
)

"""Denoising diffusion: noise is laid over a scan, and taken off by a network that has seen healthy scans only.

Sources: ``anoddpm``: Wyatt et al., AnoDDPM (CVPR workshops 2022); ``pddpm``: Behrendt et al., Patched Diffusion
Models (MIDL 2023); ``cddpm``: Behrendt et al., Guided Reconstruction with Conditioned Diffusion Models (2023, arXiv
2312.04215). Settings: MONAI's diffusion U-Net with the plan's widths, attention at the coarsest resolution; 1000
steps, simplex noise. AnoDDPM learns the noise (squared error; linear schedule) and goes back from step 250 in 5
deterministic strides. The other two, under the cosine schedule (Nichol and Dhariwal, ICML 2021), learn the image
(absolute error) and answer in one stride. Patched: from step 500, noise and answer in one of 2 x 2 (x 2) tiles at a
time, with the rest of the scan to look at; a channel says where the tile is. Conditioned: from steps 250, 500 and 750,
whose answers are averaged; by a vector of 128 read off the scan itself. Unlike theirs, the encoder is not pretrained,
and the vector comes in by cross-attention at the coarsest resolution instead of with the step.
"""

from __future__ import annotations

from itertools import pairwise, product
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from anatomad.baselines.autoencoder import Encoder
from anatomad.baselines.peer import Batch, Peer, absolute_error, peer_methods, squared_error
from anatomad.baselines.simplex import simplex_noise
from anatomad.errors import UsageError
from anatomad.planner.plan import GROUPS, Plan
from anatomad.synth.draws import Draws
from anatomad.train.stages import Losses

if TYPE_CHECKING:
    from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet

STEPS = 1000
NOISED = 250
STRIDES = 5
NOISED_AT_ONCE = 500
ENSEMBLE = (250, 500, 750)
CONTEXT = 128
_OFFSET = 0.008
_MAX_BETA = 0.999


def cosine() -> Tensor:
    """Share of noise that each step adds (beta) [step], so that what is kept of the image falls as a squared cosine."""
    time = torch.linspace(0, 1, STEPS + 1, dtype=torch.float64)
    kept = ((time + _OFFSET) / (1 + _OFFSET) * torch.pi / 2).cos().square()
    return (1 - kept[1:] / kept[:-1]).clamp(max=_MAX_BETA).float()


def diffusion_unet(plan: Plan, inputs: int, context: int | None = None) -> DiffusionModelUNet:
    """MONAI's U-Net of as many resolutions as halve the patch evenly.

    Raises:
        UsageError: MONAI or einops is not installed.
    """
    halvings = min((step & -step).bit_length() - 1 for step in plan.total_stride()[: plan.dimension])
    features = plan.features[: halvings + 1]
    try:
        from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet

        return DiffusionModelUNet(
            spatial_dims=plan.dimension,
            in_channels=inputs,
            out_channels=1,
            num_res_blocks=1,
            channels=features,
            attention_levels=[level == len(features) - 1 for level in range(len(features))],
            norm_num_groups=GROUPS,
            num_head_channels=GROUPS,
            with_conditioning=context is not None,
            cross_attention_dim=context,
        )
    except ImportError:  # MONAI itself, or einops, which it asks for when it builds attention
        raise UsageError(
            "diffusion needs MONAI and einops; install them with: pip install 'anatomad[baselines]'"
        ) from None


class _Network(nn.Module):
    """The U-Net on patches [batch, channel, x, y, z] ([batch, channel, u, v, 1] in 2D), told the step."""

    def __init__(self, plan: Plan, inputs: int = 1, context: int | None = None) -> None:
        super().__init__()
        self.flat = plan.dimension == 2
        self.unet = diffusion_unet(plan, inputs, context)

    def forward(self, x: Tensor, step: Tensor, context: Tensor | None = None) -> Tensor:
        answer: Tensor = self.unet(x[..., 0] if self.flat else x, step, context=context)
        return (answer[..., None] if self.flat else answer).float()


class Diffusion(Peer):
    """AnoDDPM: learns the noise, and takes it off in strides."""

    betas: ClassVar[Tensor] = torch.linspace(1e-4, 0.02, STEPS)

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.spacing = plan.spacing_mm
        self.kept: Tensor
        self.register_buffer("kept", (1 - self.betas).cumprod(0), persistent=False)
        self.net: nn.Module = self.network(plan)

    def network(self, plan: Plan) -> nn.Module:
        """What is trained."""
        return _Network(plan)

    def noised(self, image: Tensor, noise: Tensor, step: Tensor) -> Tensor:
        """Patches under the noise of their steps [batch]."""
        kept = self.kept[step].view(-1, 1, 1, 1, 1)
        return kept.sqrt() * image + (1 - kept).sqrt() * noise

    def drawn(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Noise [batch, 1, ...] and step [batch] of each patch."""
        noise = batch.drawn(lambda draws: simplex_noise(batch.plan.patch, self.spacing, draws))
        steps = [draws.integer(0, STEPS - 1) for draws in batch.draws]
        return noise, torch.tensor(steps, device=noise.device)

    def laid_over(self, image: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Scans under a step's noise, which is always the same so that a result is too; that step [batch]."""
        noise = simplex_noise(image.shape[2:], self.spacing, Draws("diffusion", step, device=image.device))[None]
        steps = torch.full((len(image),), step, device=image.device)
        return self.noised(image, noise, steps), steps

    def losses(self, batch: Batch) -> Losses:
        """Squared error of the noise."""
        noise, step = self.drawn(batch)
        return {"noise": squared_error(self.net(self.noised(batch.image, noise, step), step), noise, batch.mask)}

    def answer(self, image: Tensor, mask: Tensor) -> Tensor:
        """The scan after noise was laid over it and taken off."""
        times = torch.linspace(NOISED, 0, STRIDES + 1).long().tolist()
        (x, step), healthy = self.laid_over(image, NOISED), image
        for now, then in pairwise(times):
            step, after = torch.full_like(step, now), torch.full_like(step, then)
            noise, kept = self.net(x, step), self.kept[now]
            healthy = (x - (1 - kept).sqrt() * noise) / kept.sqrt()
            x = self.noised(healthy, noise, after)
        return healthy


class PatchedDiffusion(Diffusion):
    """pDDPM: learns the image of one tile, the rest of which it sees."""

    betas = cosine()

    def network(self, plan: Plan) -> nn.Module:
        """A U-Net that is also told where the noise lies."""
        return _Network(plan, inputs=2)

    def restored(self, image: Tensor, noised: Tensor, tile: Tensor, step: Tensor) -> Tensor:
        """Answer for patches that are ``noised`` within a tile [..., x, y, z] of ones."""
        tile = tile.expand_as(image)
        return self.net(torch.cat([torch.lerp(image, noised, tile), tile], 1), step)

    def losses(self, batch: Batch) -> Losses:
        """Absolute error within a random tile."""
        noise, step = self.drawn(batch)
        every = _tiles(batch.image)
        tile = torch.stack([every[draws.integer(0, len(every) - 1)] for draws in batch.draws])
        answer = self.restored(batch.image, self.noised(batch.image, noise, step), tile, step)
        return {"image": absolute_error(answer, batch.image, batch.mask & (tile > 0))}

    def answer(self, image: Tensor, mask: Tensor) -> Tensor:
        """The scan, tile by tile."""
        noised, step = self.laid_over(image, NOISED_AT_ONCE)
        return torch.stack([self.restored(image, noised, tile, step) * tile for tile in _tiles(image)]).sum(0)


class _Conditioned(nn.Module):
    """U-Net told by cross-attention what an encoder read off the scan."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.encoder, self.head = Encoder(plan), nn.Linear(plan.features[-1], CONTEXT)
        self.network = _Network(plan, context=CONTEXT)

    def forward(self, x: Tensor, step: Tensor, image: Tensor) -> Tensor:
        read = self.encoder(image).flatten(2).mean(2)
        return self.network(x, step, self.head(read)[:, None])


class ConditionedDiffusion(Diffusion):
    """cDDPM: learns the image, told what the scan as a whole looks like."""

    betas = cosine()

    def network(self, plan: Plan) -> nn.Module:
        """A U-Net and the encoder that it listens to."""
        return _Conditioned(plan)

    def losses(self, batch: Batch) -> Losses:
        """Absolute error of the image."""
        noise, step = self.drawn(batch)
        answer = self.net(self.noised(batch.image, noise, step), step, batch.image)
        return {"image": absolute_error(answer, batch.image, batch.mask)}

    def answer(self, image: Tensor, mask: Tensor) -> Tensor:
        """The scan in one stride, on average over steps."""
        return torch.stack([self.net(*self.laid_over(image, step), image) for step in ENSEMBLE]).mean(0)


def _tiles(image: Tensor) -> list[Tensor]:
    """The 2 x 2 (x 2) tiles of patches, each [1, x, y, z] of ones and zeros."""
    halves = [(slice(0, n // 2), slice(n // 2, n)) if n > 1 else (slice(None),) for n in image.shape[2:]]
    found = []
    for x, y, z in product(*halves):
        tile = torch.zeros(1, *image.shape[2:], device=image.device)
        tile[:, x, y, z] = 1
        found.append(tile)
    return found


METHODS = (
    *peer_methods("anoddpm", Diffusion),
    *peer_methods("pddpm", PatchedDiffusion),
    *peer_methods("cddpm", ConditionedDiffusion),
)

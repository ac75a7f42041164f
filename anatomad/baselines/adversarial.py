"""f-AnoGAN: a generator of healthy scans, and an encoder that finds the one nearest to a given scan.

Source: Schlegl et al., f-AnoGAN: Fast unsupervised anomaly detection with generative adversarial networks (Medical
Image Analysis 2019). Settings: Wasserstein GAN with gradient penalty 10, code of 128, generator and critic with the
plan's widths; generator and critic step together (the generator along the reversed gradient) instead of 1 to 5; then
the encoder by the izi_f loss (squared error of the image, and of the critic's features with weight 1). The two stages
share the time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anatomad.baselines.autoencoder import CODE, Decoder, Encoder
from anatomad.baselines.peer import Batch, Peer, batch_of, peer_losses, peer_methods, squared_error
from anatomad.planner.plan import Plan
from anatomad.train.stages import Losses, Step

PENALTY = 10.0
FEATURES = 1.0


class _Reader(nn.Module):
    """Numbers read off a patch, and the features that they are read from."""

    def __init__(self, plan: Plan, outputs: int) -> None:
        super().__init__()
        self.encoder = Encoder(plan)
        self.head = nn.Linear(plan.features[-1] * 4**plan.dimension, outputs)
        pool = nn.AdaptiveAvgPool3d if plan.dimension == 3 else nn.AdaptiveAvgPool2d
        self.pool = pool(4)  # a dense view of where things are, whatever the patch

    def features(self, image: Tensor) -> Tensor:
        """Coarse features [batch, number] of patches [batch, 1, ...]."""
        return self.pool(self.encoder(image)).flatten(1)

    def forward(self, image: Tensor) -> Tensor:
        """Numbers [batch, outputs] of patches [batch, 1, ...]."""
        return self.head(self.features(image))


class _Generator(nn.Module):
    """Patches [batch, 1, ...] from codes [batch, code]."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        strides = plan.total_stride()
        grid = [side // step for side, step in zip(plan.patch, strides, strict=True)][: plan.dimension]
        self.shape = (plan.features[-1], *grid)
        self.widen = nn.Linear(CODE, int(torch.tensor(self.shape).prod()))
        self.decoder = Decoder(plan)

    def forward(self, code: Tensor) -> Tensor:
        return self.decoder(self.widen(code).unflatten(1, self.shape))


class Adversarial(Peer):
    """Generator, critic and encoder."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.generator = _Generator(plan)
        self.critic, self.encoder = _Reader(plan, 1), _Reader(plan, CODE)

    def losses(self, batch: Batch) -> Losses:
        """Wasserstein distance of generated from real patches as the critic sees it, and its gradient penalty."""
        code = torch.stack([draws.normal(CODE) for draws in batch.draws])
        made = self.generator(code) * batch.mask
        reversed_ = 2 * made.detach() - made  # the generator goes up what the critic goes down
        share = torch.stack([draws.rand(1, 1, 1, 1) for draws in batch.draws])
        between = torch.lerp(made.detach().float(), batch.image, share).requires_grad_()
        (slope,) = torch.autograd.grad(self.critic(between).float().sum(), between, create_graph=True)
        return {
            "critic": (self.critic(reversed_) - self.critic(batch.image)).float().mean(),
            "penalty": PENALTY * (slope.flatten(1).norm(dim=1) - 1).square().mean(),
        }

    def encoding_losses(self, batch: Batch) -> Losses:
        """The izi_f loss of the encoder."""
        found = self.generator(self.encoder(batch.image)) * batch.mask
        features = self.critic.features(found) - self.critic.features(batch.image)
        return {
            "image": squared_error(found, batch.image, batch.mask),
            "features": FEATURES * features.float().square().mean(),
        }

    def answer(self, image: Tensor, mask: Tensor) -> Tensor:
        """The generated scan that the encoder names; patches of another size are seen at the plan's."""
        seen = image if image.shape[2:] == self.patch else nn.functional.interpolate(image, size=self.patch)
        made: Tensor = self.generator(self.encoder(seen))
        return made if seen is image else nn.functional.interpolate(made.float(), size=image.shape[2:])


def _encoding(networks: Adversarial, step: Step) -> Losses:
    return networks.encoding_losses(batch_of(step))


METHODS = peer_methods(
    "f-anogan",
    Adversarial,
    stages=(("generator", peer_losses, ("generator", "critic")), ("encoder", _encoding, ("encoder",))),
)

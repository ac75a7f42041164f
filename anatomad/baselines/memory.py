"""Feature memory: a place is anomalous when no place of a healthy brain looks like it.

Source: Roth et al., Towards Total Recall in Industrial Anomaly Detection (PatchCore, CVPR 2022). Settings: features
of the second and third resolution, averaged over 3 neighbours and joined; a core set of 1000 by farthest-point
sampling of some 20 000 places in the training scans; the score is the distance to the nearest. No ImageNet: the
features are those of a denoising autoencoder that has seen the training brains only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from anatomad.baselines.autoencoder import Autoencoder
from anatomad.baselines.denoising import NOISE, coarse_noise
from anatomad.baselines.peer import Batch, Peer, peer_methods, scan_of, squared_error, standardised
from anatomad.planner.plan import Plan
from anatomad.preprocess.store import StoredCase
from anatomad.synth.draws import Draws
from anatomad.train.stages import Losses

PLACES = 20_000
CORE = 1000
_LEVELS = slice(1, 3)


class FeatureMemory(Peer):
    """Denoising autoencoder and a memory [core, feature] of what its encoder says about healthy places."""

    restores = False

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.net = Autoencoder(plan, None)
        self.memory: Tensor
        self.register_buffer("memory", torch.zeros(CORE, sum(plan.features[_LEVELS])))

    def losses(self, batch: Batch) -> Losses:
        """Mean squared error of the denoised patches."""
        noise = batch.drawn(lambda draws: coarse_noise(draws, batch.plan)) * NOISE * batch.unit
        return {"denoising": squared_error(self.net(batch.image + noise * batch.mask), batch.image, batch.mask)}

    def features(self, image: Tensor) -> Tensor:
        """Features [batch, feature, ...] of patches at the second resolution."""
        maps = self.net.encoder.maps(image)[_LEVELS]
        pool = F.avg_pool3d if maps[0].ndim == 5 else F.avg_pool2d
        pooled = [pool(each.float(), 3, 1, 1) for each in maps]
        return torch.cat([pooled[0], *(F.interpolate(each, size=pooled[0].shape[2:]) for each in pooled[1:])], 1)

    def answer(self, image: Tensor, mask: Tensor) -> Tensor:
        """Distance of every place from the nearest in the memory."""
        features = self.features(image)
        nearest = torch.cdist(features.flatten(2).transpose(1, 2), self.memory[None]).amin(2)
        distance = nearest.view(len(image), 1, *features.shape[2:])
        distance = distance[..., None] if image.ndim > distance.ndim else distance
        return F.interpolate(distance, size=image.shape[2:], mode="trilinear", align_corners=False)


@torch.no_grad()
def fit(networks: FeatureMemory, cases: Sequence[StoredCase], plan: Plan, device: torch.device) -> None:
    """Fill the memory from the training scans."""
    found: list[Tensor] = []
    draws = Draws(plan.seed, "feature memory", device=device)

    def network(part: Tensor) -> Tensor:
        inside = part[:, 1:] > 0.5
        features = networks.features(standardised(part[:, :1], inside)[0])
        brain = F.interpolate(inside.float(), size=(*features.shape[2:], 1)[:3])
        rows = features.movedim(1, -1)[brain.view(len(part), *features.shape[2:]) > 0.5]
        found[-1] = torch.cat([found[-1], rows])
        return part[:, :1]

    for case in cases:
        found.append(torch.zeros(0, networks.memory.shape[1], device=device))
        networks.whole(network, *scan_of(case, device))
        share = PLACES // len(cases) + 1
        found[-1] = found[-1][draws.rand(len(found[-1])).argsort()[:share]]
    networks.memory.copy_(core_set(torch.cat(found), CORE))


def core_set(features: Tensor, size: int) -> Tensor:
    """Rows [size, feature] that cover all rows: each the farthest from those before; repeated if they are too few."""
    chosen = [0]
    distance = (features - features[0]).square().sum(1)
    for _ in range(size - 1):
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (features - features[chosen[-1]]).square().sum(1))
    return features[chosen]


METHODS = peer_methods("patchcore", FeatureMemory, restores=False, fit=fit)

"""Feature memory: a place is anomalous when no place of a healthy brain looks like it.

Source: Roth et al., Towards Total Recall in Industrial Anomaly Detection (PatchCore, CVPR 2022). Settings: features
of the second and third resolution, averaged over 3 neighbours and joined; a core set of 1000 by farthest-point
sampling of some 20 000 places in patches that are drawn of every training scan and channel as in training; the score
is the distance to the nearest. Under ``+contrasts`` every other patch is seen in a drawn contrast. No ImageNet: the
features are those of a denoising autoencoder that has seen the training brains only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from anatomad.baselines.autoencoder import Autoencoder
from anatomad.baselines.denoising import NOISE, coarse_noise
from anatomad.baselines.peer import Batch, Peer, batch_of, peer_methods, squared_error
from anatomad.planner.plan import Plan
from anatomad.preprocess.store import StoredCase
from anatomad.synth.draws import Draws
from anatomad.train.cases import Sample, volumes_of
from anatomad.train.stages import Losses, Step

PATCHES = 200
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

    def places(self, image: Tensor, mask: Tensor) -> Tensor:
        """Features [place, feature] of the places in the brains of patches."""
        features = self.features(image)
        brain = F.interpolate(mask.float(), size=(*features.shape[2:], 1)[:3])
        return features.movedim(1, -1)[brain.view(len(image), *features.shape[2:]) > 0.5]

    def answer(self, image: Tensor, mask: Tensor) -> Tensor:
        """Distance of every place from the nearest in the memory."""
        features = self.features(image)
        nearest = torch.cdist(features.flatten(2).transpose(1, 2), self.memory[None]).amin(2)
        distance = nearest.view(len(image), 1, *features.shape[2:])
        distance = distance[..., None] if image.ndim > distance.ndim else distance
        return F.interpolate(distance, size=image.shape[2:], mode="trilinear", align_corners=False)


@torch.no_grad()
def fit(
    networks: FeatureMemory, cases: Sequence[StoredCase], plan: Plan, device: torch.device, contrasts: bool = False
) -> None:
    """Fill the memory from the training scans, every channel in turn, and with ``contrasts`` also in drawn ones."""
    found: list[Tensor] = []
    patches = -(-PATCHES // len(cases))  # of each case
    for case in cases:
        for _ in range(patches):
            number = len(found)
            draws = Draws(plan.seed, "feature memory", number, device=device)
            volumes = volumes_of(case, number // 2 % len(case.image), device)
            drawn = contrasts and number % 2 == 1
            batch = batch_of(Step([Sample(case.id, volumes, draws)], 1.0, plan, drawn))
            rows = networks.places(batch.image, batch.mask)
            found.append(rows[draws.rand(len(rows)).argsort()[: PLACES // (patches * len(cases)) + 1]])
    networks.memory.copy_(core_set(torch.cat(found), CORE))


def core_set(features: Tensor, size: int) -> Tensor:
    """Rows [size, feature] that cover all rows: each the farthest from those before; repeated if they are too few."""
    chosen = [0]
    distance = (features - features[0]).square().sum(1)
    for _ in range(size - 1):
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (features - features[chosen[-1]]).square().sum(1))
    return features[chosen]


_PLAIN, _CONTRASTS = peer_methods("patchcore", FeatureMemory, restores=False, fit=fit)
METHODS = (_PLAIN, replace(_CONTRASTS, fit=partial(fit, contrasts=True)))

"""Tissue mixture: voxels that fit none of the brain's tissues are outliers.

Source: Van Leemput et al., Automated segmentation of multiple sclerosis lesions by model outlier detection (IEEE TMI
2001). Settings: CSF, grey and white matter as Gaussians of the scan's own intensities with a smooth gain, fitted
robustly (Tukey's biweight) under tissue probabilities averaged over the training cases by brain box; a voxel belongs
to the tissue of the highest posterior, and its residual is its Mahalanobis distance from that. ``mixture-expected``
is the distance from what the probabilities alone foretell: our closed-form recoupling without any network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from anatomad.baselines.brain_box import at_box, at_brain, moments
from anatomad.baselines.difference import Difference, signed_and_absolute
from anatomad.models.closed_form import imaging_of, recouple
from anatomad.planner.plan import Plan
from anatomad.preprocess.store import StoredCase
from anatomad.train.method import Method

_MIN_PRIOR = 0.02  # no tissue is impossible anywhere in a brain that is laid over others by its box alone


class TissueAtlas(nn.Module):
    """Mean tissue probabilities [tissue, *box], without background."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        tissues = len(plan.tissues) - 1
        self.tissue: Tensor
        self.register_buffer("tissue", torch.full((tissues, *plan.box), 1 / tissues))


def fit(networks: TissueAtlas, cases: Sequence[StoredCase], plan: Plan, device: torch.device) -> None:
    """Average the tissue maps of the training cases."""

    def pairs() -> Iterator[tuple[Tensor, Tensor]]:
        for case in cases:
            mask = torch.from_numpy(case.mask).to(device)
            tissue = torch.from_numpy(case.tissue[1:]).to(device).float() / 255
            yield at_box(tissue, mask, plan.box), at_box(mask[None].float(), mask, plan.box)

    networks.tissue.copy_(moments(pairs(), plan)[0])


def _prior(networks: TissueAtlas, mask: Tensor) -> Tensor:
    found = at_brain(networks.tissue, mask).clamp(min=_MIN_PRIOR)
    return found / found.sum(0) * mask


@torch.no_grad()
def read_outliers(networks: TissueAtlas, image: Tensor, mask: Tensor, precision: str) -> Difference:
    """Distance of every voxel [x, y, z] from the tissue that it most likely is."""
    prior = _prior(networks, mask)
    imaging = imaging_of(image, prior, mask)
    distance = imaging.distances(image)
    log_spread = imaging.spreads.log()[:, None, None, None]
    log_posterior = prior.clamp(min=1e-6).log() - log_spread - distance.square() / 2
    chosen = log_posterior.argmax(0, keepdim=True)
    outlying = distance.gather(0, chosen)[0] * mask
    return Difference(mask, {"signed": outlying, "absolute": outlying.abs()})


@torch.no_grad()
def read_expected(networks: TissueAtlas, image: Tensor, mask: Tensor, precision: str) -> Difference:
    """Distance of every voxel [x, y, z] from what the tissue probabilities foretell."""
    expected = recouple(image, _prior(networks, mask), mask)
    return signed_and_absolute((image - expected.image) / expected.spread, mask, expected.image)


METHODS = (
    Method("mixture", TissueAtlas, read_outliers, writes_phi=False, fit=fit),
    Method("mixture-expected", TissueAtlas, read_expected, fit=fit),
)

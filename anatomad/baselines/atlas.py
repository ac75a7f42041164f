"""Healthy atlas: how many SDs a voxel lies from what healthy scans show at its place.

Source: the voxel-wise z-score of lesion mapping, as in Seghier et al., Lesion identification using unified
segmentation-normalisation models and fuzzy clustering (NeuroImage 2008). Settings: scans standardised in the brain
and laid over each other by the brain's bounding box; mean and SD over the training scans, smoothed by 3 mm; an SD of
at least 0.1 of the brain's. All channels are pooled, for a scan may be of none of them: of a data set with several
sequences the SD is also that between sequences. The mean healthy image is its pseudo-healthy image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from anatomad.baselines.brain_box import at_box, at_brain, moments
from anatomad.baselines.difference import Difference
from anatomad.baselines.peer import scan_of, standardised
from anatomad.planner.plan import Plan
from anatomad.preprocess.store import StoredCase
from anatomad.train.method import Method

_MIN_SD = 0.1


class Atlas(nn.Module):
    """Mean and SD [1, *box] of healthy scans."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.mean: Tensor
        self.spread: Tensor
        self.register_buffer("mean", torch.zeros(1, *plan.box))
        self.register_buffer("spread", torch.ones(1, *plan.box))


def fit(networks: Atlas, cases: Sequence[StoredCase], plan: Plan, device: torch.device) -> None:
    """Average the training scans, every channel of every case."""

    def pairs() -> Iterator[tuple[Tensor, Tensor]]:
        for case in cases:
            for channel in range(len(case.image)):
                image, mask = scan_of(case, device, channel)
                scan = standardised(image[None, None], mask[None, None])[0][0]
                yield at_box(scan, mask, plan.box), at_box(mask[None].float(), mask, plan.box)

    mean, spread = moments(pairs(), plan)
    networks.mean.copy_(mean)
    networks.spread.copy_(spread.clamp(min=_MIN_SD))


@torch.no_grad()
def read(networks: Atlas, image: Tensor, mask: Tensor, precision: str) -> Difference:
    """Compare a scan [x, y, z] with the atlas."""
    scan, centre, unit = (part[0, 0] for part in standardised(image[None, None], mask[None, None]))
    mean, spread = (at_brain(part, mask)[0] for part in (networks.mean, networks.spread))
    z = (scan - mean) / spread * mask
    residuals = {"z": z, "absolute z": z.abs(), "difference": (scan - mean) * mask}
    return Difference(mask, residuals, (mean * unit + centre) * mask)


METHODS = (Method("atlas", Atlas, read, fit=fit),)

"""Context-encoding VAE with restoration: the healthy image that is most likely given the scan.

Sources: Zimmerer et al., Context-encoding Variational Autoencoder for Unsupervised Anomaly Detection (MIDL 2019);
Chen et al., Unsupervised lesion detection via image restoration with a normative prior (Medical Image Analysis 2020).
Settings: our VAE, trained with equal weight to rebuild whole patches (evidence bound) and patches without 1 to 3
boxes (mean absolute error, mean code); a scan goes down the gradient of the bound plus 0.5 of its change's total
variation, 20 steps of at most 0.1 SD.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anatomad.baselines.autoencoder import VariationalAutoencoder
from anatomad.baselines.peer import Batch, absolute_error, peer_methods
from anatomad.planner.plan import Plan
from anatomad.synth.draws import Draws
from anatomad.train.stages import Losses

STEPS = 20
STEP = 0.1
VARIATION = 0.5
_BOXES = (1, 3)
_SHARE = (0.1, 0.5)  # of a side


def box(draws: Draws, plan: Plan) -> Tensor:
    """A random box [1, x, y, z] of ones."""
    result = torch.zeros(1, *plan.patch, device=draws.device)
    sides = [max(1, round(n * draws.uniform(*_SHARE))) for n in plan.patch]
    starts = [draws.integer(0, n - side) for n, side in zip(plan.patch, sides, strict=True)]
    x, y, z = (slice(start, start + side) for start, side in zip(starts, sides, strict=True))
    result[:, x, y, z] = 1
    return result


def _kept(draws: Draws, batch: Batch) -> Tensor:
    """1 outside of one to three random boxes [1, x, y, z]."""
    boxes = [box(draws, batch.plan) for _ in range(draws.integer(*_BOXES))]
    return 1 - torch.stack(boxes).amax(0)


class ContextEncoding(VariationalAutoencoder):
    """VAE that also fills in boxes, and restores scans along its gradient."""

    def losses(self, batch: Batch) -> Losses:
        """The evidence bound of whole patches and the error of those with boxes erased."""
        erased = batch.image * batch.drawn(lambda draws: _kept(draws, batch))
        mean, _, sides = self.encode(erased)
        context = absolute_error(self.net.decode(mean, sides), batch.image, batch.mask)
        return super().losses(batch) | {"context": context}

    def answer(self, image: Tensor, mask: Tensor) -> Tensor:
        """The scan after gradient descent towards what the VAE holds to be healthy."""
        restored = image
        for _ in range(STEPS):
            with torch.enable_grad():
                here = restored.detach().requires_grad_()
                bound = torch.stack(list(self.bound(here, here, mask, 0.0).values())).sum() * mask.sum()
                change = here - image
                variation = sum(change.diff(dim=axis).abs().sum() for axis in (2, 3, 4))
                (slope,) = torch.autograd.grad(bound + VARIATION * torch.as_tensor(variation), here)
            restored = restored - STEP * slope.clamp(-1, 1) * mask
        return restored


METHODS = peer_methods("cevae", ContextEncoding)

"""What the trained peers share: the patches that they learn from, and the way from patches to whole scans."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from anatomad.baselines.difference import Difference, signed_and_absolute
from anatomad.models.device import autocast
from anatomad.models.slicing import sliced
from anatomad.models.tiling import tiled
from anatomad.planner.plan import Plan
from anatomad.preprocess.store import StoredCase
from anatomad.synth.deform import stacked
from anatomad.synth.draws import Draws
from anatomad.train.method import Method, leave
from anatomad.train.picture import Row, axial
from anatomad.train.stages import Losses, Stage, Step

StageParts = tuple[str, Callable[[Any, Step], Losses], tuple[str, ...]]

CONTRASTS = "+contrasts"
_MIN_SPREAD = 0.01


@dataclass(frozen=True)
class Batch:
    """Healthy patches, deformed as our own method's are; in their own contrast, or in drawn ones.

    Attributes:
        image: [batch, 1, ...], mean 0 and SD 1 in the brain, 0 outside.
        mask: Brain [batch, 1, ...], bool.
        unit: What an intensity range of 1 is in ``image`` [batch, 1, 1, 1, 1]: one over the brain's SD.
        draws: Randomness of each patch.
        plan: Spacing in mm.
    """

    image: Tensor
    mask: Tensor
    unit: Tensor
    draws: tuple[Draws, ...]
    plan: Plan

    def drawn(self, draw: Callable[[Draws], Tensor]) -> Tensor:
        """Something [1, ...] drawn for every patch, as one batch [batch, 1, ...]."""
        return torch.stack([draw(draws) for draws in self.draws])


def batch_of(step: Step) -> Batch:
    """The patches of a step."""
    patches, draws = step.patches(), tuple(sample.draws for sample in step.samples)
    images = [step.scanned(step.rendered(p, d)[0], p, d) for p, d in zip(patches, draws, strict=True)]
    mask = stacked(patches).mask
    image, _, spread = standardised(torch.cat(images), mask)
    return Batch(image, mask, 1 / spread, draws, step.plan)


def standardised(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Patches [batch, 1, ...] with mean 0 and SD 1 in their brains and 0 outside, and what mean and SD were."""
    axes = tuple(range(2, image.ndim))
    voxels = mask.sum(axes, keepdim=True).clamp(min=1)
    mean = (image * mask).sum(axes, keepdim=True) / voxels
    centred = (image - mean) * mask
    spread = (centred.square().sum(axes, keepdim=True) / voxels).sqrt().clamp(min=_MIN_SPREAD)
    return centred / spread, mean, spread


def absolute_error(answer: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference of [batch, 1, ...] in the brain."""
    return ((answer.float() - target).abs() * mask).sum() / mask.sum().clamp(min=1)


def squared_error(answer: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference of [batch, 1, ...] in the brain."""
    return ((answer.float() - target).square() * mask).sum() / mask.sum().clamp(min=1)


class Peer(nn.Module, ABC):
    """Networks of a peer. They see patches standardised in the brain, so that neither window nor gain matters.

    What the only stage trains is called ``net``.
    """

    restores: ClassVar[bool] = True

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.dimension, self.patch = plan.dimension, plan.patch

    @abstractmethod
    def losses(self, batch: Batch) -> Losses:
        """What training makes small."""

    @abstractmethod
    def answer(self, image: Tensor, mask: Tensor) -> Tensor:
        """Restored patches [batch, 1, ...] of standardised ones; or how anomalous they are, if not ``restores``."""

    def whole(self, network: Callable[[Tensor], Tensor], image: Tensor, mask: Tensor) -> Tensor:
        """Take a scan [x, y, z] through a network of patches (image and mask), as our own method's scans go.

        The answers for the scan and for its left-right mirror image are averaged.
        """
        mirrored = self._once(network, image.flip(0), mask.flip(0)).flip(0)
        return (self._once(network, image, mask) + mirrored) / 2

    def _once(self, network: Callable[[Tensor], Tensor], image: Tensor, mask: Tensor) -> Tensor:
        volume, brain = torch.stack([image, mask.to(image.dtype)])[None], mask[None, None]
        if self.dimension == 3:
            return tiled(network, volume, brain, self.patch)[0, 0]
        parts = [sliced(network, volume, brain, axis, self.patch) for axis in range(3)]
        return torch.stack(parts).mean(0)[0, 0]


@torch.no_grad()
def read(networks: Peer, image: Tensor, mask: Tensor, precision: str) -> Difference:
    """Read a scan [x, y, z] with its brain; see :class:`anatomad.predict.reader.Reader`."""

    def network(part: Tensor) -> Tensor:
        inside = part[:, 1:] > 0.5
        patch, mean, spread = standardised(part[:, :1], inside)
        answer = networks.answer(patch, inside).float()
        return (answer * spread + mean) * inside if networks.restores else answer * inside

    with autocast(image.device, precision):
        answer = networks.whole(network, image, mask)
    if networks.restores:
        return signed_and_absolute(image - answer, mask, answer)
    return Difference(mask, {"score": answer * mask})


def peer_losses(networks: Peer, step: Step) -> Losses:
    """Losses of a step, as a stage asks for them."""
    return networks.losses(batch_of(step))


def peer_methods(
    name: str,
    networks: Callable[[Plan], Peer],
    *,
    restores: bool = True,
    stages: Sequence[StageParts] = (("training", peer_losses, ("net",)),),
    fit: Callable[[Any, Sequence[StoredCase], Plan, torch.device], None] = leave,
) -> tuple[Method, Method]:
    """A trained peer twice: on healthy scans as they are, and (``NAME+contrasts``) in contrasts drawn as ours are.

    Args:
        name: Of the method.
        networks: Builds them.
        restores: Whether its answer is an image.
        stages: Name, loss and trained parts of each; they share the steps and the time equally.
        fit: See :class:`anatomad.train.method.Method`.
    """
    first, second = (
        Method(
            name + CONTRASTS * contrasts,
            networks,
            read,
            writes_phi=restores,
            stages=tuple(Stage(*stage, contrasts=contrasts) for stage in stages),
            shares={stage: 1 / len(stages) for stage, _, _ in stages},
            fit=fit,
            validate=_validate,
            row=_row,
        )
        for contrasts in (False, True)
    )
    return first, second


def scan_of(case: StoredCase, device: torch.device, channel: int = 0) -> tuple[Tensor, Tensor]:
    """One channel of a stored case, 0 outside the brain, and that brain, both [x, y, z]."""
    mask = torch.from_numpy(case.mask).to(device)
    return torch.where(mask, torch.from_numpy(case.image[channel]).to(device).float(), 0.0), mask


def _validate(
    networks: Peer, cases: Sequence[StoredCase], plan: Plan, stage: str, device: torch.device, precision: str
) -> dict[str, float]:
    """Mean magnitude of the residual in healthy brains: what remains is what a lesion must exceed."""
    found = []
    for case in cases:
        image, mask = scan_of(case, device)
        parts = read(networks, image, mask, precision)
        found.append(float(parts.residual(parts.kinds[0])[mask].abs().mean()))
    return {"healthy_residual": sum(found) / len(found)}


def _row(networks: Peer, case: StoredCase, device: torch.device, precision: str) -> Row:
    image, mask = scan_of(case, device)
    parts = read(networks, image, mask, precision)
    residual = parts.residual(parts.kinds[-1])
    top = max(float(residual.amax()), 1e-6)
    gray = {"cmap": "gray", "vmin": 0, "vmax": 1}
    shown: list[tuple[Tensor, str, dict[str, Any]]] = [(image, "x", gray)]
    if parts.restored is not None:
        shown.append((parts.restored, "PHI", gray))
    shown.append((residual, "residual", {"cmap": "inferno", "vmin": 0, "vmax": top}))
    middle = int(np.median(np.nonzero(case.mask)[2]))
    return Row(case.id, tuple(axial(s[0], middle) for s in shown), tuple((s[1], s[2]) for s in shown))

"""Trials on healthy scans: as they are, in contrasts that training had no scan of, and with painted lesions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, product
from typing import Literal

import torch
from torch import Tensor

from anatomad.planner.plan import Plan
from anatomad.preprocess.store import StoredCase
from anatomad.synth.contrast import remapped, rendered, scanned
from anatomad.synth.deform import Patch
from anatomad.synth.disease import DISEASES, Disease, painted
from anatomad.synth.draws import Draws

Kind = Literal["real", "unseen contrast", "lesions"]
Contrast = Callable[[Patch, Draws], Tensor]  # image of a brain
_VISIBLE = 0.1  # of the intensity range: a change smaller than that is no lesion that anyone could find
_LEAST_MM3 = 200.0
_ATTEMPTS = 5
_LESION_TRIALS = 12
_MAPS = 20
_ALIKE = 0.5  # correlation with the scan: a map of its intensities that keeps more of their order is no other contrast


@dataclass(frozen=True)
class Trial:
    """A scan [x, y, z] with its brain mask and painted lesions (none where healthy)."""

    kind: Kind
    image: Tensor
    mask: Tensor
    lesion: Tensor


def whole_scan(case: StoredCase, device: torch.device) -> Patch:
    """A case's first channel, its tissues and its brain as one patch, without positions."""
    mask = torch.from_numpy(case.mask).to(device)[None, None]
    tissue = torch.from_numpy(case.tissue).to(device)[None].float() / 255
    image = torch.from_numpy(case.image[0]).to(device)[None, None].float()
    return Patch(tissue, torch.where(mask, image, 0.0), mask, torch.zeros(1, 3, *mask.shape[2:], device=device))


def count_trials(cases: int, channels: int) -> int:
    """How many trials the functions below make of so many cases of so many channels each."""
    return count_healthy(cases, channels) + cases * _lesions_per_case(cases)


def count_healthy(cases: int, channels: int) -> int:
    """How many of them show no lesion."""
    return cases * (channels + 1)


def _lesions_per_case(cases: int) -> int:
    return math.ceil(_LESION_TRIALS / cases)


def healthy_trials(plan: Plan, cases: Sequence[StoredCase], device: torch.device) -> Iterator[Trial]:
    """Every channel of every case as it is, and every case once in a contrast of its own."""
    for number, case in enumerate(cases):
        patch = whole_scan(case, device)
        mask, none = patch.mask[0, 0], torch.zeros_like(patch.mask[0, 0])
        for channel in case.image:
            image = torch.from_numpy(channel).to(device).float()
            yield Trial("real", torch.where(mask, image, 0.0), mask, none)
        draws = Draws(plan.seed, "unseen contrast", number, device=device)
        image, _ = rendered(patch, draws, plan)
        yield Trial("unseen contrast", scanned(image, patch.mask, draws, plan)[0, 0], mask, none)


def lesion_trials(plan: Plan, cases: Sequence[StoredCase], device: torch.device) -> Iterator[Trial]:
    """Every disease (:mod:`anatomad.synth.disease`) in turn, in a case's own contrast and in one that no scan had.

    The other contrast is a map of the scan's own intensities, never drawn from its tissues: scans have vessels, nuclei
    and texture that no tissue map knows, and evidence that asks whether a voxel fits any tissue would shine where they
    are missing. There are a dozen at least, however few the cases, and each case has one at least. Small lesions and
    large ones get trials of their own, because in one image the large would settle alone which score is best.
    """
    kinds = cycle(product((False, True), DISEASES))
    for number, case in enumerate(cases):
        patch = whole_scan(case, device)
        for turn, (foreign, disease) in enumerate(islice(kinds, _lesions_per_case(len(cases)))):
            contrast = in_another_order if foreign else in_its_own
            yield diseased_trial(patch, disease, contrast, ("diseased", number, turn), plan)


def diseased_trial(patch: Patch, disease: Disease, contrast: Contrast, key: tuple[int | str, ...], plan: Plan) -> Trial:
    """A trial whose lesions can be seen; of several that cannot, the last.

    Args:
        patch: A healthy scan (:func:`whole_scan`).
        disease: What is painted.
        contrast: The scan's image before anything is painted.
        key: Of the draws.
        plan: Spacing, sizes of lesions, and what a scanner adds.
    """
    for attempt in range(_ATTEMPTS):
        draws = Draws(plan.seed, *key, attempt, device=patch.mask.device)
        diseased = disease(patch, draws, plan)
        brain = diseased.patch
        healthy = contrast(brain, draws)
        image = painted(healthy, diseased, draws)
        lesion = ((image - healthy).abs() > _VISIBLE) & brain.mask
        if int(lesion.sum()) * math.prod(plan.spacing_mm) > _LEAST_MM3:
            break
    return Trial("lesions", scanned(image, brain.mask, draws, plan)[0, 0], brain.mask[0, 0], lesion[0, 0])


def in_its_own(brain: Patch, draws: Draws) -> Tensor:
    """The scan's own contrast."""
    return brain.image


def in_another_order(brain: Patch, draws: Draws) -> Tensor:
    """A map of the scan's intensities under which its tissues have another order."""
    image = brain.image
    for _ in range(_MAPS):  # four in ten pass; an even scan has no other contrast, whatever is drawn
        image = remapped(brain, draws)
        if likeness(image, brain) < _ALIKE:
            break
    return image


def likeness(image: Tensor, brain: Patch) -> float:
    """Correlation of an image with that of a brain, within the brain."""
    return float(torch.corrcoef(torch.stack([image[brain.mask], brain.image[brain.mask]]))[0, 1])

"""Trials on healthy scans: as they are, in contrasts that training had no scan of, and with painted lesions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import torch
from torch import Tensor

from anatomad.planner.plan import TISSUES, Plan
from anatomad.preprocess.store import StoredCase
from anatomad.synth.contrast import rendered, scanned
from anatomad.synth.deform import Patch
from anatomad.synth.draws import Draws
from anatomad.synth.lesions import add_lesions

Kind = Literal["real", "unseen contrast", "lesions"]
_VISIBLE = 0.1  # of the intensity range: a change smaller than that is no lesion that anyone could find
_WHITE_MATTER = 0.5


@dataclass(frozen=True)
class Trial:
    """A scan [x, y, z] with its brain mask and painted lesions (none where healthy)."""

    kind: Kind
    image: Tensor
    mask: Tensor
    lesion: Tensor


def _whole(case: StoredCase, device: torch.device) -> Patch:
    mask = torch.from_numpy(case.mask).to(device)[None, None]
    tissue = torch.from_numpy(case.tissue).to(device)[None].float() / 255
    image = torch.from_numpy(case.image[0]).to(device)[None, None].float()
    return Patch(tissue, torch.where(mask, image, 0.0), mask, torch.zeros(1, 3, *mask.shape[2:], device=device))


def healthy_trials(plan: Plan, cases: Sequence[StoredCase], device: torch.device) -> Iterator[Trial]:
    """Every channel of every case as it is, and every case once in a contrast of its own."""
    for number, case in enumerate(cases):
        patch = _whole(case, device)
        mask, none = patch.mask[0, 0], torch.zeros_like(patch.mask[0, 0])
        for channel in case.image:
            image = torch.from_numpy(channel).to(device).float()
            yield Trial("real", torch.where(mask, image, 0.0), mask, none)
        draws = Draws(plan.seed, "unseen contrast", number, device=device)
        image, _ = rendered(patch, draws, plan)
        yield Trial("unseen contrast", scanned(image, patch.mask, draws, plan)[0, 0], mask, none)


def lesion_trials(plan: Plan, cases: Sequence[StoredCase], device: torch.device) -> Iterator[Trial]:
    """Every case with small lesions and with large ones, each in its own contrast and in one that no scan had.

    They are bright or dark, with cores and halos, or bands along the ventricles, and have their centres where plaques
    and oedema mostly lie: in white matter. Small and large ones get trials of their own, because in one image the large
    would settle alone which score is best.
    """
    for number, case in enumerate(cases):
        patch = _whole(case, device)
        white = (patch.tissue[:, TISSUES.index("white matter")] > _WHITE_MATTER)[:, None]
        for kind, foreign in product(range(2), (False, True)):
            draws = Draws(plan.seed, "painted lesions", number, kind, int(foreign), device=device)
            healthy = rendered(patch, draws, plan)[0] if foreign else patch.image
            image, _ = add_lesions(healthy, patch, draws, _sizes(plan)[kind], minimum=1, seeds=white)
            lesion = ((image - healthy).abs() > _VISIBLE) & patch.mask
            yield Trial("lesions", scanned(image, patch.mask, draws, plan)[0, 0], patch.mask[0, 0], lesion[0, 0])


def _sizes(plan: Plan) -> list[Plan]:
    """The plan with small lesions only, several of them, and with one or two large ones."""
    span, few, many = plan.corruption, (1, 2), (3, max(3, 2 * plan.corruption.lesions[1]))
    small = span.model_copy(update={"large_mm": span.small_mm, "lesions": many})
    large = span.model_copy(update={"small_mm": span.large_mm, "lesions": few})
    return [plan.model_copy(update={"corruption": corruption}) for corruption in (small, large)]

"""Without any one module of the method a stated figure gets worse, on the demo's subjects."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from anatomad.kernels import label_map
from anatomad.models.dal import DisentangledAnatomy, labels_in_brain, logits_in_brain, one_hot_in_brain
from anatomad.preprocess.store import StoredCase
from anatomad.synth.deform import Patch
from anatomad.synth.draws import Draws
from anatomad.synth.lesions import corrupt_anatomy
from anatomad.train import losses, stages
from tests.method.demo_brains import (
    Patient,
    Shown,
    damaging_plan,
    patients,
    tissue_dice,
    train_encoder,
    train_restoration,
    training_cases,
)

pytestmark = pytest.mark.slow

UNSEEN = (1, 2)  # T2-like and FLAIR-like: training has T1-like scans only


@pytest.fixture(scope="module")
def cases() -> list[StoredCase]:
    return training_cases()


@pytest.fixture(scope="module")
def people() -> list[Patient]:
    return patients()


@pytest.fixture(scope="module")
def encoder(cases: list[StoredCase]) -> DisentangledAnatomy:
    return train_encoder(cases)


def seen(model: DisentangledAnatomy, patch: Patch) -> Tensor:
    with torch.no_grad():
        return logits_in_brain(model.see_whole(patch.image, patch.position, patch.mask), patch.mask)


def unseen_dice(model: DisentangledAnatomy, people: list[Patient]) -> float:
    """Mean tissue Dice in the contrasts that training had no scan of, outside the lesions."""
    scores = []
    for person in people:
        for contrast in UNSEEN:
            patch = person.scans[contrast]
            healthy = patch.mask[0, 0] & ~person.lesion
            scores.append(tissue_dice(seen(model, patch).softmax(1), patch, healthy))
    return sum(scores) / len(scores)


def test_contrast_randomisation(
    cases: list[StoredCase], people: list[Patient], encoder: DisentangledAnatomy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "rendered", lambda patch, draws, _: (patch.image, True))
    without = unseen_dice(train_encoder(cases), people)
    full = unseen_dice(encoder, people)
    assert full > without + 0.15


def test_anatomical_prior(
    cases: list[StoredCase], people: list[Patient], encoder: DisentangledAnatomy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "anatomy", lambda logits, *_: 0 * logits.sum())
    without = unseen_dice(train_encoder(cases), people)
    full = unseen_dice(encoder, people)
    assert full > without + 0.15


def soft_in_brain(logits: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """What stands in for the differentiable one-hot where it is left out: the softmax itself."""
    return F.softmax(logits_in_brain(logits, mask) / temperature, 1)


def edges_off_borders(
    model: DisentangledAnatomy, people: list[Patient], anatomy_of: Callable[[Tensor, Tensor], Tensor]
) -> float:
    """Share of the edges that lie deep in one tissue, where no anatomy is: what else the scan shows came through."""
    deep = everywhere = 0.0
    for person in people:
        for patch in person.scans:
            edge = model.edges_of(anatomy_of(seen(model, patch), patch.mask)).sum(1, keepdim=True)
            pure = (-F.max_pool3d(-patch.tissue[:, 1:], 5, 1, 2)).amax(1, keepdim=True) > 0.5
            deep += float(edge[pure].sum())
            everywhere += float(edge[patch.mask].sum())
    return deep / everywhere


def test_one_hot(
    cases: list[StoredCase], people: list[Patient], encoder: DisentangledAnatomy, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = edges_off_borders(encoder, people, one_hot_in_brain)
    monkeypatch.setattr(stages, "one_hot_in_brain", soft_in_brain)
    without = edges_off_borders(train_encoder(cases), people, soft_in_brain)
    assert full < without / 3, (full, without)


def edges_shown(model: DisentangledAnatomy, labels: Tensor) -> Tensor:
    return model.edges_of(labels)


def anatomy_shown(_: DisentangledAnatomy, labels: Tensor) -> Tensor:
    """The anatomy itself in two channels, and a third that no slice uses."""
    csf, grey, white = ((labels == k).float() for k in (1, 2, 3))
    return torch.cat([csf + grey, csf + white, csf], 1)


def mended_share(model: DisentangledAnatomy, people: list[Patient], shown: Shown) -> float:
    """Of the voxels that lesion-like corruption relabelled wrongly, the share that restoration sets right."""
    right = wrong = 0
    for number, person in enumerate(people):
        patch, draws = person.scans[0], Draws("mend", number)
        truth = hurt = label_map(patch.tissue)
        for _ in range(4):
            hurt = corrupt_anatomy(hurt, patch, draws, damaging_plan())
        with torch.no_grad():
            logits = model.restore_whole(shown(model, hurt), patch.position, patch.mask)
        answer, changed = labels_in_brain(logits, patch.mask), hurt != truth
        wrong += int(changed.sum())
        right += int((changed & (answer == truth)).sum())
    assert wrong > 1000
    return right / wrong


@pytest.fixture(scope="module")
def mended(cases: list[StoredCase], people: list[Patient]) -> float:
    return mended_share(train_restoration(cases, edges_shown, corrupt=True), people, edges_shown)


def test_corruption(cases: list[StoredCase], people: list[Patient], mended: float) -> None:
    without = mended_share(train_restoration(cases, edges_shown, corrupt=False), people, edges_shown)
    assert mended > without + 0.02, (mended, without)


def test_edges(cases: list[StoredCase], people: list[Patient], mended: float) -> None:
    """Edges cannot carry the label of a lesion; the anatomy can, and restoration learns to trust it."""
    without = mended_share(train_restoration(cases, anatomy_shown, corrupt=True), people, anatomy_shown)
    assert mended > without + 0.1, (mended, without)

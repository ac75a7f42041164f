"""Without a module of the method a stated figure gets worse, on the demo's subjects."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anatomad.models.dal import DisentangledAnatomy, logits_in_brain
from anatomad.preprocess.store import StoredCase
from anatomad.synth.deform import Patch
from anatomad.train import losses, stages
from tests.method.demo_brains import Patient, patients, tissue_dice, train, training_cases

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
    return train(cases, "anatomy")


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
    without = unseen_dice(train(cases, "anatomy"), people)
    full = unseen_dice(encoder, people)
    assert full > without + 0.15


def test_anatomical_prior(
    cases: list[StoredCase], people: list[Patient], encoder: DisentangledAnatomy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "anatomy", lambda logits, *_: 0 * logits.sum())
    without = unseen_dice(train(cases, "anatomy"), people)
    full = unseen_dice(encoder, people)
    assert full > without + 0.15

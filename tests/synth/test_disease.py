import pytest
import torch

from anatomad.planner.plan import TISSUES
from anatomad.synth.deform import Patch
from anatomad.synth.disease import DISEASES, Disease, infarct, painted, plaques, tumour
from anatomad.synth.draws import Draws
from tests.synth.world import make_patch, make_plan

SEEDS = range(12)


def volume(weights: list[torch.Tensor]) -> float:
    return float(torch.stack(weights).amax(0).sum())


@pytest.mark.parametrize("disease", DISEASES)
def test_lesions_change_the_brain_where_they_are_and_nothing_else(disease: Disease) -> None:
    plan, patch = make_plan(), make_patch()
    seen = 0
    for seed in SEEDS:
        diseased, again = (disease(patch, Draws(seed), plan) for _ in range(2))
        image, same = (painted(each.patch.image, each, Draws("paint", seed)) for each in (diseased, again))
        assert torch.equal(image, same)
        assert image.isfinite().all()
        extent = torch.stack([part.weight for part in diseased.parts]).amax(0)
        assert extent.min() >= 0
        assert extent.max() <= 1
        changed = image != diseased.patch.image
        assert not changed[~patch.mask].any()
        assert not changed[0, 0][extent == 0].any()
        seen += bool((image - diseased.patch.image).abs().max() > 0.1)
    assert seen >= 8


def test_plaques_are_small_and_several_infarcts_and_tumours_large() -> None:
    plan, patch = make_plan(small_mm=(3, 8), large_mm=(20, 40)), make_patch()
    found = {
        disease: [[part.weight for part in disease(patch, Draws(seed), plan).parts] for seed in SEEDS]
        for disease in DISEASES
    }
    assert all(4 <= len(parts) <= 14 for parts in found[plaques])
    assert all(len(parts) == 1 for parts in found[infarct])
    assert {len(parts) for parts in found[tumour]} == {2, 3}
    single = max(volume([part]) for parts in found[plaques] for part in parts)
    assert single < min(volume(parts) for disease in (infarct, tumour) for parts in found[disease])


def test_lesions_are_brighter_as_well_as_darker_than_white_matter() -> None:
    plan, patch = make_plan(), make_patch()
    signs = set()
    for seed in range(20):
        diseased = plaques(patch, Draws(seed), plan)
        change = painted(patch.image, diseased, Draws("paint", seed)) - patch.image
        signs.add(bool(change.sum() > 0))
    assert signs == {True, False}


def test_a_tumour_pushes_tissue_away_and_keeps_it_a_partition() -> None:
    plan, patch = make_plan(large_mm=(30, 40)), make_patch()
    pushed = [tumour(patch, Draws(seed), plan).patch for seed in SEEDS]
    for each in pushed:
        inside = each.tissue.sum(1, keepdim=True)
        torch.testing.assert_close(inside, torch.ones_like(inside))
        assert torch.equal(each.mask, patch.mask)
        assert torch.equal(each.tissue[:, 0] > 0.5, ~patch.mask[:, 0])
    assert max(float((each.tissue - patch.tissue).abs().mean()) for each in pushed) > 1e-3


def test_a_brain_without_white_matter_is_painted_too() -> None:
    patch = make_patch()
    grey = torch.zeros_like(patch.tissue)
    grey[:, 0], grey[:, TISSUES.index("grey matter")] = (~patch.mask[:, 0]).float(), patch.mask[:, 0].float()
    bare = Patch(grey, patch.image, patch.mask, patch.position)
    for disease in DISEASES:
        diseased = disease(bare, Draws(0), make_plan())
        assert painted(bare.image, diseased, Draws(1)).isfinite().all()

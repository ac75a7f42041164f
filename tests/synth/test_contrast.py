from itertools import pairwise

import numpy as np
import pytest
import torch

from anatomad.preprocess.normalise import normalise
from anatomad.synth.contrast import from_tissue, normalised, remapped, rendered, scanned
from anatomad.synth.draws import Draws
from tests.synth.world import make_patch, make_plan

SEEDS = range(8)


def test_scanned_images_are_normalised_and_respect_the_mask() -> None:
    plan, patch = make_plan(), make_patch()
    for seed in SEEDS:
        draws = Draws(seed)
        image = scanned(rendered(patch, draws, plan)[0], patch.mask, draws, plan)
        assert image.shape == patch.image.shape
        assert image.isfinite().all()
        assert not image[~patch.mask].any()
        inside = image[patch.mask]
        assert -0.5 <= inside.min() < 0.1
        assert 0.9 < inside.max() <= 2.0
        assert inside.std() > 0.05


def test_the_range_is_that_of_preprocessing() -> None:
    patch = make_patch()
    image = torch.from_numpy(np.random.default_rng(0).gamma(2.0, 50.0, patch.image.shape)).float()
    expected = normalise(image[0, 0].numpy(), patch.mask[0, 0].numpy())
    np.testing.assert_allclose(normalised(image, patch.mask)[0, 0].numpy(), expected, atol=0.06)


def test_values_far_outside_the_range_are_clipped() -> None:
    patch = make_patch()
    image = torch.from_numpy(np.random.default_rng(0).normal(1, 0.1, patch.image.shape)).float()
    image[0, 0, 8, 8, 8], image[0, 0, 8, 8, 7] = 50.0, -50.0
    result = normalised(image, patch.mask)
    assert result.max() == 2.0
    assert result.min() == -0.5


def test_an_empty_mask_gives_zero() -> None:
    patch = make_patch()
    assert not normalised(patch.image, torch.zeros_like(patch.mask)).any()


def test_drawn_tissues_can_be_told_apart_and_are_even_within() -> None:
    plan, patch = make_plan(), make_patch()
    told = []
    for seed in range(20):
        image = from_tissue(patch, Draws(seed), plan.randomisation)
        chosen = [image[patch.tissue[:, k : k + 1] == 1] for k in (1, 2, 3)]
        means = [float(c.mean()) for c in chosen]
        told.append([abs(a - b) for a, b in pairwise(means)])
        assert all(c.std() < 0.25 for c in chosen)
    assert np.mean(np.array(told) > 0.1) > 0.95
    orders = {tuple(np.argsort(row)) for row in told}
    assert len(orders) > 1


def test_remapping_is_a_function_of_the_intensity() -> None:
    patch = make_patch()
    seen = set()
    for seed in SEEDS:
        image = remapped(patch, Draws(seed))
        assert image.min() >= 0
        assert image.max() <= 1
        values = [image[patch.tissue[:, k : k + 1] == 1].unique() for k in (1, 2, 3)]
        assert all(len(v) == 1 for v in values)
        seen.add(tuple(int(i) for i in torch.cat(values).argsort()))
    assert len(seen) > 2  # rising, falling and neither


def test_remapping_interpolates_its_knots() -> None:
    patch, draws = make_patch(), Draws(3)
    knots = torch.rand(5, generator=Draws(3).generator).numpy()
    rising = Draws(3)
    if rising.chance(0.7):
        knots = np.sort(knots)[:: -1 if rising.chance(0.5) else 1]
    expected = np.interp(patch.image.numpy(), np.linspace(0, 1, 5), knots)
    np.testing.assert_allclose(remapped(patch, draws).numpy(), expected, atol=1e-3)


def test_equal_draws_give_equal_images() -> None:
    plan, patch = make_plan(), make_patch()

    def image(*key: int) -> torch.Tensor:
        draws = Draws(*key)
        return scanned(rendered(patch, draws, plan)[0], patch.mask, draws, plan)

    assert torch.equal(image(1, 2), image(1, 2))
    assert not torch.equal(image(1, 2), image(1, 3))
    origins = [rendered(patch, Draws("origin", k), plan)[1] for k in range(60)]
    assert sum(origins) == pytest.approx(21, abs=12)

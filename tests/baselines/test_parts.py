"""The pieces that the peers are made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from anatomad.baselines import ablations, brain_box, inpainting, memory, simplex
from anatomad.baselines.intensity import equalised, from_median
from anatomad.baselines.mixture import TissueAtlas, fit, read_expected
from anatomad.baselines.peer import Batch, Peer, batch_of, read, standardised
from anatomad.baselines.registry import METHODS
from anatomad.planner.plan import Plan
from anatomad.preprocess.store import load_case
from anatomad.synth.draws import Draws
from anatomad.train.stages import Losses, Step, restoration_stage
from tests.train.fold import tiny_plan, write_case
from tests.train.test_stages import make_model, make_step

CPU = torch.device("cpu")


def ball(*sides: int) -> Tensor:
    axes = [torch.linspace(-1, 1, n) for n in sides]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    return x**2 + y**2 + z**2 < 0.8


def test_equalisation_is_the_rank() -> None:
    mask = ball(9, 10, 11)
    image = torch.rand(9, 10, 11, generator=torch.Generator().manual_seed(0)).mul(20).round()  # with ties
    rank = (stats.rankdata(image[mask].numpy()) - 0.5) / int(mask.sum())
    np.testing.assert_allclose(equalised(image, mask)[mask].numpy(), 2 * rank - 1, atol=1e-6)
    assert not equalised(image, mask)[~mask].any()
    spread = stats.median_abs_deviation(image[mask].numpy(), scale="normal")
    assert from_median(image, mask)[mask].max() == pytest.approx(float((20 - image[mask].median()) / spread), rel=1e-3)


class Mirror(Peer):
    """Answers with what it is shown, and a little."""

    more = 0.0

    def losses(self, batch: Batch) -> Losses:
        raise NotImplementedError

    def answer(self, image: Tensor, mask: Tensor) -> Tensor:
        return image + self.more


@pytest.mark.parametrize("dimension", [2, 3])
def test_a_perfect_restoration_leaves_nothing_and_contrast_is_a_unit(dimension: int) -> None:
    plan, mask = tiny_plan(dimension=dimension), ball(16, 16, 16)
    image = torch.rand(16, 16, 16, generator=torch.Generator().manual_seed(0)) * mask
    peer = Mirror(plan)
    perfect = read(peer, image, mask, "float32")
    assert perfect.residual("absolute").amax() < 1e-5
    torch.testing.assert_close(perfect.phi("signed"), image)
    peer.more = 0.5
    once, twice = (read(peer, k * image, mask, "float32").residual("signed") for k in (1, 2))
    torch.testing.assert_close(twice, 2 * once, rtol=1e-3, atol=1e-4)
    assert (once[mask] <= 0).all()
    assert once[mask].mean() < -0.02


def test_patches_are_the_scan_itself_unless_contrasts_are_drawn(tmp_path: Path) -> None:
    step = make_step(tmp_path)
    plain, drawn = (batch_of(replace(make_step(tmp_path), contrasts=c)) for c in (False, True))
    patch = torch.cat([p.image for p in step.patches()])
    torch.testing.assert_close(plain.image, standardised(patch, plain.mask)[0])
    assert torch.equal(plain.mask, drawn.mask)
    assert (plain.image - drawn.image).abs().mean() > 0.05
    for batch in (plain, drawn):
        inside = batch.image[0][batch.mask[0]]
        assert inside.mean() == pytest.approx(0, abs=1e-5)
        assert inside.std(correction=0) == pytest.approx(1, abs=1e-3)


def test_an_atlas_finds_its_way_back_to_the_brain() -> None:
    mask = torch.zeros(20, 22, 24, dtype=torch.bool)
    mask[3:15, 4:19, 2:20] = True
    place = brain_box.position_in_brain(mask)
    there = brain_box.at_box(place, mask, (12, 15, 18))
    np.testing.assert_allclose(there[0, :, 0, 0], np.linspace(-1, 1, 12), atol=1e-5)
    np.testing.assert_allclose(there[2, 0, 0], np.linspace(-1, 1, 18), atol=1e-5)
    back = brain_box.at_brain(there, mask)
    torch.testing.assert_close(back[:, mask], place[:, mask], atol=1e-4, rtol=0)


def test_moments_are_those_of_the_volumes() -> None:
    plan = tiny_plan(spacing_mm=(100.0, 100.0, 100.0))  # nothing to smooth at such a spacing
    volumes = torch.rand(5, 1, 6, 6, 6)
    mean, spread = brain_box.moments(((v, torch.ones_like(v)) for v in volumes), plan)
    torch.testing.assert_close(mean, volumes.mean(0))
    torch.testing.assert_close(spread, volumes.std(0, correction=0), atol=1e-3, rtol=0)


def test_the_mixture_learns_where_tissues_are_and_expects_their_levels(tmp_path: Path) -> None:
    plan = tiny_plan()
    for case_id in "ab":
        write_case(tmp_path, case_id, plan)
    cases = [load_case(tmp_path, case_id) for case_id in "ab"]
    networks = TissueAtlas(plan)
    fit(networks, cases, plan, CPU)
    assert networks.tissue.min() >= 0
    mask, image = torch.from_numpy(cases[0].mask), torch.from_numpy(cases[0].image[0]).float()
    parts = read_expected(networks, image * mask, mask, "float32")
    phi = parts.phi("signed")
    assert phi is not None
    flat = (image[mask] - image[mask].median()).abs().mean()
    assert (image - phi)[mask].abs().mean() < 0.8 * flat


def test_cells_are_dealt_evenly() -> None:
    sets = inpainting.dealt((16, 24, 1), 4, Draws("deal"))
    assert sets.shape == (1, 16, 24, 1)
    assert torch.bincount(sets.flatten()).tolist() == [128, 128, 128]
    assert torch.equal(sets[0, ::4, ::4], sets[0, 3::4, 3::4])


@pytest.mark.parametrize("shape", [(64, 48, 1), (24, 20, 16)])
def test_simplex_noise_is_smooth_and_of_unit_size(shape: tuple[int, int, int]) -> None:
    first, again, other = (simplex.simplex_noise(shape, (2.0, 2.0, 2.0), Draws(key)) for key in "aab")
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (1, *shape)
    assert first.std() == pytest.approx(1, abs=1e-3)
    line = torch.linspace(0, 5, 2001)
    place = torch.stack([line * slope for slope in (1.0, 0.7, 0.3)][: 2 if shape[2] == 1 else 3], -1)
    noise = simplex._octave(place, Draws("line"))
    assert noise.diff().abs().max() < 0.05 * (noise.max() - noise.min())  # no jump where simplices meet


def test_the_core_set_covers() -> None:
    features = torch.cat([torch.rand(50, 2), torch.tensor([[9.0, 9.0], [-7.0, 3.0]])])
    core = memory.core_set(features, 3)
    assert core[0].tolist() == features[0].tolist()
    assert {tuple(row) for row in core[1:].tolist()} == {(9.0, 9.0), (-7.0, 3.0)}
    assert memory.core_set(features[:2], 4).shape == (4, 2)


def stage_losses(name: str, stage: str, step: Step) -> Losses:
    chosen = next(each for each in METHODS[name].stages if each.name == stage)
    return chosen.loss(make_model(step), replace(step, contrasts=chosen.contrasts))


def test_ablations_leave_out_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stage_losses("dal", "anatomy", make_step(tmp_path))
    without = stage_losses("dal-no-prior", "anatomy", make_step(tmp_path))
    assert {name: loss.item() for name, loss in without.items()} == {
        name: loss.item() for name, loss in whole.items() if name != "prior"
    }
    assert not any(stage.contrasts for stage in METHODS["dal-no-randomisation"].stages)

    plans: list[Plan] = []
    monkeypatch.setattr(ablations, "restoration_stage", lambda _, step: plans.append(step.plan) or {})
    stage_losses("dal-no-corruption", "restoration", make_step(tmp_path))
    assert plans[0].corruption.erased_share == plans[0].corruption.lesions == (0, 0)
    monkeypatch.undo()
    uncorrupted = replace(make_step(tmp_path), plan=plans[0])
    expected = restoration_stage(make_model(uncorrupted), uncorrupted)
    assert stage_losses("dal-no-corruption", "restoration", make_step(tmp_path)) == expected

    shown = ablations.AnatomyShown(tiny_plan()).edges_of(torch.tensor([0, 1, 3], dtype=torch.uint8).view(1, 1, 3, 1, 1))
    np.testing.assert_allclose(shown[0, :, :, 0, 0], [[0, 1 / 3, 1]] * 3, rtol=1e-6)

"""The pieces that the peers are made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from anatomad.baselines import ablations, brain_box, diffusion, inpainting, memory, simplex, synthetic
from anatomad.baselines.intensity import equalised, from_median
from anatomad.baselines.mixture import TissueAtlas, fit, read_expected
from anatomad.baselines.peer import CONTRASTS, Batch, Peer, batch_of, read, standardised
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


class Sided(Mirror):
    """Answers differently on the left and on the right."""

    def answer(self, image: Tensor, mask: Tensor) -> Tensor:
        return image.cumsum(2)


@pytest.mark.parametrize("dimension", [2, 3])
def test_left_and_right_are_read_alike(dimension: int) -> None:
    mask = ball(16, 16, 16)
    image = torch.rand(16, 16, 16, generator=torch.Generator().manual_seed(0)) * mask
    peer = Sided(tiny_plan(dimension=dimension))
    here = read(peer, image, mask, "float32").residual("signed")
    there = read(peer, image.flip(0), mask.flip(0), "float32").residual("signed")
    torch.testing.assert_close(there.flip(0), here)


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


@pytest.mark.parametrize("contrasts", [False, True])
@pytest.mark.parametrize("dimension", [2, 3])
def test_a_foreign_patch_is_the_same_place_of_another_case_imaged_alike(
    dimension: int, contrasts: bool, tmp_path: Path
) -> None:
    step = replace(make_step(tmp_path, dimension), contrasts=contrasts)
    first, second = step.samples
    alike = replace(step, samples=[first, replace(second, case_id="its twin")])
    own, other = batch_of(synthetic.paired(alike)).image.chunk(2)
    assert torch.equal(own, other)
    own, other = batch_of(synthetic.paired(replace(step, samples=[first]))).image.chunk(2)  # no other case: the mirror
    assert (own - other).abs().mean() > 0.01


def test_foreign_squares_are_a_tenth_to_two_fifths_wide() -> None:
    plan = tiny_plan(dimension=2, patch=(40, 40, 1))
    drawn = [synthetic.square(Draws("square", k), plan)[0, :, :, 0] for k in range(200)]
    sides = torch.tensor([[each.any(1).sum(), each.any(0).sum()] for each in drawn])
    assert (sides.max(), sides.amax(1).min()) == (16, 4)
    assert all(each.sum() == width * height for each, (width, height) in zip(drawn, sides.tolist(), strict=True))


class Told(torch.nn.Module):
    """Adds to patches the strength that it is told; keeps what it saw."""

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        return x[:, :1] + x[:, 1:]


def test_restoration_is_told_the_strength_and_averaged_over_strengths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthetic, "_changed", lambda image, *_: image + 1)
    step = make_step(tmp_path)
    peer, batch = synthetic.SyntheticRestoration(step.plan), batch_of(step)
    peer.net = told = Told()
    peer.losses(batch)
    strength = told.seen[:, 1:]
    assert (strength == strength[:, :, :1, :1, :1]).all()
    assert 0 < strength.min() < strength.max() < 1
    torch.testing.assert_close(told.seen[:, :1], batch.image + strength * batch.mask)
    torch.testing.assert_close(peer.answer(batch.image, batch.mask), batch.image + 0.6)


class Clock(torch.nn.Module):
    """Stands for a diffusion U-Net; answers with the square of the step."""

    def forward(self, x: Tensor, step: Tensor, context: Tensor | None = None) -> Tensor:
        return step.view(-1, *[1] * (x.ndim - 1)).float().square().expand_as(x[:, :1])


def test_patched_and_conditioned_diffusion_keep_by_the_cosine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffusion, "diffusion_unet", lambda *_: Clock())
    share = np.cos(np.array([0.258, 0.508, 0.758]) / 1.008 * np.pi / 2) ** 2
    for name in ("pddpm", "cddpm"):
        kept = METHODS[name].networks(tiny_plan(dimension=2)).kept
        np.testing.assert_allclose(kept[[249, 499, 749]], share, rtol=1e-3)
    linear = METHODS["anoddpm"].networks(tiny_plan(dimension=2)).kept
    assert linear[499] == pytest.approx(0.0786, abs=1e-3)


def test_conditioned_diffusion_averages_three_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffusion, "diffusion_unet", lambda *_: Clock())
    networks = METHODS["cddpm"].networks(tiny_plan(dimension=2))
    answer = networks.answer(torch.rand(2, 1, 16, 16, 1), torch.ones(2, 1, 16, 16, 1))
    assert answer.unique().tolist() == pytest.approx([(250**2 + 500**2 + 750**2) / 3])


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


@pytest.mark.parametrize("name", ["patchcore", "patchcore+contrasts"])
def test_the_memory_holds_every_channel_and_drawn_contrasts_where_training_has_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = tiny_plan(dimension=2)
    write_case(tmp_path, "a", plan)
    case = load_case(tmp_path, "a")
    both = replace(case, image=np.concatenate([case.image, 1 - case.image]))
    seen: set[tuple[bool, bool]] = set()

    def watched(step: Step) -> Batch:
        inverted = not torch.equal(step.samples[0].volumes.tissue_and_image[3], torch.from_numpy(case.image[0]).float())
        seen.add((inverted, step.contrasts))
        return batch_of(step)

    monkeypatch.setattr(memory, "PATCHES", 4)
    monkeypatch.setattr(memory, "batch_of", watched)
    networks = METHODS[name].networks(plan)
    METHODS[name].fit(networks, [both], plan, CPU)
    kinds = (False, True) if name.endswith(CONTRASTS) else (False,)
    assert seen == {(inverted, drawn) for inverted in (False, True) for drawn in kinds}
    assert networks.memory.isfinite().all()
    assert networks.memory.std(0).min() > 0


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

import pytest
import torch
from scipy import ndimage

from anatomad.kernels import edges, label_map
from anatomad.synth import lesions
from anatomad.synth.draws import Draws
from anatomad.synth.lesions import add_lesions, corrupt_anatomy, corrupt_edges
from tests.synth.world import LEVELS, make_patch, make_plan

SEEDS = range(10)


def test_healthy_voxels_stay_and_the_mask_is_respected() -> None:
    plan, patch = make_plan(lesions=(1, 3)), make_patch()
    changed = 0
    for seed in SEEDS:
        image, extent = add_lesions(patch.image, patch, Draws(seed), plan)
        assert extent.shape == patch.image.shape
        assert extent.min() >= 0
        assert extent.max() <= 1
        assert not extent[~patch.mask].any()
        healthy = extent == 0
        assert torch.equal(image[healthy], patch.image[healthy])
        assert image.isfinite().all()
        assert image.min() > -1
        assert image.max() < 2
        changed += int((image != patch.image).sum() > 5)
    assert changed >= 7  # a thin band can miss the tissue


def test_lesions_are_brighter_as_well_as_darker() -> None:
    plan, patch = make_plan(lesions=(1, 1)), make_patch()
    signs = set()
    for seed in range(20):
        image, extent = add_lesions(patch.image, patch, Draws(seed), plan)
        if (extent > 0.3).any():
            signs.add(bool((image - patch.image)[extent > 0.3].mean() > 0))
    assert signs == {True, False}


def test_the_input_is_left_alone_and_equal_draws_give_equal_lesions() -> None:
    plan, patch = make_plan(lesions=(2, 2)), make_patch()
    before = patch.image.clone()
    first, again = (add_lesions(patch.image, patch, Draws("l"), plan) for _ in range(2))
    assert torch.equal(patch.image, before)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])


@pytest.mark.parametrize("minimum", [0, 1])
def test_none_asked_for_is_none(minimum: int) -> None:
    plan, patch = make_plan(lesions=(0, 0)), make_patch()
    for seed in SEEDS:
        image, extent = add_lesions(patch.image, patch, Draws(seed), plan, minimum)
        assert torch.equal(image, patch.image)
        assert not extent.any()


def test_a_minimum_beyond_the_plans_own_number() -> None:
    plan, patch = make_plan(lesions=(0, 1)), make_patch()
    found = [bool(add_lesions(patch.image, patch, Draws(seed), plan, minimum=2)[1].any()) for seed in SEEDS]
    assert sum(found) >= 8


def test_no_brain_no_lesion() -> None:
    plan, patch = make_plan(lesions=(3, 3)), make_patch()
    patch.mask[:] = False
    assert not add_lesions(patch.image, patch, Draws(0), plan)[1].any()


def test_a_lesions_size_is_that_of_the_plan() -> None:
    patch = make_patch()
    volumes = []
    for size in ((12.0, 12.0), (40.0, 40.0)):
        plan = make_plan(lesions=(1, 1), small_mm=size, large_mm=size)
        drawn = [add_lesions(patch.image, patch, Draws(seed), plan)[1] for seed in SEEDS]
        volumes.append(torch.tensor([float((extent > 0).sum()) for extent in drawn]).median() * 4**3)
    ball = 4 / 3 * 3.1416 * 6**3
    assert 0.2 * ball < volumes[0] < 4 * ball
    assert volumes[1] > 5 * volumes[0]


def test_corrupted_anatomies_are_tissue_within_the_mask() -> None:
    plan, patch = make_plan(lesions=(2, 3)), make_patch()
    labels, changed = label_map(patch.tissue), 0
    for seed in SEEDS:
        result = corrupt_anatomy(labels, patch, Draws(seed), plan)
        assert result.dtype == torch.uint8
        assert torch.equal(result[~patch.mask], labels[~patch.mask])
        assert set(result[patch.mask].tolist()) <= {1, 2, 3}
        changed += int((result != labels).any())
    assert changed >= 8


@pytest.mark.parametrize("dimension", [2, 3])
def test_dropped_edges(dimension: int) -> None:
    plan = make_plan(edge_dropout=(0.25, 0.25), erased_share=(0, 0))
    edge = torch.ones(1, dimension, 16, 16, 16)
    result = corrupt_edges(edge, Draws(0), plan)
    assert float(result.mean()) == pytest.approx(0.75, abs=0.03)
    assert torch.equal(edge, torch.ones_like(edge))


def test_erased_boxes_hold_the_share_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lesions, "_CHEQUERED_SHARE", 0.0)
    plan = make_plan(edge_dropout=(0, 0), erased_share=(0.2, 0.2))
    erased = []
    for seed in SEEDS:
        result = corrupt_edges(torch.ones(1, 3, 16, 16, 16), Draws(seed), plan)[0]
        assert torch.equal(result[0], result[2])  # all axes at one place
        erased.append(1 - float(result[0].mean()))
    assert 0.1 < sum(erased) / len(erased) < 0.3
    assert min(erased) > 0.03


def test_corruption_only_removes_edges() -> None:
    plan = make_plan(edge_dropout=(0, 0.3), erased_share=(0, 0.3))
    edge = edges(make_patch().tissue, (1.0, 1.0, 1.0))
    for seed in SEEDS:
        result = corrupt_edges(edge, Draws(seed), plan)
        assert ((result == edge) | (result == 0)).all()
        assert torch.equal(result, corrupt_edges(edge, Draws(seed), plan))


def test_bands_are_white_matter_along_csf_as_thick_in_mm_at_any_spacing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lesions, "_BAND_SHARE", 1.0)
    monkeypatch.setattr(lesions, "_BAND_MM", (7.0, 7.0))
    patch = make_patch()
    plan = make_plan(lesions=(3, 3))
    csf = patch.tissue[0, 1] > 0.5
    away = torch.from_numpy(ndimage.distance_transform_cdt(~csf.numpy(), "chessboard"))
    reached = {}
    for spacing in (4.0, 8.0):
        fine = plan.model_copy(update={"spacing_mm": (spacing,) * 3})
        far = 0
        for seed in SEEDS:
            extent = add_lesions(patch.image, patch, Draws(seed), fine)[1][0, 0] > 0
            assert (patch.tissue[0, 3][extent] > 0.3).all()
            far = max(far, int(away[extent].max()) if extent.any() else 0)
        reached[spacing] = far
    assert reached == {4.0: 2, 8.0: 1}  # voxels


def test_some_lesions_end_with_white_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lesions, "_BAND_SHARE", 0.0)
    plan, patch = make_plan(lesions=(2, 2)), make_patch()
    grey = {}
    for share in (0.0, 1.0):
        monkeypatch.setattr(lesions, "_SPREADING_SHARE", share)
        extents = torch.cat([add_lesions(patch.image, patch, Draws(seed), plan)[1] for seed in SEEDS]) > 0
        grey[share] = float((extents & (patch.tissue[:, 2:3] > 0.5)).sum() / extents.sum())
    assert grey[1.0] < 0.5 * grey[0.0]


def test_borrowed_intensities_are_those_of_tissue_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    patch = make_patch()
    tissue = patch.image[patch.mask]
    monkeypatch.setattr(lesions, "_BORROWED_SHARE", 1.0)
    found = {round(float(lesions._intensity(tissue, Draws(seed))), 4) for seed in range(40)}
    assert found == set(LEVELS)


def test_every_other_block_is_erased(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lesions, "_CHEQUERED_SHARE", 1.0)
    plan = make_plan(edge_dropout=(0, 0), erased_share=(0.1, 0.1))
    shares = [float(corrupt_edges(torch.ones(1, 3, 32, 32, 32), Draws(seed), plan).mean()) for seed in SEEDS]
    assert sum(shares) / len(shares) == pytest.approx(0.5, abs=0.02)
    plan = make_plan(edge_dropout=(0, 0), erased_share=(0, 0))
    assert corrupt_edges(torch.ones(1, 3, 32, 32, 32), Draws(0), plan).all()


def test_some_lesions_are_of_many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lesions, "_NESTED_SHARE", 0.0)
    plan, patch = make_plan(lesions=(1, 1), small_mm=(40.0, 40.0), large_mm=(40.0, 40.0)), make_patch()
    relief = {}
    for share in (0.0, 1.0):
        monkeypatch.setattr(lesions, "_UNEVEN_SHARE", share)
        spread = []
        for seed in range(20):
            image, extent = add_lesions(patch.image, patch, Draws(seed), plan)
            if (extent > 0).sum() > 100:
                spread.append(image[extent > 0.6 * float(extent.max())].std())
        relief[share] = torch.stack(spread).median()
    assert relief[1.0] > 2 * relief[0.0]


def test_what_takes_the_place_of_an_anatomy(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, patch = make_plan(), make_patch()
    labels, inside = label_map(patch.tissue), patch.mask
    for seed in SEEDS:
        one = lesions._one_tissue(labels, Draws(seed), plan)
        assert len(one.unique()) == 1
        mosaic = lesions._mosaic(labels, Draws(seed), plan)
        assert set(mosaic.unique().tolist()) == {1, 2, 3}
        borrowed = lesions._borrowed(labels, Draws(seed), plan)
        assert torch.equal(borrowed.unique(return_counts=True)[1], labels.unique(return_counts=True)[1])
        blurred = lesions._blurred(labels, Draws(seed), plan)
        assert int(edges(blurred, (1.0,) * 3)[:, :, inside[0, 0]].sum()) < int(
            edges(labels, (1.0,) * 3)[:, :, inside[0, 0]].sum()
        )

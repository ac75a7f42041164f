import numpy as np
import pytest
import torch
from scipy import ndimage

from anatomad.planner.plan import Plan
from anatomad.synth.deform import CaseVolumes, Patch, draw_patch, stacked
from anatomad.synth.draws import Draws
from tests.synth.world import make_patch, make_plan

STILL: dict[str, tuple[float, float]] = {"rotation_deg": (0, 0), "scaling": (1, 1), "elastic_mm": (0, 0)}


def plan_with(patch: tuple[int, int, int] = (16, 16, 16), **ranges: tuple[float, float]) -> Plan:
    plan = make_plan()
    return plan.model_copy(
        update={"patch": patch, "randomisation": plan.randomisation.model_copy(update=STILL | ranges)}
    )


def case() -> CaseVolumes:
    patch = make_patch()
    inside = patch.mask[0, 0].nonzero()
    low, high = inside.min(0).values.float(), inside.max(0).values.float()
    # a bright corner makes left, right, front and back differ
    image = patch.image[0].clone()
    image[0, 9:12, 4:6, 3:7] = 1.5
    return CaseVolumes(torch.cat([patch.tissue[0, 1:], image]), low, high)


def seed_with_mirror(plan: Plan, mirrored: bool) -> Patch:
    """The first patch whose bright spot lies left or right."""
    for seed in range(40):
        patch = draw_patch(case(), plan, Draws(seed))
        if bool(patch.image[0, 0, :8].max() > 1.2) == mirrored:
            return patch
    raise AssertionError("no such patch")


def test_without_deformation_the_patch_is_the_case_or_its_mirror_image() -> None:
    volumes = case()
    plain, mirror = (seed_with_mirror(plan_with(), m) for m in (False, True))
    tissue, image = volumes.tissue_and_image[:-1], volumes.tissue_and_image[-1]
    expected = torch.where(tissue.sum(0) > 0.5, image, 0)
    torch.testing.assert_close(plain.image[0, 0], expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(plain.tissue[0, 1:], tissue, atol=1e-3, rtol=0)
    torch.testing.assert_close(mirror.image[0, 0], expected.flip(0), atol=1e-3, rtol=0)
    bounds = [plain.position[0, axis].take(torch.tensor(0)) for axis in range(3)]
    assert all(-1.5 < float(b) < -1 for b in bounds)


def test_position_marks_the_brain_box() -> None:
    volumes = case()
    position = draw_patch(volumes, plan_with(), Draws(0)).position[0]
    for axis in range(3):
        line = position[axis].movedim(axis, 0)[:, 0, 0]
        index = torch.arange(16.0)
        expected = 2 * (index - volumes.low[axis]) / (volumes.high[axis] - volumes.low[axis]) - 1
        torch.testing.assert_close(line, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("factor", [0.7, 1.2])
def test_scaling_changes_the_volume(factor: float) -> None:
    volumes, plan = case(), plan_with(scaling=(factor, factor))
    patch = draw_patch(volumes, plan, Draws(1))
    if factor < 1:  # a larger brain would leave the patch
        before, after = float((volumes.tissue_and_image[:-1].sum(0) > 0.5).sum()), float(patch.mask.sum())
        assert after / before == pytest.approx(factor**3, rel=0.15)
    else:
        zoomed = ndimage.zoom((volumes.tissue_and_image[0] > 0.5).numpy().astype(float), factor, order=1)
        assert float(patch.tissue[0, 1].sum()) == pytest.approx(zoomed.sum(), rel=0.35)


def test_tissues_stay_probabilities_and_the_mask_rules() -> None:
    plan = plan_with((12, 16, 8), rotation_deg=(-20, 20), elastic_mm=(3, 6), scaling=(1.2, 1.4))
    for seed in range(4):
        patch = draw_patch(case(), plan, Draws(seed))
        assert patch.image.shape == (1, 1, 12, 16, 8)
        assert patch.position.shape == (1, 3, 12, 16, 8)
        torch.testing.assert_close(patch.tissue.sum(1), torch.ones(1, 12, 16, 8))
        assert patch.tissue.min() >= 0
        assert torch.equal(patch.tissue[:, :1] == 1, ~patch.mask)
        assert not patch.image[~patch.mask].any()
        assert patch.mask.float().mean() > 0.2


def test_image_and_tissue_move_together() -> None:
    volumes = case()
    tissue = volumes.tissue_and_image[:-1]
    own = torch.einsum("k,kxyz->xyz", torch.tensor([0.2, 0.6, 0.9]), tissue)[None]
    volumes = CaseVolumes(torch.cat([tissue, own]), volumes.low, volumes.high)
    patch = draw_patch(volumes, plan_with(rotation_deg=(15, 20), elastic_mm=(4, 4)), Draws(5))
    expected = torch.einsum("k,kxyz->xyz", torch.tensor([0, 0.2, 0.6, 0.9]), patch.tissue[0])
    inner = torch.from_numpy(ndimage.binary_erosion(patch.mask[0, 0].numpy(), np.ones((3, 3, 3))))
    assert inner.sum() > 200
    torch.testing.assert_close(patch.image[0, 0][inner], expected[inner], atol=0.02, rtol=0)


def test_equal_draws_give_equal_patches() -> None:
    plan = plan_with((8, 8, 8), rotation_deg=(-20, 20), elastic_mm=(3, 6))
    first, again, other = (draw_patch(case(), plan, Draws("p", k)) for k in (1, 1, 2))
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.tissue, again.tissue)
    assert not torch.equal(first.image, other.image)


def test_slices_lie_across_every_axis_and_know_where() -> None:
    plan = plan_with((16, 16, 1)).model_copy(update={"dimension": 2})
    volumes, seen = case(), set()
    own = torch.where(volumes.tissue_and_image[:-1].sum(0) > 0.5, volumes.tissue_and_image[-1], 0)
    for seed in range(24):
        patch = draw_patch(volumes, plan, Draws("slice", seed))
        assert patch.tissue.shape == (1, 4, 16, 16, 1)
        still = [float(line.amax() - line.amin()) < 1e-6 for line in patch.position[0]]
        assert sum(still) == 1  # the position across the slice is one value, those within run over it
        axis = still.index(True)
        seen.add(axis)
        low, high = volumes.low[axis], volumes.high[axis]
        place = float((patch.position[0, axis, 0, 0, 0] + 1) / 2 * (high - low) + low)
        below = int(place)
        either = [v.movedim(axis, 0) for v in (own, own.flip(0))]  # or its mirror image
        nearest = [torch.lerp(v[below], v[min(below + 1, 15)], place - below) for v in either]
        inside = patch.mask[0, 0, ..., 0]
        errors = [(patch.image[0, 0, ..., 0] - n).abs()[inside].mean() if inside.any() else 0 for n in nearest]
        assert min(errors) < 0.1
    assert seen == {0, 1, 2}


def test_stacked_patches_keep_their_order() -> None:
    patches = [draw_patch(case(), plan_with((8, 8, 8)), Draws("s", seed)) for seed in range(3)]
    batch = stacked(patches)
    for k, patch in enumerate(patches):
        assert torch.equal(batch.tissue[k : k + 1], patch.tissue)
        assert torch.equal(batch.position[k : k + 1], patch.position)
        assert torch.equal(batch.mask[k : k + 1], patch.mask)
        assert torch.equal(batch.image[k : k + 1], patch.image)

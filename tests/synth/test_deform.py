import numpy as np
import pytest
import torch
from scipy import ndimage

from anatomad.planner.plan import Plan
from anatomad.synth.deform import CaseVolumes, Patch, draw_patch
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
    return CaseVolumes(patch.tissue[0], image, low, high)


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
    inside = volumes.tissue[0] < 0.5
    expected = torch.where(inside, volumes.image[0], 0)
    torch.testing.assert_close(plain.image[0, 0], expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(plain.tissue[0], volumes.tissue, atol=1e-3, rtol=0)
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
        before, after = float((volumes.tissue[0] < 0.5).sum()), float(patch.mask.sum())
        assert after / before == pytest.approx(factor**3, rel=0.15)
    else:
        zoomed = ndimage.zoom((volumes.tissue[1] > 0.5).numpy().astype(float), factor, order=1)
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
    own = torch.einsum("k,kxyz->xyz", torch.tensor([0, 0.2, 0.6, 0.9]), volumes.tissue)[None]
    volumes = CaseVolumes(volumes.tissue, own, volumes.low, volumes.high)
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

import pytest
import torch
from torch import Tensor

from anatomad.models.slicing import sliced
from anatomad.synth.deform import CaseVolumes, draw_patch
from anatomad.synth.draws import Draws
from tests.train.fold import tiny_plan

SHAPE = (10, 12, 14)


def brain() -> Tensor:
    mask = torch.zeros(1, 1, *SHAPE, dtype=torch.bool)
    mask[..., 2:8, 3:9, 4:11] = True
    return mask


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_slice_with_brain_goes_through_padded_and_comes_back_in_place(axis: int) -> None:
    volume = torch.randn(1, 2, *SHAPE, generator=torch.Generator().manual_seed(0))
    shapes: list[tuple[int, ...]] = []

    def network(slices: Tensor) -> Tensor:
        shapes.append(tuple(slices.shape[1:]))
        return torch.cat([slices, slices.sum((2, 3), keepdim=True).expand_as(slices)], 1)

    answer = sliced(network, volume, brain(), axis, (16, 16, 1))
    assert answer.shape == (1, 4, *SHAPE)
    assert set(shapes) == {(2, 16, 16, 1)}
    has_brain = brain()[0, 0].movedim(axis, 0).flatten(1).any(1)
    turned, there = answer[0].movedim(1 + axis, 1), volume[0].movedim(1 + axis, 1)
    torch.testing.assert_close(turned[:2, has_brain], there[:, has_brain])
    assert not turned[:, ~has_brain].any()
    # what a network sees at once is one slice, with nothing of its neighbours
    sums = there.sum((2, 3))[:, has_brain]
    torch.testing.assert_close(turned[2:, has_brain].amax((2, 3)), sums, atol=1e-4, rtol=1e-4)


def test_larger_slices_than_those_of_training_go_through_as_they_are() -> None:
    volume = torch.randn(1, 1, *SHAPE)
    answer = sliced(lambda slices: slices * 2, volume, brain(), 2, (4, 4, 1))
    inside = brain()
    torch.testing.assert_close(answer[inside], 2 * volume[inside])


class Still(Draws):
    """Draws of a patch in the middle of a case across a given axis, without deformation."""

    def __init__(self, axis: int) -> None:
        super().__init__("still")
        self.axis = axis

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2

    def integer(self, low: int, high: int) -> int:
        return self.axis

    def field(self, shape: tuple[int, ...], cells: tuple[int, ...], channels: int = 1) -> Tensor:
        return torch.zeros(channels, *shape)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_network_sees_the_brain_where_training_showed_it(axis: int) -> None:
    plan = tiny_plan(dimension=2, patch=(20, 20, 1))
    mask = torch.zeros(1, 1, *SHAPE, dtype=torch.bool)
    mask[..., 2:8, 3:9, 4:10] = True
    tissue_and_image = torch.cat([mask[0].float(), torch.zeros(2, *SHAPE), mask[0].float()])
    volumes = CaseVolumes(tissue_and_image, torch.tensor([2.0, 3, 4]), torch.tensor([7.0, 8, 9]))
    trained = draw_patch(volumes, plan, Still(axis)).mask[0, 0]
    seen: list[Tensor] = []

    def network(slices: Tensor) -> Tensor:
        seen.extend(slices[:, 0] > 0)
        return slices

    sliced(network, mask.float(), mask, axis, plan.patch)
    assert all(torch.equal(each, trained) for each in seen)
    assert trained.any()

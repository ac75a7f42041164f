import pytest
import torch
from torch import Tensor

from anatomad.models.slicing import sliced

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

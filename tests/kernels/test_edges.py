import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from anatomad.kernels import edges, one_hot, one_hot_argmax

CASES = [((4, 5), (1.0, 2.5)), ((4, 3, 5), (2.0, 1.0, 4.0))]


def labels(shape: tuple[int, ...], classes: int = 3, batch: int = 2) -> Tensor:
    return torch.randint(classes, (batch, 1, *shape), generator=torch.Generator().manual_seed(1))


def slow_edges(label: np.ndarray, spacing: tuple[float, ...], member: int | None = None) -> np.ndarray:
    """Voxel by voxel: does the label (or the membership of a class) change to the next voxel along each axis?"""
    result = np.zeros((len(label), len(spacing), *label.shape[2:]))
    for batch, axis in itertools.product(range(len(label)), range(len(spacing))):
        for place in np.ndindex(*label.shape[2:]):
            there = tuple(p + (a == axis) for a, p in enumerate(place))
            if there[axis] == label.shape[2 + axis]:
                continue
            pair = [
                label[(batch, 0, *p)] if member is None else label[(batch, 0, *p)] == member for p in (place, there)
            ]
            result[(batch, axis, *place)] = (pair[0] != pair[1]) * min(spacing) / spacing[axis]
    return result


@pytest.mark.parametrize(("shape", "spacing"), CASES)
def test_any_edge_against_a_loop(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    label = labels(shape)
    result = edges(one_hot(label, 3), spacing)
    np.testing.assert_allclose(result.numpy(), slow_edges(label.numpy(), spacing), atol=1e-6)
    assert result.any()


@pytest.mark.parametrize(("shape", "spacing"), CASES)
def test_class_edges_against_a_loop_axis_major(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    label = labels(shape)
    result = edges(one_hot(label, 3), spacing, per_class=True).unflatten(1, (len(shape), 3))
    for k in range(3):
        np.testing.assert_allclose(result[:, :, k].numpy(), slow_edges(label.numpy(), spacing, k), atol=1e-6)


def test_an_edge_across_thick_slices_counts_less() -> None:
    halves = torch.zeros(1, 1, 4, 4, 4, dtype=torch.long)
    halves[..., 2:] = 1
    result = edges(one_hot(halves, 2), (1.0, 2.0, 5.0))
    assert result.unique().tolist() == pytest.approx([0, 0.2])
    assert torch.equal(result.nonzero()[:, [1, 4]].unique(dim=0), torch.tensor([[2, 1]]))


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize(("shape", "spacing"), CASES)
def test_gradient(shape: tuple[int, ...], spacing: tuple[float, ...], per_class: bool) -> None:
    soft = torch.rand(1, 3, *shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: edges(a, spacing, per_class=per_class), soft)
    logits = torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(2)).requires_grad_()
    weight = torch.rand(1, len(shape) * (3 if per_class else 1), *shape)
    (edges(one_hot_argmax(logits), spacing, per_class=per_class) * weight).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert (logits.grad.abs().sum(1) > 0).double().mean() > 0.5


@pytest.mark.parametrize(
    ("shape", "spacing", "words"),
    [
        ((1, 3, 4), (1.0,), r"\[1, 3, 4\]"),
        ((1, 3, 4, 4), (1.0, 1.0, 1.0), "one spacing per spatial axis"),
        ((1, 3, 4, 4), (1.0, 0.0), "spacing must be positive"),
    ],
)
def test_bad_input_is_refused(shape: tuple[int, ...], spacing: tuple[float, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        edges(torch.zeros(shape), spacing)

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from anatomad.kernels import argmax_edges, edge_magnitude, edges, one_hot, one_hot_argmax

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


def tents(shape: tuple[int, ...], spacing: tuple[float, ...], reach: float) -> Tensor:
    """The smoothing's matrix over all voxels, written out."""
    whole = torch.ones(1, 1, dtype=torch.float64)
    for size, step in zip(shape, spacing, strict=True):
        width, place = round(reach / step) + 1, torch.arange(size, dtype=torch.float64)
        whole = torch.kron(whole, (width - (place - place[:, None]).abs()).clamp(min=0) / width**2)
    return whole


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize(("shape", "spacing"), CASES)
def test_smoothed_gradient_against_finite_differences(
    shape: tuple[int, ...], spacing: tuple[float, ...], per_class: bool
) -> None:
    generator = torch.Generator().manual_seed(3)
    soft, direction = torch.rand(2, 1, 3, *shape, generator=generator, dtype=torch.float64)
    upstream = torch.rand(1, len(shape) * (3 if per_class else 1), *shape, generator=generator, dtype=torch.float64)
    leaf = soft.clone().requires_grad_()
    (edges(leaf, spacing, per_class=per_class, smoothing=3.0) * upstream).sum().backward()
    assert leaf.grad is not None
    smooth = (direction.flatten(2) @ tents(shape, spacing, 3.0)).view_as(direction)
    up, down = (edges(soft + s * smooth, spacing, per_class=per_class) * upstream for s in (1e-5, -1e-5))
    torch.testing.assert_close((leaf.grad * direction).sum(), (up - down).sum() / 2e-5)


@pytest.mark.parametrize("function", [edges, argmax_edges, edge_magnitude])
@pytest.mark.parametrize(("shape", "spacing"), CASES)
def test_smoothing_filters_the_gradient_and_leaves_the_edges(
    shape: tuple[int, ...], spacing: tuple[float, ...], function: Callable[..., Tensor], backend: str
) -> None:
    results, gradients = [], []
    for reach in (0.0, 4.5):
        leaf = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(2)).requires_grad_()
        result = function(leaf, spacing, smoothing=reach)
        result.backward(torch.rand(result.shape, generator=torch.Generator().manual_seed(4)))
        assert leaf.grad is not None
        results.append(result.detach())
        gradients.append(leaf.grad.double().flatten(2))
    assert torch.equal(*results)
    matrix = tents(shape, spacing, 4.5)
    torch.testing.assert_close(gradients[1], gradients[0] @ matrix, atol=1e-6, rtol=1e-5)
    assert torch.linalg.eigvalsh(matrix).min() > 0


def class_edges(logits: Tensor, spacing: tuple[float, ...], smoothing: float) -> Tensor:
    return edges(one_hot_argmax(logits), spacing, per_class=True, smoothing=smoothing)


@pytest.mark.parametrize("function", [class_edges, edge_magnitude])
def test_smoothing_reaches_away_from_edges(function: Callable[..., Tensor]) -> None:
    """An edge between voxels 7 and 8: beyond two voxels from it only smoothing brings a gradient."""
    reached = []
    for reach in (0.0, 6.0):
        logits = torch.zeros(1, 2, 16, 5)
        logits[:, 0, :8], logits[:, 1, 8:] = 1, 1
        function(logits.requires_grad_(), (2.0, 20.0), smoothing=reach).sum().backward()
        assert logits.grad is not None
        reached.append((logits.grad != 0).any(1).any(-1).any(0).nonzero().flatten().tolist())
    before, after = reached
    assert set(before) <= {6, 7, 8, 9}
    assert after == list(range(before[0] - 3, before[-1] + 4))


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


def test_label_map_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match=r"label map of uint8 or a floating point one-hot, got torch\.int64"):
        edges(torch.zeros(1, 1, 4, 4, dtype=torch.int64), (1.0, 1.0))

import numpy as np
import pytest
import torch
from torch import Tensor

from anatomad.kernels import one_hot
from anatomad.train import losses

SHAPE = (4, 5, 6)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def target(batch: int = 1, seed: int = 3) -> Tensor:
    label = torch.randint(4, (batch, 1, *SHAPE), generator=torch.Generator().manual_seed(seed))
    return one_hot(label, 4)


ALL = torch.ones(1, 1, 1, 1, 1)
MASK = torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(9)) > 0.4


def softmax(logits: Tensor) -> np.ndarray:
    e = np.exp(logits.numpy().astype(np.float64))
    return e / e.sum(1, keepdims=True)


def test_cross_entropy_against_torch() -> None:
    logits, truth = normal(2, 4, *SHAPE), target(2)
    expected = torch.nn.functional.cross_entropy(logits, truth.argmax(1))
    torch.testing.assert_close(losses.cross_entropy(logits, truth, ALL.expand(2, 1, *SHAPE)), expected)
    inside = torch.nn.functional.cross_entropy(logits[:1], truth[:1].argmax(1), reduction="none")[MASK[:, 0]].mean()
    torch.testing.assert_close(losses.cross_entropy(logits[:1], truth[:1], MASK), inside)


def test_dice_against_numpy() -> None:
    logits, truth = normal(2, 4, *SHAPE), target(2)
    p, t = softmax(logits)[:, 1:], truth.numpy()[:, 1:]
    axes = (0, 2, 3, 4)
    expected = 1 - np.mean(2 * (p * t).sum(axes) / ((p**2).sum(axes) + (t**2).sum(axes)))
    assert float(losses.dice(logits, truth, ALL)) == pytest.approx(expected, abs=1e-5)
    assert float(losses.dice(truth * 100, truth, ALL)) == pytest.approx(0, abs=1e-5)


def test_the_right_anatomy_costs_nothing() -> None:
    truth = target()
    assert float(losses.anatomy(truth * 100, truth, MASK)) == pytest.approx(0, abs=1e-4)
    assert float(losses.anatomy(truth.roll(1, 1) * 100, truth, MASK)) > 10


def test_voxels_count_by_their_weight() -> None:
    logits, truth = normal(1, 4, *SHAPE), target()
    wrong = torch.where(MASK, truth, truth.roll(1, 1)) * 100
    assert float(losses.anatomy(wrong, truth, MASK)) == pytest.approx(0, abs=1e-4)
    costs = [float(losses.anatomy(wrong, truth, MASK + weight * ~MASK)) for weight in (0.1, 1.0, 5.0)]
    assert 0.1 < costs[0] < costs[1] < costs[2]
    p, t, w = softmax(logits)[:, 1:], truth.numpy()[:, 1:], MASK.numpy()
    axes = (0, 2, 3, 4)
    expected = 1 - np.mean(2 * (w * p * t).sum(axes) / (w * (p**2 + t**2)).sum(axes))
    assert float(losses.dice(logits, truth, MASK.float())) == pytest.approx(expected, abs=1e-5)


def test_consistency_counts_the_brain_only() -> None:
    first, second = normal(1, 4, *SHAPE), normal(1, 4, *SHAPE, seed=1)
    expected = (((softmax(first) - softmax(second)) ** 2).sum(1, keepdims=True)[MASK.numpy()]).mean()
    assert float(losses.consistency(first, second, MASK)) == pytest.approx(expected, abs=1e-6)
    same = torch.where(MASK, first, second)
    assert float(losses.consistency(first, same, MASK)) == 0


def test_usage_is_a_divergence_of_shares() -> None:
    logits, truth = normal(1, 4, *SHAPE), target()
    inside = MASK.numpy()[0, 0]
    used, expected = (v[0][:, inside].sum(1) / inside.sum() for v in (softmax(logits), truth.numpy()))
    divergence = np.sum(expected * np.log((expected + 1e-4) / (used + 1e-4)))
    assert float(losses.usage(logits, truth, MASK)) == pytest.approx(divergence, abs=1e-5)
    collapsed = torch.zeros_like(logits)
    collapsed[:, 2] = 50
    assert float(losses.usage(collapsed, truth, MASK)) > 3
    # where the tissues lie does not matter, how much of each does
    elsewhere = truth[0, :, MASK[0, 0]].flip(1)
    shuffled = truth.clone()
    shuffled[0, :, MASK[0, 0]] = elsewhere
    assert float(losses.usage(shuffled * 100, truth, MASK)) == pytest.approx(0, abs=1e-4)


def test_reconstruction_against_numpy() -> None:
    image, truth = normal(1, 1, *SHAPE), normal(1, 1, *SHAPE, seed=1)
    difference = ((image - truth) * MASK).numpy()
    gradients = sum(np.abs(np.diff(difference, axis=axis)).sum() for axis in (2, 3, 4))
    expected = (np.abs(difference).sum() + 0.5 * gradients) / MASK.numpy().sum()
    assert float(losses.reconstruction(image, truth, MASK)) == pytest.approx(expected, rel=1e-5)
    assert float(losses.reconstruction(torch.where(MASK, truth, 9.0), truth, MASK)) == 0


@pytest.mark.parametrize("empty", [torch.zeros(1, 1, *SHAPE)])
def test_an_empty_brain_is_finite(empty: Tensor) -> None:
    logits, truth = normal(1, 4, *SHAPE), target()
    for loss in (
        losses.anatomy(logits, truth, empty),
        losses.consistency(logits, -logits, empty),
        losses.usage(logits, truth * 0, empty),
        losses.reconstruction(logits[:, :1], truth[:, :1], empty),
    ):
        assert loss.isfinite()

import pytest
import torch
from torch import Tensor

from anatomad.kernels import one_hot, one_hot_argmax

SHAPES = [(2, 4, 3, 5), (2, 3, 3, 4, 2)]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradient(logits: Tensor, upstream: Tensor, **options: float) -> Tensor:
    leaf = logits.clone().requires_grad_()
    one_hot_argmax(leaf, **options).backward(upstream)  # type: ignore[arg-type]
    assert leaf.grad is not None
    return leaf.grad


def softmax_gradient(logits: Tensor, upstream: Tensor, temperature: float) -> Tensor:
    leaf = logits.double().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(torch.softmax(leaf / temperature, 1), leaf, upstream.double())
    return gradient


@pytest.mark.parametrize("shape", SHAPES)
def test_forward_is_one_at_the_largest(shape: tuple[int, ...]) -> None:
    logits = normal(*shape)
    result = one_hot_argmax(logits)
    assert result.dtype == logits.dtype
    expected = torch.nn.functional.one_hot(logits.argmax(1), shape[1]).movedim(-1, 1)
    assert torch.equal(result, expected.double())


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("shape", SHAPES)
def test_backward_is_that_of_the_softmax(shape: tuple[int, ...], temperature: float) -> None:
    logits, upstream = normal(*shape), normal(*shape, seed=1)
    expected = softmax_gradient(logits, upstream, temperature)
    torch.testing.assert_close(gradient(logits, upstream, temperature=temperature), expected, atol=1e-6, rtol=1e-5)


def test_the_surrogate_passes_gradcheck_against_finite_differences() -> None:
    logits, upstream, temperature = normal(1, 3, 2, 2), normal(1, 3, 2, 2, seed=1), 0.7
    numeric, step = torch.zeros_like(logits), 1e-5
    for i in range(logits.numel()):
        nudge = torch.zeros(logits.numel(), dtype=torch.float64)
        nudge[i] = step
        up, down = (torch.softmax((logits + s * nudge.view_as(logits)) / temperature, 1) for s in (1, -1))
        numeric.view(-1)[i] = ((up - down) * upstream).sum() / (2 * step)
    torch.testing.assert_close(gradient(logits, upstream, temperature=temperature), numeric, atol=1e-6, rtol=1e-5)


def test_gradient_sums_to_zero_over_classes_and_large_logits_stay_finite() -> None:
    logits = normal(1, 4, 3, 3) * 1e4
    result = gradient(logits, normal(1, 4, 3, 3, seed=1))
    assert result.isfinite().all()
    assert result.sum(1).abs().max() < 1e-6


def test_half_precision_keeps_its_type_and_the_gradient() -> None:
    logits, upstream = normal(1, 3, 4, 4).bfloat16(), normal(1, 3, 4, 4, seed=1).bfloat16()
    result = gradient(logits, upstream, temperature=0.5)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.double(), softmax_gradient(logits, upstream, 0.5), atol=0.01, rtol=0.02)


def test_the_first_index_wins_ties() -> None:
    logits = torch.tensor([0.0, 2.0, 2.0, 2.0]).view(1, 4, 1, 1).expand(1, 4, 3, 3)
    assert torch.equal(one_hot_argmax(logits).argmax(1), torch.ones(1, 3, 3, dtype=torch.long))
    assert torch.equal(one_hot_argmax(torch.zeros(1, 4, 2, 2)).sum((0, 2, 3)), torch.tensor([4.0, 0, 0, 0]))


def test_gumbel_noise_is_a_function_of_its_seed() -> None:
    logits = torch.zeros(1, 3, 40, 40)
    first, again, other = (one_hot_argmax(logits, gumbel_seed=seed) for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    state = torch.get_rng_state()
    one_hot_argmax(logits, gumbel_seed=1)
    assert torch.equal(state, torch.get_rng_state())


def test_gumbel_choice_follows_the_softmax() -> None:
    logits = torch.tensor([0.0, 1.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 120, 120)
    shares = one_hot_argmax(logits, gumbel_seed=3).mean((0, 2, 3))
    torch.testing.assert_close(shares, torch.softmax(logits[0, :, 0, 0], 0), atol=0.015, rtol=0)


@pytest.mark.parametrize(
    ("logits", "temperature", "words"),
    [
        (torch.zeros(2, 3, 4), 1.0, r"\[2, 3, 4\]"),
        (torch.zeros(1, 3, 2, 2, dtype=torch.long), 1.0, "torch.int64"),
        (torch.zeros(1, 3, 2, 2), 0.0, "temperature must be > 0, got 0.0"),
        (torch.zeros(1, 3, 2, 2), float("nan"), "got nan"),
    ],
)
def test_bad_input_is_refused(logits: Tensor, temperature: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        one_hot_argmax(logits, temperature)


def test_one_hot_of_a_label_map() -> None:
    label = torch.tensor([[0, 255], [3, 3]], dtype=torch.uint8)[None, None]
    result = one_hot(label, 256)
    assert result.shape == (1, 256, 2, 2)
    assert torch.equal(result.argmax(1), label[:, 0].long())
    assert torch.equal(result.sum(1), torch.ones(1, 2, 2))

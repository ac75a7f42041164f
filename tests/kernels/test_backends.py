"""Every backend against the reference in float64, and against framework code in its own type."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from anatomad.kernels import (
    argmax_edges,
    contrast,
    edge_magnitude,
    edges,
    label_map,
    median,
    one_hot,
    one_hot_argmax,
    resample_argmax,
    sobel,
)
from anatomad.kernels.backends import reference
from tests.kernels.cases import FLOATS, SHAPES, assert_as_good_as_framework, normal, patches, spacing

Operator = Callable[[Tensor], Tensor]
GRADIENT: dict[str, Operator] = {
    "one_hot_argmax": lambda x: one_hot_argmax(x, 0.7),
    "gumbel": lambda x: one_hot_argmax(x, 0.7, gumbel_seed=11),
    "argmax_edges": lambda x: argmax_edges(x, spacing(x), 0.7),
    "edge_magnitude": lambda x: edge_magnitude(x, spacing(x), temperature=0.7),
    "sobel": lambda x: sobel(x, spacing(x), eps=1e-4),  # float16 holds no smaller one
}


def sobel_kernel(axis: int, axes: int, dtype: torch.dtype) -> Tensor:
    kernel = torch.ones((), dtype=dtype)
    for d in range(axes):
        taps = torch.tensor([-0.5, 0, 0.5] if d == axis else [0.25, 0.5, 0.25], dtype=dtype)
        kernel = kernel[..., None] * taps
    return kernel[None, None]


def magnitude_with_convolutions(x: Tensor, weights: list[float], eps: float) -> Tensor:
    axes = x.ndim - 2
    padded = F.pad(x.flatten(0, 1)[:, None], [1, 1] * axes, mode="replicate")
    convolve = F.conv2d if axes == 2 else F.conv3d
    squares = sum(
        (convolve(padded, sobel_kernel(d, axes, x.dtype))[:, 0].view(x.shape) * w) ** 2 for d, w in enumerate(weights)
    )
    return torch.as_tensor(squares) + eps


def hard(x: Tensor, temperature: float) -> Tensor:
    """Straight-through one-hot in framework calls."""
    soft = torch.softmax(x / temperature, 1)
    label = label_map(x).long()
    return torch.zeros_like(soft).scatter(1, label, 1.0) + soft - soft.detach()


FRAMEWORK: dict[str, Operator] = {
    "one_hot_argmax": lambda x: hard(x, 0.7),
    "argmax_edges": lambda x: edges(hard(x, 0.7), spacing(x)),
    "edge_magnitude": lambda x: (
        magnitude_with_convolutions(hard(x, 0.7), [min(spacing(x)) / s for s in spacing(x)], 0).sum(1, True) + 1e-6
    ).sqrt(),
    "sobel": lambda x: magnitude_with_convolutions(x, [1 / s for s in spacing(x)], 1e-4).sqrt(),
}


def through(operator: Operator, x: Tensor, upstream: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    leaf = x.clone().requires_grad_()
    result = operator(leaf)
    upstream = normal(*result.shape, seed=9, dtype=x.dtype) if upstream is None else upstream.to(x.dtype)
    (gradient,) = torch.autograd.grad(result, leaf, upstream)
    return result.detach(), gradient, upstream


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", FRAMEWORK)
def test_values_and_gradients(
    name: str, shape: tuple[int, ...], dtype: torch.dtype, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = patches(*shape, dtype=dtype)
    result, gradient, upstream = through(GRADIENT[name], x)
    monkeypatch.setenv("ANATOMAD_KERNELS", "reference")
    truth, true_gradient, _ = through(GRADIENT[name], x.double(), upstream)
    if 0 in shape:
        assert gradient.shape == true_gradient.shape
        return
    framework, framework_gradient, _ = through(FRAMEWORK[name], x, upstream)
    assert_as_good_as_framework(result, framework, truth)
    assert_as_good_as_framework(gradient, framework_gradient, true_gradient)


@pytest.mark.parametrize("name", ["argmax_edges", "edge_magnitude", "sobel", "one_hot_argmax"])
@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (1, 3, 3, 4, 5)], ids=str)
def test_the_reference_gradient_is_that_of_framework_code(name: str, shape: tuple[int, ...]) -> None:
    x = patches(*shape, dtype=torch.float64)
    result, gradient, upstream = through(GRADIENT[name], x)
    expected, expected_gradient, _ = through(FRAMEWORK[name], x, upstream)
    torch.testing.assert_close(result, expected, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-7, rtol=1e-6)


def test_the_surrogates_pass_gradcheck() -> None:
    image = normal(1, 2, 3, 4, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: sobel(x, (1.0, 2.0, 0.5)), image)
    member = torch.rand(1, 3, 4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    weights = [1.0, 0.5, 0.8]

    def magnitude(a: Tensor) -> Tensor:
        return reference._magnitude(a, weights, 1e-3)

    upstream = normal(1, 1, 4, 3, 3, dtype=torch.float64)
    analytic = reference._magnitude_backward(upstream / magnitude(member), member, weights)
    leaf = member.clone().requires_grad_()
    (numeric,) = torch.autograd.grad(magnitude(leaf), leaf, upstream)
    torch.testing.assert_close(analytic, numeric)
    assert torch.autograd.gradcheck(magnitude, leaf)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("classes", [1, 2, 4, 9, 16, 32, 64])
def test_labels_and_one_hot_are_exact(
    classes: int, dtype: torch.dtype, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = (normal(2, classes, 5, 9, 31) * 3).round().to(dtype)  # many ties
    x[0, 0, 0, 0, 0] = x[0, -1, 0, 0, 1] = x[0, classes // 2, 0, 0, 2] = float("nan")
    x[0, :, 0, 0, 3] = float("nan")
    x[0, classes // 2, 0, 0, 4], x[0, 0, 0, 0, 5] = float("inf"), -float("inf")
    found = label_map(x), one_hot_argmax(x), one_hot_argmax(x, gumbel_seed=2**40 + 5), argmax_edges(x, (1.0, 2.0, 1.0))
    magnitude = edge_magnitude(x, (1.0, 2.0, 1.0))
    monkeypatch.setenv("ANATOMAD_KERNELS", "reference")
    best, label = x[:, 0].clone(), torch.zeros(2, 5, 9, 31, dtype=torch.uint8)
    for k in range(classes):
        better = x[:, k] > best
        best[better], label[better] = x[:, k][better], k
    assert torch.equal(found[0][:, 0], label)
    assert torch.equal(found[1], F.one_hot(label.long(), classes).movedim(-1, 1).to(dtype))
    assert torch.equal(found[2], one_hot_argmax(x, gumbel_seed=2**40 + 5))
    assert torch.equal(found[3], edges(found[0], (1.0, 2.0, 1.0)).to(dtype))
    expected = edge_magnitude(label[:, None], (1.0, 2.0, 1.0))
    torch.testing.assert_close(magnitude.float(), expected, atol=1e-6 if dtype == torch.float32 else 1e-2, rtol=0)


@pytest.mark.parametrize("name", GRADIENT)
def test_layout_and_repetition_change_no_bit(name: str, backend: str) -> None:
    for shape, layout in (((2, 5, 9, 17), torch.channels_last), ((2, 5, 6, 9, 17), torch.channels_last_3d)):
        x = patches(*shape)
        plain = through(GRADIENT[name], x)
        again = through(GRADIENT[name], x)
        last = through(GRADIENT[name], x.contiguous(memory_format=layout))
        strided = through(GRADIENT[name], torch.stack([x, x], -1)[..., 0])
        for other in (again, last, strided):
            assert all(map(torch.equal, plain, other))


@pytest.mark.parametrize("name", GRADIENT)
def test_the_number_of_threads_changes_no_bit(name: str, backend: str) -> None:
    x = patches(2, 4, 20, 9, 40)
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        results.append(through(GRADIENT[name], x))
    if backend != "reference":  # torch's own sums depend on it
        assert all(map(torch.equal, *results))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16], ids=str)
@pytest.mark.parametrize(
    "shape", [(1, 1, 9, 13), (2, 2, 5, 70), (1, 1, 6, 7, 41), (1, 1, 3, 1, 9), (1, 1, 0, 4)], ids=str
)
@pytest.mark.parametrize("size", [1, 3, 5, 7])
def test_median_against_scipy(size: int, shape: tuple[int, ...], dtype: torch.dtype, backend: str) -> None:
    from scipy.ndimage import median_filter

    for top in (3, 255 if dtype == torch.uint8 else 65535):
        score = (torch.rand(shape, generator=torch.Generator().manual_seed(4)) * top).to(dtype)
        found = median(score, size)
        assert found.dtype == dtype
        expected = [
            [median_filter(c.numpy(), size, mode="nearest") if c.numel() else c.numpy() for c in b] for b in score
        ]
        assert found.numpy().tolist() == [[c.tolist() for c in b] for b in expected]


def test_median_of_real_numbers_is_within_half_a_step(backend: str) -> None:
    score = normal(1, 1, 8, 9, 10).abs()
    exact = F.pad(score, [1] * 6, mode="replicate").unfold(2, 3, 1).unfold(3, 3, 1).unfold(4, 3, 1)
    error = (median(score, 3) - exact.flatten(5).median(-1).values).abs().max()
    assert error <= (score.max() - score.min()) / 131070 * 1.01
    constant = torch.full((1, 1, 3, 3), 2.5)
    assert torch.equal(median(constant), constant)
    assert not median(score.requires_grad_(), 3).requires_grad  # none but that of the quantisation


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("shape", [(2, 4, 6, 9), (1, 9, 5, 6, 7), (1, 2, 1, 4, 1)], ids=str)
def test_resampled_labels(shape: tuple[int, ...], dtype: torch.dtype, backend: str) -> None:
    x, axes = normal(*shape, dtype=dtype), len(shape) - 2
    out = (11, 9, 150)[:axes]
    matrix = [[0.6 if i == d else 0.04 for i in range(axes)] + [-0.5] for d in range(axes)]
    index = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in out), indexing="ij")
    places = [sum(matrix[d][i] * index[i] for i in range(axes)) + matrix[d][axes] for d in range(axes)]
    # grid_sample wants the last axis first, from -1 to 1.
    scaled = [2 * p / max(n - 1, 1) - 1 for p, n in zip(places, shape[2:], strict=True)]
    grid = torch.stack(scaled[::-1], -1).expand(shape[0], *out, axes)
    scores = F.grid_sample(x.double(), grid, mode="bilinear", padding_mode="border", align_corners=True)
    found = resample_argmax(x, matrix, out)
    assert found.shape == (shape[0], 1, *out)
    top = scores.topk(2, 1).values
    clear = (top[:, :1] - top[:, 1:]) > 1e-5
    assert clear.double().mean() > 0.99
    assert torch.equal(found[clear].long(), scores.argmax(1, keepdim=True)[clear])


def test_resampling_onto_the_same_grid_is_the_label_map(backend: str) -> None:
    x = normal(2, 5, 4, 6, 37)
    matrix = [[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0]]
    assert torch.equal(resample_argmax(x, matrix, (4, 6, 37)), label_map(x))
    assert resample_argmax(x, matrix, (4, 0, 3)).shape == (2, 1, 4, 0, 3)


def test_contrast(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = torch.randint(3, (2, 1, 20, 31, 33), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    means, spreads = torch.tensor([[0.0, 1, 2], [3, 4, 5]]), torch.tensor([[0.0, 0.1, 0.2], [0.3, 0.1, 0.4]])
    image = contrast(labels, means, spreads, 12)
    for b in range(2):
        for k in range(3):
            values = image[b, 0][labels[b, 0] == k]
            assert float(values.mean()) == pytest.approx(float(means[b, k]), abs=0.02)
            assert float(values.std()) == pytest.approx(float(spreads[b, k]), abs=0.02)
    assert torch.equal(image, contrast(labels, means, spreads, 12))
    assert not torch.equal(image, contrast(labels, means, spreads, 13))
    monkeypatch.setenv("ANATOMAD_KERNELS", "reference")
    assert torch.equal(image, contrast(labels, means, spreads, 12))
    assert torch.equal(contrast(labels[:1], means[0], spreads[0], 12), image[:1])


@pytest.mark.parametrize("shape", [(2, 4, 20, 31), (3, 4, 1, 1), (1, 4, 5, 7, 11), (2, 4, 0, 3), (1, 9, 16, 16, 17)])
def test_contrast_of_shares(shape: tuple[int, ...], backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = normal(*shape).softmax(1)
    means, spreads = normal(*shape[:2], seed=1), normal(*shape[:2], seed=2).abs()
    image = contrast(shares, means, spreads, 12)
    noise = contrast(torch.zeros_like(shares[:, :1], dtype=torch.uint8), torch.zeros(1), torch.ones(1), 12)
    mean, spread = (torch.einsum("bk...,bk->b...", shares.double(), t.double())[:, None] for t in (means, spreads))
    torch.testing.assert_close(image.double(), mean + spread * noise.double(), atol=1e-5, rtol=1e-5)
    assert torch.equal(image, contrast(shares.transpose(-1, -2).contiguous().transpose(-1, -2), means, spreads, 12))
    labels = label_map(shares)
    assert torch.equal(contrast(one_hot(labels, shape[1]), means, spreads, 12), contrast(labels, means, spreads, 12))
    monkeypatch.setenv("ANATOMAD_KERNELS", "reference")
    assert torch.equal(image, contrast(shares, means, spreads, 12))
    assert torch.equal(contrast(shares, means, 0 * spreads, 12), contrast(shares, means, 0 * spreads, 13))
    half = shares.half()
    assert torch.equal(contrast(half, means, spreads, 12), contrast(half.float(), means, spreads, 12))


def test_normal_noise_is_normal(backend: str) -> None:
    noise = contrast(torch.zeros(1, 1, 500, 400, dtype=torch.uint8), torch.zeros(1), torch.ones(1), 3)
    from scipy.stats import kstest

    assert kstest(noise.flatten().numpy(), "norm").pvalue > 1e-3
    assert abs(torch.corrcoef(torch.stack([noise.flatten()[1:], noise.flatten()[:-1]]))[0, 1]) < 0.01


def test_a_label_without_a_mean_is_refused(backend: str) -> None:
    with pytest.raises(IndexError, match="below 2, the number of means; got 2"):
        contrast(torch.full((1, 1, 2, 2), 2, dtype=torch.uint8), torch.zeros(2), torch.ones(2), 0)

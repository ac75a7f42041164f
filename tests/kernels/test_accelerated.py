"""The backends for GPUs against the reference: on a GPU, and Triton's interpreter on CPU where TRITON_INTERPRET=1.

``test_triton_interpreter.py`` runs this file in a process that has the variable set.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from torch import Tensor

from anatomad.kernels import _select, argmax_edges, contrast, edge_magnitude, edges, label_map, median, one_hot_argmax
from anatomad.kernels.backends import reference
from tests.kernels.cases import FLOATS, SHAPES, assert_as_good_as_framework, normal, patches, spacing
from tests.kernels.test_backends import FRAMEWORK, GRADIENT, through
from tests.kernels.test_registration import ARGUMENTS, DIFFERENTIABLE, everything

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
CHOICES = ("triton",) if INTERPRETED else ("cuda", "triton")
# The interpreter is slow: a minute for what is left of the cases.
TINY = [((2, 4, 7, 13), torch.bfloat16), ((1, 9, 3, 5, 34), torch.float32), ((0, 3, 4, 4), torch.float16)]
CASES = TINY if INTERPRETED else [(shape, dtype) for shape in SHAPES for dtype in FLOATS]


@pytest.fixture(params=CHOICES)
def accelerated(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    status = _select.status(request.param)
    if not status.startswith("ready") or ("interpreted" in status) != INTERPRETED:
        pytest.skip(f"{request.param}: {status}")
    monkeypatch.setenv(_select.VARIABLE, request.param)
    return str(request.param)


def there(value: Any) -> Any:
    return value.to(DEVICE) if isinstance(value, Tensor) else value


@pytest.mark.parametrize(("shape", "dtype"), CASES, ids=str)
@pytest.mark.parametrize("name", FRAMEWORK)
def test_values_and_gradients(
    name: str, shape: tuple[int, ...], dtype: torch.dtype, accelerated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = patches(*shape, dtype=dtype)
    upstream = normal(*reference_result(name, x).shape, seed=9, dtype=dtype)
    result, gradient, _ = through(GRADIENT[name], there(x), there(upstream))
    monkeypatch.setenv(_select.VARIABLE, "reference")
    truth, true_gradient, _ = through(GRADIENT[name], x.double(), upstream)
    if 0 in shape:
        assert gradient.shape == true_gradient.shape
        return
    framework, framework_gradient, _ = through(FRAMEWORK[name], x, upstream)
    assert_as_good_as_framework(result.cpu(), framework, truth)
    assert_as_good_as_framework(gradient.cpu(), framework_gradient, true_gradient)


def reference_result(name: str, x: Tensor) -> Tensor:
    chosen = os.environ[_select.VARIABLE]
    os.environ[_select.VARIABLE] = "reference"
    result = GRADIENT[name](x)
    os.environ[_select.VARIABLE] = chosen
    return result


@pytest.mark.parametrize("classes", [1, 9] if INTERPRETED else [1, 2, 4, 9, 10, 11, 16, 32, 64])
def test_labels_one_hot_and_noise_are_exact(classes: int, accelerated: str) -> None:
    x = (normal(2, classes, 3, 5, 32) * 3).round()  # many ties; whole vectors
    x[0, 0, 0, 0, 0] = x[0, -1, 0, 0, 1] = x[0, classes // 2, 0, 0, 2] = float("nan")
    x[0, :, 0, 0, 3] = float("nan")
    x[0, classes // 2, 0, 0, 4], x[0, 0, 0, 0, 5] = float("inf"), -float("inf")
    y, seed = there(x), 2**40 + 5
    assert torch.equal(label_map(y).cpu(), reference.label_map(x))
    assert torch.equal(one_hot_argmax(y).cpu(), reference.one_hot_argmax(x, 1.0, None))
    assert torch.equal(one_hot_argmax(y, gumbel_seed=seed).cpu(), reference.one_hot_argmax(x, 1.0, seed))
    assert torch.equal(argmax_edges(y, (1.0, 2.0, 1.0)).cpu(), reference.argmax_edges(x, [1.0, 0.5, 1.0], 1.0)[0])
    assert torch.equal(
        edges(label_map(y), (1.0, 1.0, 1.0)).cpu(), reference.label_edges(reference.label_map(x), [1.0] * 3)
    )
    upstream = normal(*x.shape, seed=1)
    finite = x.nan_to_num(0, 3, -3)
    given = torch.ops.anatomad.one_hot_argmax_backward(there(upstream), there(finite), 0.7, seed).cpu()
    torch.testing.assert_close(given, reference.one_hot_argmax_backward(upstream, finite, 0.7, seed), atol=2e-6, rtol=0)


def test_labels_of_any_value_have_edges(accelerated: str) -> None:
    label = torch.tensor([0, 77, 200, 255], dtype=torch.uint8)[reference.label_map(patches(1, 4, 4, 5, 36)).long()]
    found = edge_magnitude(there(label), (1.0, 2.0, 0.8)).cpu()
    weights = [0.8, 0.4, 1.0]
    torch.testing.assert_close(found, reference.label_edge_magnitude(label, weights, 1e-6), atol=2e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16], ids=str)
@pytest.mark.parametrize("size", [3] if INTERPRETED else [1, 3, 5, 7])
def test_median(size: int, dtype: torch.dtype, accelerated: str) -> None:
    for shape in ((1, 2, 5, 9), (1, 1, 3, 4, 11)):
        score = (torch.rand(shape, generator=torch.Generator().manual_seed(4)) * 250).to(dtype)
        assert torch.equal(median(there(score), size).cpu(), reference.median(score, size))


def test_contrast(accelerated: str) -> None:
    labels = torch.randint(3, (2, 1, 5, 31, 13), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    means, spreads = torch.tensor([[0.0, 1, 2], [3, 4, 5]]), torch.tensor([[0.0, 0.1, 0.2], [0.3, 0.1, 0.4]])
    image = contrast(*map(there, (labels, means, spreads)), 2**50 + 12).cpu()
    assert torch.equal(image, reference.contrast(labels, means, spreads, 2**50 + 12))
    with pytest.raises(IndexError, match="below 2, the number of means; got 2"):
        contrast(there(labels), there(means[0, :2]), there(spreads[0, :2]), 0)


@pytest.mark.parametrize("size", [(4, 8), (3, 5, 7), (1, 1)], ids=str)
def test_contrast_of_shares(size: tuple[int, ...], accelerated: str) -> None:
    shares = normal(3, 4, *size).softmax(1)
    means, spreads = normal(3, 4, seed=1), normal(3, 4, seed=2).abs()
    image = contrast(*map(there, (shares, means, spreads)), 2**50 + 12).cpu()
    assert torch.equal(image, reference.soft_contrast(shares, means, spreads, 2**50 + 12))


@pytest.mark.parametrize("name", GRADIENT)
def test_repetition_and_layout_change_no_bit(name: str, accelerated: str) -> None:
    if INTERPRETED:
        pytest.skip("the interpreter takes one program after the other")
    x = there(patches(1, 3, 4, 5, 6))
    plain = through(GRADIENT[name], x, there(upstream_of(name, x)))
    for other in (x, x.contiguous(memory_format=torch.channels_last_3d)):
        again = through(GRADIENT[name], other, plain[2])
        assert all(map(torch.equal, plain, again))


def upstream_of(name: str, x: Tensor) -> Tensor:
    return normal(*reference_result(name, x.cpu()).shape, seed=9)


OPERATORS = ("label_map", "one_hot_argmax", "resample_argmax") if INTERPRETED else tuple(ARGUMENTS)


@pytest.mark.parametrize("operator", OPERATORS)
def test_opcheck(operator: str, accelerated: str) -> None:
    arguments = [there(a) for a in ARGUMENTS[operator]]
    arguments = [
        a.clone().requires_grad_(operator in DIFFERENTIABLE and a.is_floating_point()) if isinstance(a, Tensor) else a
        for a in arguments
    ]
    torch.library.opcheck(getattr(torch.ops.anatomad, operator).default, arguments)


@pytest.mark.parametrize("compiler", ["aot_eager"] if INTERPRETED else ["aot_eager", "inductor"])
def test_compiled_in_one_graph(compiler: str, accelerated: str) -> None:
    with torch.device(DEVICE):
        results = []
        for run in (everything, torch.compile(everything, fullgraph=True, backend=compiler)):
            leaf = there(ARGUMENTS["label_map"][0]).clone().requires_grad_()
            value = run(leaf)
            value.backward()
            results.append((value.detach(), leaf.grad))
    torch.testing.assert_close(*results)


def test_a_captured_graph_repeats_the_call(accelerated: str) -> None:
    if INTERPRETED:
        pytest.skip("graphs are captured on a GPU")
    x = there(patches(1, 9, 8, 16, 32)).requires_grad_()
    spaced, upstream = spacing(x), there(normal(1, 1, 8, 16, 32))

    def step() -> Tensor:
        return torch.autograd.grad(edge_magnitude(x, spaced), x, upstream)[0]

    expected = step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    graph.replay()
    assert torch.equal(captured, expected)

"""Group normalisation and SiLU in one: values, gradients, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from anatomad.kernels import _select, group_norm_silu
from anatomad.models.unet import ConvBlock
from tests.kernels.cases import FLOATS, assert_as_good_as_framework, normal

# Channels that fill rows and that do not, more channels than a row holds, several pieces, single voxels.
CASES = [
    ((2, 8, 7, 13), 8),
    ((1, 16, 5, 6, 7), 4),
    ((3, 12, 1, 9), 2),
    ((2, 320, 6, 5), 8),
    ((1, 24, 20, 21, 19), 8),
    ((2, 16, 40, 41), 16),
    ((2, 4, 1, 1), 1),
]

Arguments = tuple[Tensor, Tensor, Tensor]


def arguments(shape: tuple[int, ...], dtype: torch.dtype) -> Arguments:
    x = (normal(*shape) * 3 + 10 * normal(1, shape[1], *[1] * (len(shape) - 2), seed=4)).to(dtype)
    return x, 1 + 0.3 * normal(shape[1], seed=1), normal(shape[1], seed=2)


def ours(x: Tensor, groups: int, weight: Tensor, bias: Tensor) -> Tensor:
    return group_norm_silu(x, groups, weight, bias)


def framework(x: Tensor, groups: int, weight: Tensor, bias: Tensor) -> Tensor:
    return F.silu(F.group_norm(x, groups, weight, bias))


def through(function: object, given: Arguments, groups: int, upstream: Tensor) -> tuple[Tensor, ...]:
    x, weight, bias = (t.clone().requires_grad_() for t in given)
    result = function(x, groups, weight, bias)  # type: ignore[operator]
    return result.detach(), *torch.autograd.grad(result, (x, weight, bias), upstream.to(result.dtype))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("shape", "groups"), CASES, ids=str)
def test_values_and_gradients(shape: tuple[int, ...], groups: int, dtype: torch.dtype, backend: str) -> None:
    given = arguments(shape, dtype)
    upstream = normal(*shape, seed=9).to(dtype)
    truth = through(framework, tuple(t.double() for t in given), groups, upstream)  # type: ignore[arg-type]
    found = through(ours, given, groups, upstream)
    usual = through(framework, given, groups, upstream)
    for one, plain, true in zip(found, usual, truth, strict=True):
        assert_as_good_as_framework(one, plain, true)


def test_far_from_zero_no_digits_are_lost(backend: str) -> None:
    x = 1000 + normal(2, 8, 30, 40)
    found = group_norm_silu(x, 8, torch.ones(8), torch.zeros(8))
    truth = framework(x.double(), 8, torch.ones(8).double(), torch.zeros(8).double())
    torch.testing.assert_close(found.double(), truth, atol=2e-3, rtol=0)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_threads_and_layout_change_no_bit(dtype: torch.dtype, backend: str) -> None:
    if backend == "reference":
        pytest.skip("framework code, whose sums depend on both")
    given, upstream = arguments((2, 16, 24, 9, 40), dtype), normal(2, 16, 24, 9, 40, seed=9)
    plain = through(ours, given, 8, upstream)
    last = given[0].contiguous(memory_format=torch.channels_last_3d), *given[1:]
    assert all(map(torch.equal, plain, through(ours, last, 8, upstream)))
    torch.set_num_threads(3)
    assert all(map(torch.equal, plain, through(ours, given, 8, upstream)))


def test_it_keeps_its_input_alone(backend: str) -> None:
    if backend == "reference":
        pytest.skip("framework code keeps what lies between too")
    saved: list[Tensor] = []
    x, weight, bias = (t.requires_grad_() for t in arguments((2, 16, 32, 32), torch.bfloat16))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):  # type: ignore[func-returns-value]
        group_norm_silu(x, 8, weight, bias)
    assert sum(t.numel() * t.element_size() for t in saved) <= 1.02 * x.numel() * x.element_size()


def test_where_nothing_is_there_nothing_comes_out(backend: str) -> None:
    assert group_norm_silu(torch.zeros(0, 8, 4, 4), 8, torch.ones(8), torch.zeros(8)).shape == (0, 8, 4, 4)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_opcheck(layout: torch.memory_format) -> None:
    if not _select.status("cpp").startswith("ready"):
        pytest.skip("the C++ module is not built")
    x, weight, bias = arguments((2, 8, 7, 13), torch.float32)
    leaves = [t.requires_grad_() for t in (x.contiguous(memory_format=layout), weight, bias)]
    ops = torch.ops.anatomad
    torch.library.opcheck(ops.group_norm_silu.default, (*leaves, 4, 1e-5))
    given = [t.detach() for t in leaves]
    _, mean, rstd = ops.group_norm_silu(*given, 4, 1e-5)
    torch.library.opcheck(ops.group_norm_silu_backward.default, (x.detach(), given[0], mean, rstd, *given[1:], 1e-5))


@pytest.mark.parametrize("shape", [(2, 8, 7, 13), (1, 8, 3, 4, 5)], ids=str)
def test_second_gradients_are_those_of_framework_code(shape: tuple[int, ...], backend: str) -> None:
    """As the gradient penalty of a critic takes them."""
    found = []
    for function in (ours, framework):
        leaves = [t.clone().requires_grad_() for t in arguments(shape, torch.float32)]
        x, weight, bias = leaves
        result = function(x, 4, weight, bias)
        upstream = normal(*shape, seed=9).requires_grad_()
        (gradient,) = torch.autograd.grad(result, x, upstream, create_graph=True)
        found.append(torch.autograd.grad((gradient.norm() - 1) ** 2, (*leaves[:2], upstream)))
    for pair in zip(*found, strict=True):
        torch.testing.assert_close(*pair, atol=1e-4, rtol=1e-3)


def test_compiled_in_one_graph(backend: str) -> None:
    given, upstream = arguments((2, 8, 7, 13), torch.float32), normal(2, 8, 7, 13, seed=9)
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    for pair in zip(through(ours, given, 4, upstream), through(compiled, given, 4, upstream), strict=True):
        torch.testing.assert_close(*pair)


def test_blocks_under_autocast_stay_in_half_precision(backend: str) -> None:
    block = ConvBlock(3, 16, (3, 3))
    x = normal(2, 3, 12, 10).contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = block(x)
    assert found.dtype == torch.bfloat16
    assert found.is_contiguous(memory_format=torch.channels_last)
    found.float().square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in block.parameters())


def test_what_does_not_fit_is_refused() -> None:
    ones = torch.ones(6)
    with pytest.raises(ValueError, match=r"2D or 3D, got \[2, 6, 5\]"):
        group_norm_silu(torch.zeros(2, 6, 5), 3, ones, ones)
    with pytest.raises(ValueError, match=r"6 channels need groups that divide them.*got 4 groups"):
        group_norm_silu(torch.zeros(2, 6, 5, 5), 4, ones, ones)
    with pytest.raises(ValueError, match=r"weight \[5\]"):
        group_norm_silu(torch.zeros(2, 6, 5, 5), 3, ones[:5], ones)


def test_backends_for_gpus_leave_it_to_the_framework(monkeypatch: pytest.MonkeyPatch) -> None:
    given = arguments((2, 8, 7, 13), torch.float32)
    monkeypatch.setenv("ANATOMAD_KERNELS", "triton")
    assert torch.equal(ours(given[0], 8, *given[1:]), framework(given[0], 8, *given[1:]))


def test_statistics_are_float32_whatever_the_default() -> None:
    x, weight, bias = arguments((2, 8, 7, 13), torch.float32)
    expected = group_norm_silu(x, 8, weight, bias)
    torch.set_default_dtype(torch.bfloat16)
    try:
        found = group_norm_silu(x, 8, weight, bias)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found, expected)

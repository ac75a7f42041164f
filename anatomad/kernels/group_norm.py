"""Group normalisation with SiLU after it, in one operator on CPUs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from anatomad.kernels._select import backend, forced

NAME = "group_norm_silu"

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None, None, None]


def group_norm_silu(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """``silu(group_norm(x))`` (Wu and He, 2018; Elfwing et al., 2018), of which the backward pass keeps ``x`` alone.

    U-Nets on CPUs spent more time here than in convolutions: where channels lie innermost, as these prefer, the
    framework's gradient of a group norm is slow, most of all in half precision. Where the C++ module does not serve,
    as on other devices, framework code does, which keeps more.

    Args:
        x: [batch, channel, *spatial] in 2D or 3D, floating point.
        groups: Divides the channels.
        weight: [channel].
        bias: [channel].
        eps: Added to the variance.

    Returns:
        Like ``x``; its channels may lie innermost.

    Raises:
        ValueError: wrong rank, or channels that do not divide by the groups.
    """
    if x.ndim not in (4, 5):
        raise ValueError(f"x must be [batch, channel, *spatial] in 2D or 3D, got {list(x.shape)}")
    if x.shape[1] % groups or {tuple(weight.shape), tuple(bias.shape)} != {(x.shape[1],)}:
        raise ValueError(
            f"{x.shape[1]} channels need groups that divide them, and a weight and a bias each; got {groups} groups, "
            f"weight {list(weight.shape)}, bias {list(bias.shape)}"
        )
    if x.numel() and _served(x.device.type, x.dtype):
        result: Tensor = _ops.group_norm_silu(x, weight.float(), bias.float(), groups, eps)[0]
        return result
    # Where nothing is learnt, in place: a third tensor of that size would be the fullest moment of a prediction.
    return F.silu(F.group_norm(x, groups, weight, bias, eps), inplace=not torch.is_grad_enabled())


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _served(device: str, dtype: torch.dtype) -> bool:
    return device == "cpu" and forced() in (None, "cpp") and bool(backend("cpp").computes(dtype))


def channels_last(x: Tensor) -> Tensor:
    """A tensor [batch, channel, *spatial], 2D or 3D, whose channels lie innermost in memory."""
    return x.contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)


def _forward(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    result: tuple[Tensor, Tensor, Tensor] = backend("cpp").group_norm_silu(
        channels_last(x), weight.contiguous(), bias.contiguous(), groups, eps
    )
    return result


def _backward(
    gradient: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    tables = (table.contiguous() for table in (mean, rstd, weight, bias))
    result: tuple[Tensor, Tensor, Tensor] = backend("cpp").group_norm_silu_backward(
        channels_last(gradient), channels_last(x), *tables
    )
    return result


def _shapes(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    mean, rstd = (weight.new_empty(x.shape[0], groups) for _ in range(2))
    return torch.empty_like(channels_last(x)), mean, rstd


def _shapes_backward(
    gradient: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(channels_last(x)), torch.empty_like(weight), torch.empty_like(bias)


def _context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, weight, bias, _, ctx.eps = inputs
    _, mean, rstd = output
    ctx.mark_non_differentiable(mean, rstd)
    ctx.save_for_backward(x, mean, rstd, weight, bias)


def _gradients(ctx: Any, gradient: Tensor, *_: Tensor | None) -> Gradients:
    return *_ops.group_norm_silu_backward(gradient, *ctx.saved_tensors, ctx.eps), None, None


def _context_of_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    gradient, x, mean, _, weight, bias, ctx.eps = inputs
    ctx.groups = mean.shape[1]
    ctx.save_for_backward(gradient, x, weight, bias)


def _second_gradients(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
    """Of the gradients (a critic's gradient penalty asks for them): framework code, which knows how."""
    with torch.enable_grad():
        gradient, x, weight, bias = (t.detach().requires_grad_() for t in ctx.saved_tensors)
        y = F.silu(F.group_norm(x, ctx.groups, weight, bias, ctx.eps))
        first = torch.autograd.grad(y, (x, weight, bias), gradient, create_graph=True)
        given = [u.to(f.dtype) for u, f in zip(upstream, first, strict=True)]
        of_gradient, of_x, *others = torch.autograd.grad(first, (gradient, x, weight, bias), given, allow_unused=True)
    return of_gradient, of_x, None, None, *others, None


_SCHEMAS = {
    NAME: "(Tensor x, Tensor weight, Tensor bias, int groups, float eps) -> (Tensor, Tensor, Tensor)",
    f"{NAME}_backward": "(Tensor gradient, Tensor x, Tensor mean, Tensor rstd, Tensor weight, Tensor bias,"
    " float eps) -> (Tensor, Tensor, Tensor)",
}
_library = torch.library.Library("anatomad", "FRAGMENT")
for _operator, _run, _fake in ((NAME, _forward, _shapes), (f"{NAME}_backward", _backward, _shapes_backward)):
    _library.define(_operator + _SCHEMAS[_operator])
    _library.impl(_operator, _run, "CPU")
    torch.library.register_fake(f"anatomad::{_operator}", _fake, lib=_library)
torch.library.register_autograd(f"anatomad::{NAME}", _gradients, setup_context=_context, lib=_library)
torch.library.register_autograd(
    f"anatomad::{NAME}_backward", _second_gradients, setup_context=_context_of_backward, lib=_library
)

_ops = torch.ops.anatomad

"""Registration with torch: schema, shapes, gradient. Forward and backward are operators of their own.

Each operator is opaque to compilers: one node in the graph whichever backend runs, which is chosen when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from anatomad.kernels._select import backend_for

_SCHEMAS = {
    "label_map": "(Tensor logits) -> Tensor",
    "one_hot_argmax": "(Tensor logits, float temperature, int? gumbel_seed) -> Tensor",
    "one_hot_argmax_backward": "(Tensor gradient, Tensor logits, float temperature, int? gumbel_seed) -> Tensor",
    "label_edges": "(Tensor labels, float[] weights) -> Tensor",
    "argmax_edges": "(Tensor logits, float[] weights, float temperature) -> (Tensor, Tensor)",
    "argmax_edges_backward": "(Tensor gradient, Tensor logits, Tensor labels, float[] weights, float temperature)"
    " -> Tensor",
    "label_edge_magnitude": "(Tensor labels, float[] weights, float eps) -> Tensor",
    "edge_magnitude": "(Tensor logits, float[] weights, float temperature, float eps) -> (Tensor, Tensor)",
    "edge_magnitude_backward": "(Tensor gradient, Tensor magnitude, Tensor labels, Tensor logits, float[] weights,"
    " float temperature) -> Tensor",
    "sobel": "(Tensor image, float[] weights, float eps) -> Tensor",
    "sobel_backward": "(Tensor gradient, Tensor image, float[] weights, float eps) -> Tensor",
    "median": "(Tensor score, int size) -> Tensor",
    "resample_argmax": "(Tensor logits, float[] matrix, int[] shape) -> Tensor",
    "contrast": "(Tensor labels, Tensor means, Tensor spreads, int seed) -> Tensor",
    "soft_contrast": "(Tensor shares, Tensor means, Tensor spreads, int seed) -> Tensor",
}
OPERATORS = tuple(_SCHEMAS)


def _dispatching(operator: str) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        return getattr(backend_for(operator, *arguments), operator)(*arguments)

    return run


def _like(x: Tensor, channels: int | None = None, dtype: torch.dtype | None = None) -> Tensor:
    shape = [x.shape[0], x.shape[1] if channels is None else channels, *x.shape[2:]]
    return x.new_empty(shape, dtype=dtype or x.dtype)


_SHAPES: dict[str, Callable[..., Any]] = {
    "label_map": lambda logits: _like(logits, 1, torch.uint8),
    "one_hot_argmax": lambda logits, temperature, gumbel_seed: _like(logits),
    "one_hot_argmax_backward": lambda gradient, logits, temperature, gumbel_seed: _like(logits),
    "label_edges": lambda labels, weights: _like(labels, len(weights), torch.float32),
    "argmax_edges": lambda logits, weights, temperature: (_like(logits, len(weights)), _like(logits, 1, torch.uint8)),
    "argmax_edges_backward": lambda gradient, logits, labels, weights, temperature: _like(logits),
    "label_edge_magnitude": lambda labels, weights, eps: _like(labels, 1, torch.float32),
    "edge_magnitude": lambda logits, weights, temperature, eps: (_like(logits, 1), _like(logits, 1, torch.uint8)),
    "edge_magnitude_backward": lambda gradient, magnitude, labels, logits, weights, temperature: _like(logits),
    "sobel": lambda image, weights, eps: _like(image),
    "sobel_backward": lambda gradient, image, weights, eps: _like(image),
    "median": lambda score, size: _like(score),
    "resample_argmax": lambda logits, matrix, shape: logits.new_empty([logits.shape[0], 1, *shape], dtype=torch.uint8),
    "contrast": lambda labels, means, spreads, seed: _like(labels, 1, torch.float32),
    "soft_contrast": lambda shares, means, spreads, seed: _like(shares, 1),
}

_library = torch.library.Library("anatomad", "DEF")
for _operator, _schema in _SCHEMAS.items():
    _library.define(_operator + _schema)
    _library.impl(_operator, _dispatching(_operator), "CompositeExplicitAutograd")
    torch.library.register_fake(f"anatomad::{_operator}", _SHAPES[_operator], lib=_library)

_ops = torch.ops.anatomad


def _one_hot_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    logits, ctx.temperature, ctx.gumbel_seed = inputs
    ctx.save_for_backward(logits)


def _one_hot_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
    (logits,) = ctx.saved_tensors
    return _ops.one_hot_argmax_backward(gradient, logits, ctx.temperature, ctx.gumbel_seed), None, None


def _argmax_edges_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    logits, ctx.weights, ctx.temperature = inputs
    ctx.save_for_backward(logits, output[1])


def _argmax_edges_backward(ctx: Any, gradient: Tensor, _: Tensor | None) -> tuple[Tensor, None, None]:
    return _ops.argmax_edges_backward(gradient, *ctx.saved_tensors, ctx.weights, ctx.temperature), None, None


def _edge_magnitude_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    logits, ctx.weights, ctx.temperature, _ = inputs
    ctx.save_for_backward(*output, logits)


def _edge_magnitude_backward(ctx: Any, gradient: Tensor, _: Tensor | None) -> tuple[Tensor, None, None, None]:
    result = _ops.edge_magnitude_backward(gradient, *ctx.saved_tensors, ctx.weights, ctx.temperature)
    return result, None, None, None


def _sobel_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    image, ctx.weights, ctx.eps = inputs
    ctx.save_for_backward(image)


def _sobel_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
    return _ops.sobel_backward(gradient, *ctx.saved_tensors, ctx.weights, ctx.eps), None, None


for _operator, _backward, _context in (
    ("one_hot_argmax", _one_hot_backward, _one_hot_context),
    ("argmax_edges", _argmax_edges_backward, _argmax_edges_context),
    ("edge_magnitude", _edge_magnitude_backward, _edge_magnitude_context),
    ("sobel", _sobel_backward, _sobel_context),
):
    torch.library.register_autograd(f"anatomad::{_operator}", _backward, setup_context=_context, lib=_library)


def label_map(logits: Tensor) -> Tensor:
    """See :func:`anatomad.kernels.label_map`."""
    result: Tensor = _ops.label_map(logits)
    return result


def one_hot_argmax(logits: Tensor, temperature: float, gumbel_seed: int | None) -> Tensor:
    """See :func:`anatomad.kernels.one_hot_argmax`."""
    result: Tensor = _ops.one_hot_argmax(logits, temperature, gumbel_seed)
    return result


def edges(anatomy: Tensor, weights: Sequence[float], temperature: float) -> Tensor:
    """See :func:`anatomad.kernels.edges`; uint8 labels or logits."""
    result: Tensor
    if anatomy.dtype == torch.uint8:
        result = _ops.label_edges(anatomy, weights)
    else:
        result, _ = _ops.argmax_edges(anatomy, weights, temperature)
    return result


def edge_magnitude(anatomy: Tensor, weights: Sequence[float], temperature: float, eps: float) -> Tensor:
    """See :func:`anatomad.kernels.edge_magnitude`; uint8 labels or logits."""
    result: Tensor
    if anatomy.dtype == torch.uint8:
        result = _ops.label_edge_magnitude(anatomy, weights, eps)
    else:
        result, _ = _ops.edge_magnitude(anatomy, weights, temperature, eps)
    return result


def sobel(image: Tensor, weights: Sequence[float], eps: float) -> Tensor:
    """See :func:`anatomad.kernels.sobel`."""
    result: Tensor = _ops.sobel(image, weights, eps)
    return result


def median(score: Tensor, size: int) -> Tensor:
    """See :func:`anatomad.kernels.median`; uint8 or uint16."""
    result: Tensor = _ops.median(score, size)
    return result


def resample_argmax(logits: Tensor, matrix: Sequence[float], shape: Sequence[int]) -> Tensor:
    """See :func:`anatomad.kernels.resample_argmax`."""
    result: Tensor = _ops.resample_argmax(logits, matrix, shape)
    return result


def contrast(tissue: Tensor, means: Tensor, spreads: Tensor, seed: int) -> Tensor:
    """See :func:`anatomad.kernels.contrast`; uint8 labels or float32 shares."""
    operator = _ops.contrast if tissue.dtype == torch.uint8 else _ops.soft_contrast
    result: Tensor = operator(tissue, means, spreads, seed)
    return result

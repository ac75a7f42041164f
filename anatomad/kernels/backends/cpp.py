"""The operators in C++ for CPU (``csrc/cpu``): addresses go across, nothing of torch does.

The module is built where a compiler is found, for several instruction-set levels; the best that the processor has runs.
float64 and whatever lies on another device is left to the reference.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from anatomad.kernels.backends import _accelerated as shared

_FLOATS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
_SCORES = {torch.uint8: "u8", torch.uint16: "u16"}
_NAMES = _FLOATS | _SCORES
_LABELS_AND_FLOATS = {*_FLOATS, torch.uint8}
_KEPT = 2**22  # bytes from which on a result's memory is kept for the next: fresh pages cost more than the kernel
_MOST_CLASSES = 64  # of the edge operators' bit sets
_BIT_SETS = ("argmax_edges", "argmax_edges_backward", "edge_magnitude", "edge_magnitude_backward")


@functools.cache
def _native() -> Any:
    """The compiled module, or the error that it met."""
    try:
        return importlib.import_module("anatomad.kernels._cpu")
    except ImportError as error:
        return error


@functools.cache
def _level() -> Any:
    levels = [] if isinstance(_native(), ImportError) else _native().levels()
    return levels[0] if levels else None


def status() -> str:
    """Which level runs, or why none does."""
    if isinstance(_native(), ImportError):
        return "not built: anatomad was installed without a C++ compiler; install one and reinstall anatomad"
    return f"ready ({_level().name})" if _level() else "built, but for processors newer than this one"


def computes(dtype: torch.dtype) -> bool:
    """Whether kernels for numbers of that type run here."""
    return dtype in _FLOATS and _level() is not None


def supports(operator: str, *tensors: Tensor) -> bool:
    """CPU tensors in single or half precision, or whole numbers, where the module is built."""
    most = _MOST_CLASSES if operator in _BIT_SETS else math.inf
    known = _SCORES if operator == "median" else _LABELS_AND_FLOATS
    served = all(t.device.type == "cpu" and t.dtype in known and t.shape[1] <= most for t in tensors)
    return served and _level() is not None and len({t.dtype for t in tensors} & _FLOATS.keys()) <= 1


def _order(spatial: Sequence[int]) -> list[int | None]:
    """Which spatial axis is the kernel's depth, height and width; in 2D there is no depth.

    An axis of one voxel plays no part, wherever it stands; as the innermost it would leave rows of one voxel.
    """
    axes = sorted(range(len(spatial)), key=lambda axis: spatial[axis] != 1)
    return [*[None] * (3 - len(spatial)), *axes]


def _shape(x: Tensor, order: Sequence[int | None] | None = None, *, flat: bool | None = None) -> Any:
    spatial = x.shape[2:]
    order = order or ([None] * (3 - len(spatial)) + list(range(len(spatial))))
    sizes = [1 if axis is None else spatial[axis] for axis in order]
    return _native().Shape([*x.shape[:2], *sizes], sizes[0] == 1 if flat is None else flat, torch.get_num_threads())


def _type(x: Tensor) -> Any:
    return getattr(_native().Type, _NAMES[x.dtype])


def _stencil(x: Tensor, weights: Sequence[float]) -> tuple[Any, list[float]]:
    """Shape, and the weights in the kernel's order."""
    order = _order(x.shape[2:])
    return _shape(x, order), [0.0 if axis is None else weights[axis] for axis in order]


def _channels(x: Tensor) -> list[int]:
    return [-1 if axis is None else axis for axis in _order(x.shape[2:])]


def _empty(x: Tensor, channels: int | None = None, dtype: torch.dtype | None = None) -> Tensor:
    shape, dtype = [x.shape[0], x.shape[1] if channels is None else channels, *x.shape[2:]], dtype or x.dtype
    size = math.prod(shape) * dtype.itemsize
    if size < _KEPT:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(_native().Block(size), dtype=dtype).resize_(shape)


def _run(operator: str, result: Tensor, *arguments: Any) -> Tensor:
    """Do the work on the best level; the result comes last among a kernel's arguments."""
    if result.numel():
        getattr(_level(), operator)(*shared.addresses((*arguments, result)))
    return result


def label_map(logits: Tensor) -> Tensor:
    """Runs of voxels, class by class."""
    logits = logits.contiguous()
    return _run("label_map", _empty(logits, 1, torch.uint8), _type(logits), _shape(logits), logits)


def one_hot_argmax(logits: Tensor, temperature: float, gumbel_seed: int | None) -> Tensor:
    """Blocks of voxels that stay in the cache; noise is drawn where it is used."""
    logits, seed = logits.contiguous(), shared.seed_of(gumbel_seed)
    return _run("one_hot_argmax", _empty(logits), _type(logits), _shape(logits), logits, *seed)


def one_hot_argmax_backward(gradient: Tensor, logits: Tensor, temperature: float, gumbel_seed: int | None) -> Tensor:
    """Softmax and its gradient, block by block; the noise is drawn anew."""
    given, options = shared.contiguous(gradient, logits), (temperature, *shared.seed_of(gumbel_seed))
    return _run("one_hot_argmax_backward", _empty(logits), _type(logits), _shape(logits), *given, *options)


def _label_edges(labels: Tensor, weights: Sequence[float], dtype: torch.dtype) -> Tensor:
    labels, result = labels.contiguous(), _empty(labels, len(weights), dtype)
    shape, ordered = _stencil(labels, weights)
    return _run("label_edges", result, _type(result), shape, labels, ordered, _channels(labels), len(weights))


def label_edges(labels: Tensor, weights: Sequence[float]) -> Tensor:
    """Row by row."""
    return _label_edges(labels, weights, torch.float32)


def argmax_edges(logits: Tensor, weights: Sequence[float], temperature: float) -> tuple[Tensor, Tensor]:
    """Label map, then its edges: the map is a byte per voxel and costs next to nothing."""
    labels = label_map(logits)
    return _label_edges(labels, weights, logits.dtype), labels


def argmax_edges_backward(
    gradient: Tensor, logits: Tensor, labels: Tensor, weights: Sequence[float], temperature: float
) -> Tensor:
    """Each voxel gathers from its neighbours' labels; no one-hot, no scatter."""
    given, (shape, ordered) = shared.contiguous(gradient, logits, labels), _stencil(logits, weights)
    options = ordered, _channels(labels), len(weights), temperature
    return _run("argmax_edges_backward", _empty(logits), _type(logits), shape, *given, *options)


def _label_edge_magnitude(labels: Tensor, weights: Sequence[float], eps: float, dtype: torch.dtype) -> Tensor:
    labels, result = labels.contiguous(), _empty(labels, 1, dtype)
    shape, ordered = _stencil(labels, weights)
    return _run("edge_magnitude", result, _type(result), shape, labels, ordered, eps)


def label_edge_magnitude(labels: Tensor, weights: Sequence[float], eps: float) -> Tensor:
    """Whole-number derivatives of the classes that are near."""
    return _label_edge_magnitude(labels, weights, eps, torch.float32)


def edge_magnitude(logits: Tensor, weights: Sequence[float], temperature: float, eps: float) -> tuple[Tensor, Tensor]:
    """Label map, then its magnitude."""
    labels = label_map(logits)
    return _label_edge_magnitude(labels, weights, eps, logits.dtype), labels


def edge_magnitude_backward(
    gradient: Tensor, magnitude: Tensor, labels: Tensor, logits: Tensor, weights: Sequence[float], temperature: float
) -> Tensor:
    """Tile by tile; logits are read in rows that an edge is near."""
    given, (shape, ordered) = shared.contiguous(gradient, magnitude, labels, logits), _stencil(logits, weights)
    return _run("edge_magnitude_backward", _empty(logits), _type(logits), shape, *given, ordered, temperature)


def sobel(image: Tensor, weights: Sequence[float], eps: float) -> Tensor:
    """Row by row."""
    flat = shared.as_batch(image)
    shape, ordered = _stencil(flat, weights)
    return _run("sobel", _empty(image), _type(flat), shape, flat, ordered, eps)


def sobel_backward(gradient: Tensor, image: Tensor, weights: Sequence[float], eps: float) -> Tensor:
    """Tile by tile."""
    gradient, flat = gradient.contiguous(), shared.as_batch(image)
    shape, ordered = _stencil(flat, weights)
    return _run("sobel_backward", _empty(image), _type(flat), shape, gradient, flat, ordered, eps)


def median(score: Tensor, size: int) -> Tensor:
    """The bits of the median, from the highest down."""
    flat = shared.as_batch(score)
    return _run("median", _empty(score), _type(flat), _stencil(flat, [1.0] * 3)[0], flat, size)


def resample_argmax(logits: Tensor, matrix: Sequence[float], shape: Sequence[int]) -> Tensor:
    """Interpolated and compared class by class."""
    logits, rows = logits.contiguous(), shared.rows_of(matrix, len(shape))
    result = torch.empty([logits.shape[0], 1, *shape], dtype=torch.uint8)
    source, target = _shape(logits, flat=len(shape) == 2), _shape(result)
    return _run("resample_argmax", result, _type(logits), source, logits, rows, target)


def contrast(labels: Tensor, means: Tensor, spreads: Tensor, seed: int) -> Tensor:
    """Noise is drawn where it is used.

    Raises:
        IndexError: a label without a mean.
    """
    given, classes, result = shared.contiguous(labels, means, spreads), means.shape[1], _empty(labels, 1, torch.float32)
    pointers = shared.addresses((*given, classes, seed % 2**64, result))
    if result.numel() and not _level().contrast(_shape(labels), *pointers):
        shared.check_labels(labels, classes)
    return result


def soft_contrast(shares: Tensor, means: Tensor, spreads: Tensor, seed: int) -> Tensor:
    """Sums over the classes, vector by vector of noise."""
    given = shared.contiguous(shares, means, spreads)
    return _run("soft_contrast", _empty(shares, 1), _shape(shares), *given, seed % 2**64)


def group_norm_silu(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of pieces of fixed size, then the result; mean and reciprocal SD [batch, group]. Channels lie innermost."""
    result, (mean, rstd) = torch.empty_like(x), (torch.empty(x.shape[0], groups, dtype=torch.float32) for _ in range(2))
    _run("group_norm_silu", rstd, _type(x), _shape(x), x, weight, bias, groups, eps, result, mean)
    return result, mean, rstd


def group_norm_silu_backward(
    gradient: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The normalised values are made anew, twice: that costs less than to keep them. Channels lie innermost."""
    result, of_weight, of_bias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)
    given, groups = (gradient, x, mean, rstd, weight, bias), mean.shape[1]
    _run("group_norm_silu_backward", of_bias, _type(x), _shape(x), *given, groups, result, of_weight)
    return result, of_weight, of_bias

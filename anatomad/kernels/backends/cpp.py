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

_FLOATS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
_SCORES = {torch.uint8: "u8", torch.uint16: "u16"}
_NAMES = _FLOATS | _SCORES
_LABELS_AND_FLOATS = {*_FLOATS, torch.uint8}
_HUGE = 2**25  # bytes from which on glibc maps every tensor afresh: zeroing small pages would cost more than the kernel
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


def _seed(gumbel_seed: int | None) -> tuple[bool, int]:
    return gumbel_seed is not None, (gumbel_seed or 0) % 2**64


def _empty(x: Tensor, channels: int | None = None, dtype: torch.dtype | None = None) -> Tensor:
    shape = [x.shape[0], x.shape[1] if channels is None else channels, *x.shape[2:]]
    result = torch.empty(shape, dtype=dtype or x.dtype)
    if result.nbytes >= _HUGE:
        _native().huge_pages(result.data_ptr(), result.nbytes)
    return result


def label_map(logits: Tensor) -> Tensor:
    """Runs of voxels, class by class."""
    logits, result = logits.contiguous(), _empty(logits, 1, torch.uint8)
    if result.numel():
        _level().label_map(_type(logits), _shape(logits), logits.data_ptr(), result.data_ptr())
    return result


def one_hot_argmax(logits: Tensor, temperature: float, gumbel_seed: int | None) -> Tensor:
    """Blocks of voxels that stay in the cache; noise is drawn where it is used."""
    logits, result = logits.contiguous(), _empty(logits)
    if result.numel():
        pointers = logits.data_ptr(), *_seed(gumbel_seed), result.data_ptr()
        _level().one_hot_argmax(_type(logits), _shape(logits), *pointers)
    return result


def one_hot_argmax_backward(gradient: Tensor, logits: Tensor, temperature: float, gumbel_seed: int | None) -> Tensor:
    """Softmax and its gradient, block by block; the noise is drawn anew."""
    gradient, logits, result = gradient.contiguous(), logits.contiguous(), _empty(logits)
    if result.numel():
        pointers = gradient.data_ptr(), logits.data_ptr(), temperature, *_seed(gumbel_seed), result.data_ptr()
        _level().one_hot_argmax_backward(_type(logits), _shape(logits), *pointers)
    return result


def _label_edges(labels: Tensor, weights: Sequence[float], dtype: torch.dtype) -> Tensor:
    labels, result = labels.contiguous(), _empty(labels, len(weights), dtype)
    if result.numel():
        shape, ordered = _stencil(labels, weights)
        arguments = labels.data_ptr(), ordered, _channels(labels), len(weights), result.data_ptr()
        _level().label_edges(_type(result), shape, *arguments)
    return result


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
    gradient, logits, labels = gradient.contiguous(), logits.contiguous(), labels.contiguous()
    result = _empty(logits)
    if result.numel():
        shape, ordered = _stencil(logits, weights)
        pointers = gradient.data_ptr(), logits.data_ptr(), labels.data_ptr()
        options = ordered, _channels(labels), len(weights), temperature, result.data_ptr()
        _level().argmax_edges_backward(_type(logits), shape, *pointers, *options)
    return result


def _label_edge_magnitude(labels: Tensor, weights: Sequence[float], eps: float, dtype: torch.dtype) -> Tensor:
    labels, result = labels.contiguous(), _empty(labels, 1, dtype)
    if result.numel():
        shape, ordered = _stencil(labels, weights)
        _level().edge_magnitude(_type(result), shape, labels.data_ptr(), ordered, eps, result.data_ptr())
    return result


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
    gradient, magnitude, labels, logits = (t.contiguous() for t in (gradient, magnitude, labels, logits))
    result = _empty(logits)
    if result.numel():
        shape, ordered = _stencil(logits, weights)
        pointers = gradient.data_ptr(), magnitude.data_ptr(), labels.data_ptr(), logits.data_ptr()
        _level().edge_magnitude_backward(_type(logits), shape, *pointers, ordered, temperature, result.data_ptr())
    return result


def _as_batch(image: Tensor) -> Tensor:
    return image.contiguous().view(-1, 1, *image.shape[2:]) if image.numel() else image


def sobel(image: Tensor, weights: Sequence[float], eps: float) -> Tensor:
    """Row by row."""
    image, result = _as_batch(image), _empty(image)
    if result.numel():
        shape, ordered = _stencil(image, weights)
        _level().sobel(_type(image), shape, image.data_ptr(), ordered, eps, result.data_ptr())
    return result


def sobel_backward(gradient: Tensor, image: Tensor, weights: Sequence[float], eps: float) -> Tensor:
    """Tile by tile."""
    gradient, flat, result = gradient.contiguous(), _as_batch(image), _empty(image)
    if result.numel():
        shape, ordered = _stencil(flat, weights)
        pointers = gradient.data_ptr(), flat.data_ptr()
        _level().sobel_backward(_type(flat), shape, *pointers, ordered, eps, result.data_ptr())
    return result


def median(score: Tensor, size: int) -> Tensor:
    """The bits of the median, from the highest down."""
    flat, result = _as_batch(score), _empty(score)
    if result.numel():
        _level().median(_type(flat), _stencil(flat, [1.0] * 3)[0], flat.data_ptr(), size, result.data_ptr())
    return result


def resample_argmax(logits: Tensor, matrix: Sequence[float], shape: Sequence[int]) -> Tensor:
    """Interpolated and compared class by class."""
    logits = logits.contiguous()
    result = torch.empty([logits.shape[0], 1, *shape], dtype=torch.uint8)
    if result.numel():
        axes = len(shape)
        rows = [[*[0.0] * (3 - axes), *matrix[i : i + axes + 1]] for i in range(0, len(matrix), axes + 1)]
        flat = [value for row in [[0.0] * 4] * (3 - axes) + rows for value in row]
        source, target = _shape(logits, flat=axes == 2), _shape(result)
        _level().resample_argmax(_type(logits), source, logits.data_ptr(), flat, target, result.data_ptr())
    return result


def contrast(labels: Tensor, means: Tensor, spreads: Tensor, seed: int) -> Tensor:
    """Noise is drawn where it is used.

    Raises:
        IndexError: a label without a mean.
    """
    labels, means, spreads = labels.contiguous(), means.contiguous(), spreads.contiguous()
    result = _empty(labels, 1, torch.float32)
    if math.prod(labels.shape):
        tables = means.data_ptr(), spreads.data_ptr(), means.shape[1]
        pointers = labels.data_ptr(), *tables, seed % 2**64, result.data_ptr()
        if not _level().contrast(_shape(labels), *pointers):
            raise IndexError(f"labels must be below {means.shape[1]}, the number of means; got {int(labels.max())}")
    return result

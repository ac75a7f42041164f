"""The operators in CUDA C++ (``csrc/cuda``): addresses and a stream go across, nothing of torch does.

The module is built where ``nvcc`` is found, for compute capability 8.0, 9.0 and newer. float64, and class scores of
more than 64 classes, are left to the next backend.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from anatomad.kernels.backends import _accelerated as shared

_TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.uint8: "u8", torch.uint16: "u16"}
_OLDEST = (8, 0)  # compute capability


@functools.cache
def _native() -> Any:
    """The compiled module, or the error that it met."""
    try:
        return importlib.import_module("anatomad.kernels._cuda")
    except ImportError as error:
        return error


@functools.cache
def _obstacle() -> str | None:
    """Why it cannot run here."""
    native = _native()
    if isinstance(native, ImportError):
        return "not built: anatomad was installed without nvcc; install the CUDA toolkit and reinstall anatomad"
    if not torch.cuda.is_available():
        return "built, but there is no CUDA device"
    if native.driver() // 1000 < native.version // 1000:
        return f"built with CUDA {native.version // 1000}, which the driver (CUDA {native.driver() // 1000}) cannot run"
    oldest = min(torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count()))
    return f"built for compute capability 8.0 and newer, not {oldest[0]}.{oldest[1]}" if oldest < _OLDEST else None


def status() -> str:
    """Whether it can run, and on what."""
    return _obstacle() or f"ready ({torch.cuda.get_device_name()})"


def supports(operator: str, *tensors: Tensor) -> bool:
    """CUDA tensors in single or half precision or whole numbers, at most 64 classes, where the module is built."""
    return shared.serves("cuda", operator, *tensors) and _obstacle() is None


def _run(operator: Callable[..., None], device: torch.device, *arguments: Any) -> None:
    """Queue the work on the device's current stream."""
    with torch.cuda.device(device):
        operator(torch.cuda.current_stream(device).cuda_stream, *arguments)


def _type(x: Tensor) -> Any:
    return getattr(_native().Type, _TYPES[x.dtype])


def _shape(x: Tensor) -> Any:
    return _native().Shape([*x.shape[:2], *shared.grid(x)], x.ndim == 4)


def _seed(gumbel_seed: int | None) -> tuple[bool, int]:
    return gumbel_seed is not None, (gumbel_seed or 0) % 2**64


def label_map(logits: Tensor) -> Tensor:
    """A thread for each 16 bytes of a class."""
    logits, result = logits.contiguous(), shared.empty(logits, 1, torch.uint8)
    if result.numel():
        pointers = logits.data_ptr(), result.data_ptr()
        _run(_native().label_map, logits.device, _type(logits), _shape(logits), *pointers)
    return result


def one_hot_argmax(logits: Tensor, temperature: float, gumbel_seed: int | None) -> Tensor:
    """The same; noise is drawn where it is used."""
    logits, result = logits.contiguous(), shared.empty(logits)
    if result.numel():
        pointers = logits.data_ptr(), *_seed(gumbel_seed), result.data_ptr()
        _run(_native().one_hot_argmax, logits.device, _type(logits), _shape(logits), *pointers)
    return result


def one_hot_argmax_backward(gradient: Tensor, logits: Tensor, temperature: float, gumbel_seed: int | None) -> Tensor:
    """A voxel's classes stay in registers, up to 10; the noise is drawn anew."""
    gradient, logits, result = gradient.contiguous(), logits.contiguous(), shared.empty(logits)
    if result.numel():
        pointers = gradient.data_ptr(), logits.data_ptr(), temperature, *_seed(gumbel_seed), result.data_ptr()
        _run(_native().one_hot_argmax_backward, logits.device, _type(logits), _shape(logits), *pointers)
    return result


def _label_edges(labels: Tensor, weights: Sequence[float], dtype: torch.dtype) -> Tensor:
    labels, result = labels.contiguous(), shared.empty(labels, len(weights), dtype)
    if result.numel():
        arguments = labels.data_ptr(), shared.by_axis(weights), result.data_ptr()
        _run(_native().label_edges, labels.device, _type(result), _shape(labels), *arguments)
    return result


def label_edges(labels: Tensor, weights: Sequence[float]) -> Tensor:
    """A thread for each voxel."""
    return _label_edges(labels, weights, torch.float32)


def argmax_edges(logits: Tensor, weights: Sequence[float], temperature: float) -> tuple[Tensor, Tensor]:
    """Label map, then its edges."""
    labels = label_map(logits)
    return _label_edges(labels, weights, logits.dtype), labels


def argmax_edges_backward(
    gradient: Tensor, logits: Tensor, labels: Tensor, weights: Sequence[float], temperature: float
) -> Tensor:
    """Each voxel gathers from its neighbours' labels."""
    gradient, logits, labels, result = *(t.contiguous() for t in (gradient, logits, labels)), shared.empty(logits)
    if result.numel():
        pointers = gradient.data_ptr(), logits.data_ptr(), labels.data_ptr()
        options = shared.by_axis(weights), temperature, result.data_ptr()
        _run(_native().argmax_edges_backward, logits.device, _type(logits), _shape(logits), *pointers, *options)
    return result


def _label_edge_magnitude(labels: Tensor, weights: Sequence[float], eps: float, dtype: torch.dtype) -> Tensor:
    labels, result = labels.contiguous(), shared.empty(labels, 1, dtype)
    if result.numel():
        arguments = labels.data_ptr(), shared.squares(weights), eps, result.data_ptr()
        _run(_native().edge_magnitude, labels.device, _type(result), _shape(labels), *arguments)
    return result


def label_edge_magnitude(labels: Tensor, weights: Sequence[float], eps: float) -> Tensor:
    """Tile by tile, four voxels in a word."""
    return _label_edge_magnitude(labels, weights, eps, torch.float32)


def edge_magnitude(logits: Tensor, weights: Sequence[float], temperature: float, eps: float) -> tuple[Tensor, Tensor]:
    """Label map, then its magnitude."""
    labels = label_map(logits)
    return _label_edge_magnitude(labels, weights, eps, logits.dtype), labels


def edge_magnitude_backward(
    gradient: Tensor, magnitude: Tensor, labels: Tensor, logits: Tensor, weights: Sequence[float], temperature: float
) -> Tensor:
    """Tile by tile; logits are read where an edge is near."""
    gradient, magnitude, labels, logits = (t.contiguous() for t in (gradient, magnitude, labels, logits))
    result = shared.empty(logits)
    if result.numel():
        pointers = gradient.data_ptr(), magnitude.data_ptr(), labels.data_ptr(), logits.data_ptr()
        options = shared.squares(weights), temperature, result.data_ptr()
        _run(_native().edge_magnitude_backward, logits.device, _type(logits), _shape(logits), *pointers, *options)
    return result


def sobel(image: Tensor, weights: Sequence[float], eps: float) -> Tensor:
    """Tile by tile."""
    image, result = shared.as_batch(image), shared.empty(image)
    if result.numel():
        arguments = image.data_ptr(), shared.scales(weights), eps, result.data_ptr()
        _run(_native().sobel, image.device, _type(image), _shape(image), *arguments)
    return result


def sobel_backward(gradient: Tensor, image: Tensor, weights: Sequence[float], eps: float) -> Tensor:
    """Tile by tile."""
    gradient, flat, result = gradient.contiguous(), shared.as_batch(image), shared.empty(image)
    if result.numel():
        arguments = gradient.data_ptr(), flat.data_ptr(), shared.scales(weights), eps, result.data_ptr()
        _run(_native().sobel_backward, flat.device, _type(flat), _shape(flat), *arguments)
    return result


def median(score: Tensor, size: int) -> Tensor:
    """The bits of the median, from the highest down."""
    flat, result = shared.as_batch(score), shared.empty(score)
    if result.numel():
        _run(_native().median, flat.device, _type(flat), _shape(flat), flat.data_ptr(), size, result.data_ptr())
    return result


def resample_argmax(logits: Tensor, matrix: Sequence[float], shape: Sequence[int]) -> Tensor:
    """Interpolated and compared class by class."""
    logits = logits.contiguous()
    result = torch.empty([logits.shape[0], 1, *shape], dtype=torch.uint8, device=logits.device)
    if result.numel():
        rows = shared.rows_of(matrix, len(shape))
        arguments = logits.data_ptr(), rows, _shape(result), result.data_ptr()
        _run(_native().resample_argmax, logits.device, _type(logits), _shape(logits), *arguments)
    return result


def contrast(labels: Tensor, means: Tensor, spreads: Tensor, seed: int) -> Tensor:
    """Noise is drawn where it is used.

    Raises:
        IndexError: a label without a mean.
    """
    shared.check_labels(labels, means.shape[1])
    labels, means, spreads = (t.contiguous() for t in (labels, means, spreads))
    result = shared.empty(labels, 1, torch.float32)
    if result.numel():
        tables = means.data_ptr(), spreads.data_ptr(), means.shape[1]
        pointers = labels.data_ptr(), *tables, seed % 2**64, result.data_ptr()
        _run(_native().contrast, labels.device, _shape(labels), *pointers)
    return result

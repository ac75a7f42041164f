"""The operators in CUDA C++ (``csrc/cuda``): addresses and a stream go across, nothing of torch does.

The module is built where ``nvcc`` is found, for compute capability 8.0, 9.0 and newer. float64, and class scores of
more than 64 classes, are left to the next backend.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
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


def _run(operator: str, result: Tensor, *arguments: Any) -> Tensor:
    """Queue the work on the current stream of the result's device; the result comes last among a kernel's arguments."""
    if result.numel():
        with torch.cuda.device(result.device):
            stream = torch.cuda.current_stream(result.device).cuda_stream
            getattr(_native(), operator)(stream, *shared.addresses((*arguments, result)))
    return result


def _type(x: Tensor) -> Any:
    return getattr(_native().Type, _TYPES[x.dtype])


def _shape(x: Tensor) -> Any:
    return _native().Shape([*x.shape[:2], *shared.grid(x)], x.ndim == 4)


def label_map(logits: Tensor) -> Tensor:
    """A thread for each 16 bytes of a class."""
    logits = logits.contiguous()
    return _run("label_map", shared.empty(logits, 1, torch.uint8), _type(logits), _shape(logits), logits)


def one_hot_argmax(logits: Tensor, temperature: float, gumbel_seed: int | None) -> Tensor:
    """The same; noise is drawn where it is used."""
    logits, seed = logits.contiguous(), shared.seed_of(gumbel_seed)
    return _run("one_hot_argmax", shared.empty(logits), _type(logits), _shape(logits), logits, *seed)


def one_hot_argmax_backward(gradient: Tensor, logits: Tensor, temperature: float, gumbel_seed: int | None) -> Tensor:
    """A voxel's classes stay in registers, up to 10; the noise is drawn anew."""
    given, options = shared.contiguous(gradient, logits), (temperature, *shared.seed_of(gumbel_seed))
    return _run("one_hot_argmax_backward", shared.empty(logits), _type(logits), _shape(logits), *given, *options)


def _label_edges(labels: Tensor, weights: Sequence[float], dtype: torch.dtype) -> Tensor:
    labels, result = labels.contiguous(), shared.empty(labels, len(weights), dtype)
    return _run("label_edges", result, _type(result), _shape(labels), labels, shared.by_axis(weights))


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
    given, options = shared.contiguous(gradient, logits, labels), (shared.by_axis(weights), temperature)
    return _run("argmax_edges_backward", shared.empty(logits), _type(logits), _shape(logits), *given, *options)


def _label_edge_magnitude(labels: Tensor, weights: Sequence[float], eps: float, dtype: torch.dtype) -> Tensor:
    labels, result = labels.contiguous(), shared.empty(labels, 1, dtype)
    return _run("edge_magnitude", result, _type(result), _shape(labels), labels, shared.squares(weights), eps)


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
    given, options = shared.contiguous(gradient, magnitude, labels, logits), (shared.squares(weights), temperature)
    return _run("edge_magnitude_backward", shared.empty(logits), _type(logits), _shape(logits), *given, *options)


def sobel(image: Tensor, weights: Sequence[float], eps: float) -> Tensor:
    """Tile by tile."""
    flat = shared.as_batch(image)
    return _run("sobel", shared.empty(image), _type(flat), _shape(flat), flat, shared.scales(weights), eps)


def sobel_backward(gradient: Tensor, image: Tensor, weights: Sequence[float], eps: float) -> Tensor:
    """Tile by tile."""
    gradient, flat = gradient.contiguous(), shared.as_batch(image)
    options = shared.scales(weights), eps
    return _run("sobel_backward", shared.empty(image), _type(flat), _shape(flat), gradient, flat, *options)


def median(score: Tensor, size: int) -> Tensor:
    """The bits of the median, from the highest down."""
    flat = shared.as_batch(score)
    return _run("median", shared.empty(score), _type(flat), _shape(flat), flat, size)


def resample_argmax(logits: Tensor, matrix: Sequence[float], shape: Sequence[int]) -> Tensor:
    """Interpolated and compared class by class."""
    logits, rows = logits.contiguous(), shared.rows_of(matrix, len(shape))
    result = torch.empty([logits.shape[0], 1, *shape], dtype=torch.uint8, device=logits.device)
    return _run("resample_argmax", result, _type(logits), _shape(logits), logits, rows, _shape(result))


def contrast(labels: Tensor, means: Tensor, spreads: Tensor, seed: int) -> Tensor:
    """Noise is drawn where it is used.

    Raises:
        IndexError: a label without a mean.
    """
    shared.check_labels(labels, means.shape[1])
    labels, means, spreads = shared.contiguous(labels, means, spreads)
    options = means.shape[1], seed % 2**64
    return _run("contrast", shared.empty(labels, 1, torch.float32), _shape(labels), labels, means, spreads, *options)


def soft_contrast(shares: Tensor, means: Tensor, spreads: Tensor, seed: int) -> Tensor:
    """Four voxels to a thread, as many as a counter gives noise to."""
    given = shared.contiguous(shares, means, spreads)
    return _run("soft_contrast", shared.empty(shares, 1), _shape(shares), *given, seed % 2**64)

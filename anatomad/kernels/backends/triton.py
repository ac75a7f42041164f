"""The operators in Triton (``anatomad/kernels/_triton``): for GPUs where the CUDA module is not built.

Under ``TRITON_INTERPRET=1``, set before the first call, Triton's interpreter runs them on CPU tensors, for tests.
float64, and class scores of more than 64 classes, are left to the reference.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import math
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from anatomad.kernels.backends import _accelerated as shared

_SLOTS = 2  # programs on each multiprocessor that share out the tiles of the edge gradient
_FAR = 2**31  # voxels from which on places need 64 bits
_FLAT_TILE, _DEEP_TILE = (1, 8, 32), (4, 4, 16)
_SMALL_TILE = (2, 4, 32)  # of the edges' forward pass and the median
_IMAGE_TILE = (2, 4, 64)  # of the image stencils: whole rows
_UNROLLED = 16  # classes up to which loops over them are unrolled


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


@functools.cache
def _installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def status() -> str:
    """Whether it can run, and on what."""
    if not _installed():
        return "not installed: pip install 'anatomad[triton]'"
    if _interpreted():
        return "ready (interpreted, on CPU)"
    if not torch.cuda.is_available():
        return "installed, but there is no CUDA device; TRITON_INTERPRET=1 runs it on CPU, for tests"
    return f"ready ({torch.cuda.get_device_name()})"


def supports(operator: str, *tensors: Tensor) -> bool:
    """CUDA tensors in single or half precision or whole numbers, at most 64 classes; CPU tensors when interpreted."""
    return _installed() and shared.serves("cpu" if _interpreted() else "cuda", operator, *tensors)


def launch(
    name: str, jobs: int, *arguments: Tensor | int | float, warps: int = 4, fused: bool = True, **constants: Any
) -> None:
    """Run kernel ``name`` with ``jobs`` programs; noise asks for no fused products."""
    file, kernel = name.split(".")
    function = getattr(importlib.import_module(f"anatomad.kernels._triton.{file}"), f"{kernel}_kernel")
    tensor = next(a for a in arguments if isinstance(a, Tensor))
    with torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext():
        function[(jobs,)](*arguments, **constants, num_warps=warps, enable_fp_fusion=fused)


def _index(x: Tensor) -> Any:
    import triton.language as tl

    return tl.int64 if shared.voxels(x) >= _FAR else tl.int32


def _runs(x: Tensor, block: int) -> tuple[int, dict[str, Any]]:
    """Programs, and the constants that go with them, of kernels that work on runs of voxels."""
    return x.shape[0] * -(-shared.voxels(x) // block), {"block": block, "index": _index(x)}


def _tiles(x: Tensor, sizes: tuple[int, int, int] | None = None) -> tuple[int, dict[str, Any]]:
    """The same of kernels that work on tiles."""
    flat = x.ndim == 4
    tile = sizes or (_FLAT_TILE if flat else _DEEP_TILE)
    tiles = math.prod(-(-n // t) for n, t in zip(shared.grid(x), tile, strict=True))
    constants = dict(zip(("tz", "ty", "tx"), tile, strict=True))
    return x.shape[0] * tiles, {"flat": flat, **constants, "index": _index(x)}


def _small_tiles(x: Tensor) -> tuple[int, dict[str, Any]]:
    return _tiles(x, _FLAT_TILE if x.ndim == 4 else _SMALL_TILE)


def _image_tiles(x: Tensor) -> tuple[int, dict[str, Any]]:
    return _tiles(x, (1, 8, 64) if x.ndim == 4 else _IMAGE_TILE)


def _vector(x: Tensor, noisy: bool = False) -> int:
    """Voxels that 128 threads take with one 16-byte load each; noise needs the registers for itself."""
    return 256 if noisy else 128 * 16 // x.element_size()


def _unroll(classes: int) -> int:
    return classes if classes <= _UNROLLED else 1


def label_map(logits: Tensor) -> Tensor:
    """Runs of voxels, class by class."""
    logits, result = logits.contiguous(), shared.empty(logits, 1, torch.uint8)
    if result.numel():
        jobs, constants = _runs(logits, _vector(logits))
        classes = logits.shape[1]
        arguments = logits, result, shared.voxels(logits)
        launch("label_map.label_map", jobs, *arguments, classes=classes, unroll=_unroll(classes), **constants)
    return result


def _noise(logits: Tensor, gumbel_seed: int | None) -> dict[str, Any]:
    classes, noisy = logits.shape[1], gumbel_seed is not None
    unroll = 1 if noisy else _unroll(-(-classes // 4))
    return {"classes": classes, "noisy": noisy, "unroll": unroll, "fused": not noisy}


def one_hot_argmax(logits: Tensor, temperature: float, gumbel_seed: int | None) -> Tensor:
    """Runs of voxels; noise is drawn where it is used."""
    logits, result = logits.contiguous(), shared.empty(logits)
    if result.numel():
        jobs, constants = _runs(logits, _vector(logits, gumbel_seed is not None))
        arguments = logits, result, shared.voxels(logits), *shared.signed_words(gumbel_seed)
        launch("one_hot.one_hot", jobs, *arguments, **constants, **_noise(logits, gumbel_seed))
    return result


def one_hot_argmax_backward(gradient: Tensor, logits: Tensor, temperature: float, gumbel_seed: int | None) -> Tensor:
    """Softmax and its gradient; the noise is drawn anew."""
    gradient, logits, result = *shared.contiguous(gradient, logits), shared.empty(logits)
    if result.numel():
        jobs, constants = _runs(logits, _vector(logits, gumbel_seed is not None))
        seed = shared.signed_words(gumbel_seed)
        arguments = gradient, logits, result, shared.voxels(logits), *seed, temperature
        launch("one_hot.one_hot_backward", jobs, *arguments, **constants, **_noise(logits, gumbel_seed))
    return result


def _label_edges(labels: Tensor, weights: Sequence[float], dtype: torch.dtype) -> Tensor:
    labels, result = labels.contiguous(), shared.empty(labels, len(weights), dtype)
    if result.numel():
        jobs, constants = _runs(labels, 1024)
        arguments = labels, result, *shared.grid(labels), *shared.by_axis(weights)
        launch("edges.label_edges", jobs, *arguments, flat=labels.ndim == 4, **constants)
    return result


def label_edges(labels: Tensor, weights: Sequence[float]) -> Tensor:
    """Runs of voxels and the next along each axis."""
    return _label_edges(labels, weights, torch.float32)


def argmax_edges(logits: Tensor, weights: Sequence[float], temperature: float) -> tuple[Tensor, Tensor]:
    """Label map, then its edges."""
    labels = label_map(logits)
    return _label_edges(labels, weights, logits.dtype), labels


def argmax_edges_backward(
    gradient: Tensor, logits: Tensor, labels: Tensor, weights: Sequence[float], temperature: float
) -> Tensor:
    """Each voxel gathers from its neighbours' labels."""
    gradient, logits, labels, result = *shared.contiguous(gradient, logits, labels), shared.empty(logits)
    if result.numel():
        jobs, constants = _runs(logits, 512)
        axes = shared.by_axis(weights)
        arguments = gradient, logits, labels, result, *shared.grid(labels), *axes, temperature
        constants |= {"flat": labels.ndim == 4, "classes": logits.shape[1], "unroll": 1}
        launch("edges.argmax_edges_backward", jobs, *arguments, **constants)
    return result


def _label_edge_magnitude(labels: Tensor, weights: Sequence[float], eps: float, dtype: torch.dtype) -> Tensor:
    labels, result = labels.contiguous(), shared.empty(labels, 1, dtype)
    if result.numel():
        jobs, constants = _small_tiles(labels)
        arguments = labels, result, *shared.grid(labels), *shared.squares(weights), eps
        launch("edge_magnitude.edge_magnitude", jobs, *arguments, warps=8, **constants)
    return result


def label_edge_magnitude(labels: Tensor, weights: Sequence[float], eps: float) -> Tensor:
    """Tile by tile, the classes that are near."""
    return _label_edge_magnitude(labels, weights, eps, torch.float32)


def edge_magnitude(logits: Tensor, weights: Sequence[float], temperature: float, eps: float) -> tuple[Tensor, Tensor]:
    """Label map, then its magnitude."""
    labels = label_map(logits)
    return _label_edge_magnitude(labels, weights, eps, logits.dtype), labels


def _programs(device: torch.device) -> int:
    """Programs that take turns at the tiles of the edge gradient."""
    processors = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
    return _SLOTS * processors


def edge_magnitude_backward(
    gradient: Tensor, magnitude: Tensor, labels: Tensor, logits: Tensor, weights: Sequence[float], temperature: float
) -> Tensor:
    """Tile by tile; logits are read where an edge is near."""
    gradient, magnitude, labels, logits = shared.contiguous(gradient, magnitude, labels, logits)
    result = shared.empty(logits)
    if result.numel():
        tiles, constants = _tiles(logits)
        size, classes = [constants[name] for name in ("tz", "ty", "tx")], logits.shape[1]
        around = math.prod(n + 2 for n in (size[1:] if constants["flat"] else size))
        halo = 1 << (around - 1).bit_length()
        programs = min(tiles, _programs(logits.device))
        numbers = programs * (3 * halo + classes * math.prod(size))
        scratch = torch.empty(numbers, dtype=torch.float32, device=logits.device)
        arguments = gradient, magnitude, labels, logits, result, scratch, tiles, *shared.grid(labels)
        options = *shared.squares(weights), temperature
        constants |= {"classes": classes, "halo": halo, "warps": 16}
        launch("edge_magnitude.edge_magnitude_backward", programs, *arguments, *options, **constants)
    return result


def sobel(image: Tensor, weights: Sequence[float], eps: float) -> Tensor:
    """Tile by tile."""
    image, result = shared.as_batch(image), shared.empty(image)
    if result.numel():
        jobs, constants = _image_tiles(image)
        scales = shared.scales(weights)
        launch("sobel.sobel", jobs, image, result, *shared.grid(image), *scales, eps, **constants)
    return result


def sobel_backward(gradient: Tensor, image: Tensor, weights: Sequence[float], eps: float) -> Tensor:
    """The derivatives' shares of the gradient are written, then gathered."""
    gradient, flat, result = gradient.contiguous(), shared.as_batch(image), shared.empty(image)
    if result.numel():
        jobs, constants = _image_tiles(flat)
        scales = shared.scales(weights)
        shares = list(torch.empty(3, flat.numel(), dtype=torch.float32, device=flat.device))
        arguments = gradient, flat, *shares, *shared.grid(flat), *scales, eps
        launch("sobel.sobel_shares", jobs, *arguments, **constants)
        launch("sobel.sobel_gather", jobs, *shares, result, *shared.grid(flat), **constants)
    return result


def median(score: Tensor, size: int) -> Tensor:
    """The bits of the median, from the highest down."""
    flat, result = shared.as_batch(score), shared.empty(score)
    if result.numel():
        jobs, constants = _small_tiles(flat)
        bits = 8 * flat.element_size()
        launch("median.median", jobs, flat, result, *shared.grid(flat), bits=bits, size=size, **constants)
    return result


def resample_argmax(logits: Tensor, matrix: Sequence[float], shape: Sequence[int]) -> Tensor:
    """Interpolated and compared class by class."""
    logits = logits.contiguous()
    result = torch.empty([logits.shape[0], 1, *shape], dtype=torch.uint8, device=logits.device)
    if result.numel():
        jobs, constants = _runs(result, 256)
        rows = torch.tensor(shared.rows_of(matrix, len(shape)), dtype=torch.float32, device=logits.device)
        grid = *shared.grid(logits), *shared.grid(result)[1:], shared.voxels(result)
        constants |= {"flat": len(shape) == 2, "classes": logits.shape[1]}
        constants["index"] = max((constants["index"], _index(logits)), key=lambda t: t.primitive_bitwidth)
        launch("resample.resample_argmax", jobs, logits, result, rows, *grid, **constants)
    return result


def contrast(labels: Tensor, means: Tensor, spreads: Tensor, seed: int) -> Tensor:
    """Noise is drawn where it is used.

    Raises:
        IndexError: a label without a mean.
    """
    shared.check_labels(labels, means.shape[1])
    labels, means, spreads = shared.contiguous(labels, means, spreads)
    result = shared.empty(labels, 1, torch.float32)
    if result.numel():
        constants = {"block": 1024, "index": _index(labels.view(1, 1, -1))}
        arguments = labels, means, spreads, result, shared.voxels(labels), labels.numel(), means.shape[1]
        jobs = -(-labels.numel() // 1024)
        launch("contrast.contrast", jobs, *arguments, *shared.signed_words(seed), fused=False, **constants)
    return result


def soft_contrast(shares: Tensor, means: Tensor, spreads: Tensor, seed: int) -> Tensor:
    """Sums over the classes; noise is drawn where it is used."""
    shares, means, spreads = shared.contiguous(shares, means, spreads)
    result = shared.empty(shares, 1)
    if result.numel():
        constants = {"classes": shares.shape[1], "block": 512, "index": _index(shares.view(1, 1, -1))}
        arguments = shares, means, spreads, result, shared.voxels(shares), result.numel()
        jobs = -(-result.numel() // 512)
        launch("contrast.soft_contrast", jobs, *arguments, *shared.signed_words(seed), fused=False, **constants)
    return result

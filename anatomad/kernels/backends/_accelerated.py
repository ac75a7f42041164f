"""What the backends beside the reference share: which calls they serve, and what their kernels see of tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
MOST_CLASSES = 64
_OF_SCORES = ("label_map", "one_hot_argmax", "argmax_edges", "edge_magnitude", "resample_argmax")
_CALLS = 2**31 - 1  # blocks that one launch can have


def serves(device: str, operator: str, *tensors: Tensor) -> bool:
    """Tensors on that kind of device, one floating-point type, at most 64 classes."""
    known = (torch.uint8, torch.uint16) if operator == "median" else (*FLOATS, torch.uint8)
    there = all(t.device.type == device and t.dtype in known and t.numel() < 32 * _CALLS for t in tensors)
    return there and _alike(tensors) and not (_of_scores(operator) and _classes(tensors) > MOST_CLASSES)


def _alike(tensors: Sequence[Tensor]) -> bool:
    floats = {t.dtype for t in tensors if t.is_floating_point()}
    return len({t.device for t in tensors}) == 1 and len(floats) <= 1


def _of_scores(operator: str) -> bool:
    return operator.removesuffix("_backward") in _OF_SCORES


def _classes(tensors: Sequence[Tensor]) -> int:
    return max(t.shape[1] for t in tensors)


def empty(x: Tensor, channels: int | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """Contiguous [batch, channels, *spatial] beside ``x``."""
    shape = [x.shape[0], x.shape[1] if channels is None else channels, *x.shape[2:]]
    return torch.empty(shape, dtype=dtype or x.dtype, device=x.device)


def grid(x: Tensor) -> tuple[int, int, int]:
    """Depth, height and width; 2D has depth 1."""
    depth, height, width = [1] * (5 - x.ndim) + list(x.shape[2:])
    return depth, height, width


def addresses(arguments: Iterable[Any]) -> list[Any]:
    """What crosses the boundary to a native module: of a tensor its address."""
    return [a.data_ptr() if isinstance(a, Tensor) else a for a in arguments]


def seed_of(gumbel_seed: int | None) -> tuple[bool, int]:
    """Whether there is noise, and the 64 bits that decide it."""
    return gumbel_seed is not None, (gumbel_seed or 0) % 2**64


def by_axis(weights: Sequence[float], scale: float = 1.0) -> tuple[float, float, float]:
    """One number for depth, height and width; 2D has 0 for its depth."""
    z, y, x = [0.0] * (3 - len(weights)) + [scale * w for w in weights]
    return z, y, x


def scales(weights: Sequence[float]) -> tuple[float, float, float]:
    """Weights of whole Sobel derivatives: differences count 1/2, smoothing 1/4 per other axis."""
    return by_axis(weights, 1 / (2 * 4 ** (len(weights) - 1)))


def squares(weights: Sequence[float]) -> tuple[float, float, float]:
    """Weights of their squares."""
    z, y, x = scales(weights)
    return z * z, y * y, x * x


def rows_of(matrix: Sequence[float], axes: int) -> list[float]:
    """An affine matrix as 3 rows of 4; 2D leaves the first row and column at zero."""
    rows = [[*[0.0] * (3 - axes), *matrix[i : i + axes + 1]] for i in range(0, len(matrix), axes + 1)]
    return [value for row in [[0.0] * 4] * (3 - axes) + rows for value in row]


def check_labels(labels: Tensor, classes: int) -> None:
    """Every label has an entry in a table.

    Raises:
        IndexError: one has none.
    """
    if labels.numel() and int(labels.max()) >= classes:
        raise IndexError(f"labels must be below {classes}, the number of means; got {int(labels.max())}")


def signed_words(seed: int | None) -> tuple[int, int]:
    """The low and the high half of a seed of 64 bits, as signed numbers of 32."""
    seed = (seed or 0) % 2**64
    low, high = ((half + 2**31) % 2**32 - 2**31 for half in (seed % 2**32, seed >> 32))
    return low, high


def contiguous(*tensors: Tensor) -> list[Tensor]:
    """Each of them in rows."""
    return [t.contiguous() for t in tensors]


def voxels(x: Tensor) -> int:
    """Voxels of one volume."""
    return math.prod(x.shape[2:])


def as_batch(image: Tensor) -> Tensor:
    """Contiguous, every channel a batch entry of its own."""
    return image.contiguous().view(-1, 1, *image.shape[2:]) if image.numel() else image

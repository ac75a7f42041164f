"""What every operator asks of its input before any kernel starts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

MAX_LABELS = 256
MAX_EDGE_CLASSES = 64


def scores(x: Tensor, name: str, most: int = MAX_LABELS) -> None:
    """Floating point [batch, class, *spatial], 2D or 3D, at most ``most`` classes.

    Raises:
        ValueError: it is something else.
    """
    if x.ndim not in (4, 5) or not x.is_floating_point():
        raise ValueError(
            f"{name} must be floating point [batch, class, *spatial] in 2D or 3D, got {x.dtype} {list(x.shape)}"
        )
    if not 1 <= x.shape[1] <= most:
        raise ValueError(f"{name} must hold 1 to {most} classes: at most {most} classes, got {x.shape[1]}")


def label_maps(x: Tensor) -> None:
    """uint8 [batch, 1, *spatial], 2D or 3D.

    Raises:
        ValueError: it is something else.
    """
    if x.ndim not in (4, 5) or x.dtype != torch.uint8 or x.shape[1] != 1:
        raise ValueError(f"labels must be uint8 [batch, 1, *spatial] in 2D or 3D, got {x.dtype} {list(x.shape)}")


def tables(tissue: Tensor, means: Tensor, spreads: Tensor) -> int:
    """One mean and one spread per class, or per batch entry and class; returns the number of classes.

    Raises:
        ValueError: other shapes, or too many classes.
    """
    batch, classes = tissue.shape[0], means.shape[-1] if means.ndim else 0
    if means.shape != spreads.shape or means.shape not in ((classes,), (batch, classes)):
        raise ValueError(
            f"means and spreads must both be [class] or [{batch}, class] for a tissue map {list(tissue.shape)}, "
            f"got {list(means.shape)} and {list(spreads.shape)}"
        )
    if not 1 <= classes <= MAX_LABELS:
        raise ValueError(f"means must hold 1 to {MAX_LABELS} classes, got {classes}")
    return classes


def spacings(x: Tensor, spacing: Sequence[float]) -> None:
    """One positive voxel size per spatial axis.

    Raises:
        ValueError: too many, too few, or one that is not a positive number.
    """
    if x.ndim not in (4, 5) or len(spacing) != x.ndim - 2:
        raise ValueError(
            f"need one spacing per spatial axis of a 2D or 3D map, got {list(x.shape)} and {tuple(spacing)}"
        )
    if not all(0 < s < math.inf for s in spacing):
        raise ValueError(f"spacing must be positive, got {tuple(spacing)}")


def relative(spacing: Sequence[float]) -> list[float]:
    """Weight of each axis, min(spacing) / spacing: an edge across thick slices counts less."""
    return [min(spacing) / s for s in spacing]


def positive(value: float, name: str) -> None:
    """A number above 0.

    Raises:
        ValueError: it is not.
    """
    if not value > 0:
        raise ValueError(f"{name} must be > 0, got {value}")


def not_negative(value: float, name: str) -> None:
    """A finite number, 0 or above.

    Raises:
        ValueError: it is not.
    """
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and >= 0, got {value}")


def one_device(**tensors: Tensor) -> None:
    """All on one device.

    Raises:
        ValueError: they are on several.
    """
    if len({t.device for t in tensors.values()}) > 1:
        where = ", ".join(f"{name} on {t.device}" for name, t in tensors.items())
        raise ValueError(f"all tensors must be on one device, got {where}; move them with .to(device)")

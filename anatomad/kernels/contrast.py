"""An image drawn from a tissue map."""

from __future__ import annotations

from torch import Tensor

from anatomad.kernels import _checks, _ops


def contrast(labels: Tensor, means: Tensor, spreads: Tensor, seed: int) -> Tensor:
    """Image in which every class has its own mean and normal spread (after SynthSeg, Billot et al., 2023).

    ``I(p) = means[l(p)] + spreads[l(p)] n(p)`` with standard normal ``n``, a function of the seed and the voxel: the
    same on every backend and device.

    Args:
        labels: [batch, 1, *spatial], uint8, 2D or 3D, each below the number of classes.
        means: [batch, class] or [class], floating point.
        spreads: Like ``means``, >= 0.
        seed: Of the noise; 64 bits count.

    Returns:
        float32 [batch, 1, *spatial], in the units of ``means``.

    Raises:
        ValueError: shapes or types that do not fit, or tensors on several devices.
    """
    _checks.label_maps(labels)
    _checks.one_device(labels=labels, means=means, spreads=spreads)
    expected = (labels.shape[0], means.shape[-1] if means.ndim else 0)
    if means.shape != spreads.shape or means.ndim not in (1, 2) or (means.ndim == 2 and means.shape != expected):
        raise ValueError(
            f"means and spreads must both be [class] or [{labels.shape[0]}, class] for labels {list(labels.shape)}, "
            f"got {list(means.shape)} and {list(spreads.shape)}"
        )
    if not 1 <= expected[1] <= _checks.MAX_LABELS:
        raise ValueError(f"means must hold 1 to {_checks.MAX_LABELS} classes, got {expected[1]}")
    means, spreads = (table.float().expand(expected).contiguous() for table in (means, spreads))
    return _ops.contrast(labels, means, spreads, seed)

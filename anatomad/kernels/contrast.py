"""An image drawn from a tissue map."""

from __future__ import annotations

from torch import Tensor

from anatomad.kernels import _checks, _ops


def contrast(tissue: Tensor, means: Tensor, spreads: Tensor, seed: int) -> Tensor:
    """Image in which every class has its own mean and normal spread (after SynthSeg, Billot et al., 2023).

    ``I(p) = sum_k t_k(p) means[k] + n(p) sum_k t_k(p) spreads[k]`` with standard normal ``n``, a function of the seed
    and the voxel: the same on every backend and device. ``t`` is the share of a class in a voxel, which partial volume
    divides among several; a label map has one. There is no gradient.

    Args:
        tissue: Label map [batch, 1, *spatial], uint8, each below the number of classes, or shares
            [batch, class, *spatial], floating point, of at most 256 classes; 2D or 3D.
        means: [batch, class] or [class], floating point.
        spreads: Like ``means``, >= 0.
        seed: Of the noise; 64 bits count.

    Returns:
        float32 [batch, 1, *spatial], in the units of ``means``.

    Raises:
        ValueError: shapes or types that do not fit, or tensors on several devices.
    """
    if tissue.is_floating_point():
        _checks.scores(tissue, "shares")
    else:
        _checks.label_maps(tissue)
    _checks.one_device(tissue=tissue, means=means, spreads=spreads)
    classes = _checks.tables(tissue, means, spreads)
    if tissue.is_floating_point():
        tissue = tissue.float()
        if tissue.shape[1] != classes:
            raise ValueError(f"shares {list(tissue.shape)} need {tissue.shape[1]} means, got {classes}")
    means, spreads = (table.float().expand(len(tissue), classes).contiguous() for table in (means, spreads))
    return _ops.contrast(tissue, means, spreads, seed)

"""Label map of class scores."""

from __future__ import annotations

from torch import Tensor

from anatomad.kernels import _checks, _ops


def label_map(logits: Tensor) -> Tensor:
    """Index of the largest score of every voxel.

    Args:
        logits: [batch, class, *spatial], 2D or 3D, floating point, at most 256 classes.

    Returns:
        uint8 [batch, 1, *spatial]. The lowest index wins ties; a NaN never wins over an earlier class, and no class
        wins over a NaN in the first.

    Raises:
        ValueError: wrong rank, integer logits, or more than 256 classes.
    """
    _checks.scores(logits, "logits")
    return _ops.label_map(logits)

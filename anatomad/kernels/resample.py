"""Labels of class scores on another grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from anatomad.kernels import _checks, _ops


def resample_argmax(logits: Tensor, matrix: Sequence[Sequence[float]], shape: Sequence[int]) -> Tensor:
    """Class scores interpolated linearly on an output grid, and the label of the largest: one pass, no scores written.

    Args:
        logits: [batch, class, *spatial], floating point, 2D or 3D, at most 256 classes, no axis empty.
        matrix: One row per spatial axis, [axes, axes + 1]: the place in voxels of ``logits`` of the output voxel ``q``
            is ``matrix[:, :axes] @ q + matrix[:, axes]``. Beyond the border the border counts. Places and weights are
            float32, so that backends may differ where two scores do by rounding only.
        shape: Size of the output grid.

    Returns:
        uint8 [batch, 1, *shape]; ties and NaN as in :func:`anatomad.kernels.label_map`.

    Raises:
        ValueError: wrong rank, integer logits, too many classes, an empty axis, or a grid that does not fit.
    """
    _checks.scores(logits, "logits")
    axes = logits.ndim - 2
    if 0 in logits.shape[2:]:
        raise ValueError(f"logits have no voxel to interpolate: got {list(logits.shape)}")
    if len(shape) != axes or min(shape) < 0:
        raise ValueError(f"shape must give {axes} sizes >= 0 for logits {list(logits.shape)}, got {list(shape)}")
    if [len(row) for row in matrix] != [axes + 1] * axes:
        raise ValueError(f"matrix must be {axes} x {axes + 1} for logits {list(logits.shape)}, got {matrix}")
    flat = [float(value) for row in matrix for value in row]
    if not all(map(math.isfinite, flat)):
        raise ValueError(f"matrix must be finite, got {matrix}")
    return _ops.resample_argmax(logits, flat, list(shape))

"""Several channels of one case as views of one anatomy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_FAR = 5.0  # one healthy voxel in a hundred thousand


def fuse(maps: Sequence[NDArray[np.float32]], brain: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Combine -log10 p maps of one grid, voxel by voxel: the smallest p-value, each divided by its channel's weight.

    A lesion is plain in some sequences and hidden in others, which would only add their noise. So a channel weighs as
    many times more as its share of voxels with p <= 0.00001 exceeds that of healthy brains; in a healthy case all weigh
    alike. Weights are one in sum, so that whatever the channels have in common, no more healthy voxels lie under a
    p-value than it says (weighted Bonferroni: Genovese, Roeder, Wasserman, False discovery control with p-value
    weighting, Biometrika 2006).

    Args:
        maps: -log10 p of each channel [x, y, z], at least one.
        brain: Where they were made [x, y, z].

    Returns:
        -log10 p of the case [x, y, z], at least 0.
    """
    stacked = np.stack(maps)
    far = (stacked[:, brain] >= _FAR).mean(1) if brain.any() else np.zeros(len(stacked))
    odds = 1 + far * 10**_FAR
    weights = np.log10(odds / odds.sum()).astype(np.float32)
    return np.asarray(np.maximum((stacked + weights[:, None, None, None]).max(0), 0), dtype=np.float32)

"""Several channels of one case as views of one anatomy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def fuse(maps: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Combine -log10 p maps of one grid by the harmonic mean of their p-values (Wilson, PNAS 2019).

    It holds its level whatever the dependence between the channels, and one channel that shows a lesion is enough.
    """
    stacked = np.stack(maps) * np.log(10)
    return np.maximum((np.logaddexp.reduce(stacked, axis=0) - np.log(len(maps))) / np.log(10), 0).astype(np.float32)

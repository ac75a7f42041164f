"""The tissue atlas: ICBM152 probability maps at 2 mm, built by ``tools/build_atlas.py``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Atlas:
    """An average healthy adult brain on a RAS grid.

    Attributes:
        tissue: Probabilities (4, x, y, z) in [0, 1] of background, CSF, grey and white matter; they sum to one.
        t1: T1-weighted average (x, y, z) in [0, 1], zero outside the brain.
        affine: Voxel to MNI mm, (4, 4).
    """

    tissue: NDArray[np.float32]
    t1: NDArray[np.float32]
    affine: NDArray[np.float64]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return x, y, z


@cache
def load_atlas() -> Atlas:
    """Load the bundled atlas (Fonov et al., NeuroImage 2011; licence in NOTICE)."""
    with (files("anatomad.preprocess") / "data" / "atlas.npz").open("rb") as stream:
        stored = np.load(stream, allow_pickle=False)
        tissue = stored["tissue"].astype(np.float32)
        tissue /= tissue.sum(0, keepdims=True)
        return Atlas(tissue, stored["t1"].astype(np.float32) / 255, stored["affine"])

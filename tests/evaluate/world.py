"""A folder of predictions with labels, generated."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.factories import make_affine, write_nifti

SHAPE = (14, 12, 10)
AFFINE = make_affine(spacing=(2.0, 2.0, 2.0))
SEQUENCES = {"0": "T1w", "1": "FLAIR"}


@dataclass(frozen=True)
class World:
    """``root/Data/labelsTs`` and ``root/out``; cases have a lesion of the given number of voxels in a row."""

    root: Path

    @property
    def references(self) -> Path:
        return self.root / "Data" / "labelsTs"

    @property
    def predictions(self) -> Path:
        return self.root / "out"

    def label(self, case: str, voxels: int) -> NDArray[np.int16]:
        lesion = np.zeros(SHAPE, np.int16)
        lesion[3 : 3 + voxels, 5, 5] = 2
        write_nifti(self.references / f"{case}.nii.gz", lesion, AFFINE)
        return lesion

    def predict(self, id_: str, lesion: NDArray[np.int16], score: float = 1.0, folder: str = "out") -> None:
        """Write a map that scores the lesion higher by ``score``; the brain leaves out the outermost voxels."""
        rng = np.random.default_rng([*id_.encode()])
        brain = np.zeros(SHAPE, bool)
        brain[1:-1, 1:-1, 1:-1] = True
        anomaly = np.where(brain, rng.random(SHAPE) + score * (lesion > 0), 0).astype("f4")
        stem = self.root / folder / id_
        write_nifti(Path(f"{stem}_anomaly.nii.gz"), anomaly, AFFINE)
        write_nifti(Path(f"{stem}_anatomy.nii.gz"), brain.astype("u1"), AFFINE)
        write_nifti(Path(f"{stem}_mask.nii.gz"), (anomaly > 0.99).astype("u1"), AFFINE)
        Path(f"{stem}.json").write_text(json.dumps({"score": score}))

    def describe(self) -> None:
        (self.root / "Data" / "dataset.json").write_text(json.dumps({"channel_names": SEQUENCES}))


def make_world(root: Path) -> World:
    """Three cases in two sequences, one of the cases without a lesion."""
    world = World(root)
    for case, voxels in (("A", 6), ("B", 3), ("C", 0)):
        lesion = world.label(case, voxels)
        for channel in (0, 1):
            world.predict(f"{case}_{channel:04d}", lesion, score=voxels / 10 * (1 + channel))
    world.describe()
    return world

"""One anomaly map measured against its lesion label, from arrays: also for maps of other methods."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from anatomad.errors import DataError
from anatomad.evaluate.metrics import (
    Bools,
    Detection,
    Overlap,
    Ranking,
    SortedScores,
    detect,
    overlap,
    rank,
    sort_scores,
)


@dataclass(frozen=True, eq=False)
class Volume:
    """What one prediction and its label say.

    Attributes:
        subject: whom the bootstrap draws.
        scores: sorted scores of the evaluated voxels.
        outside: lesion voxels outside the predicted brain; they are among ``scores`` with the lowest score.
        voxel_ml: volume of a voxel in ml.
        overlap, detection: of the thresholded mask; None without a mask.
        score: anomaly score of the whole scan; None where none was predicted.
    """

    case_id: str
    subject: str
    scores: SortedScores = field(repr=False)
    ranking: Ranking
    brain_voxels: int
    outside: int
    voxel_ml: float
    overlap: Overlap | None
    detection: Detection | None
    score: float | None

    @property
    def healthy(self) -> bool:
        """Whether the label holds no lesion."""
        return self.ranking.lesion_voxels == 0

    @property
    def mask_ml(self) -> float | None:
        """Volume of the thresholded mask in ml."""
        return None if self.overlap is None else self.overlap.mask * self.voxel_ml

    def without_scores(self) -> Volume:
        """The same, its voxels forgotten: for when only one sequence's voxels fit into memory."""
        nothing = np.empty(0, np.float32)
        return replace(self, scores=SortedScores(nothing, nothing))


def measure(
    case_id: str,
    anomaly: NDArray[np.floating],
    brain: Bools,
    lesion: Bools,
    *,
    mask: Bools | None = None,
    voxel_ml: float = 0.001,
    subject: str | None = None,
    score: float | None = None,
) -> Volume:
    """Measure a map (larger is more anomalous) over the voxels of the brain and of the lesion; all arrays (x, y, z).

    A lesion voxel outside ``brain`` counts as missed: it takes part with a score below every other.

    Raises:
        DataError: the map holds NaN or infinite values in the brain, shapes differ, or nothing is left to measure.
    """
    shapes = {array.shape for array in (anomaly, brain, lesion, mask) if array is not None}
    if len(shapes) > 1:
        raise DataError(f"{case_id}: map, brain, label and mask have shapes {sorted(shapes)}; give them one grid")
    if not np.isfinite(anomaly[brain]).all():
        raise DataError(f"{case_id}: NaN or infinite values in the anomaly map; predict this case again")
    evaluated = brain | lesion
    if not evaluated.any():
        raise DataError(f"{case_id}: the anomaly map holds no brain and the label no lesion; predict this case again")
    scores = sort_scores(np.where(brain, anomaly, -np.inf)[evaluated], lesion[evaluated])
    return Volume(
        case_id=case_id,
        subject=case_id if subject is None else subject,
        scores=scores,
        ranking=rank([scores]),
        brain_voxels=int(np.count_nonzero(brain)),
        outside=int(np.count_nonzero(lesion & ~brain)),
        voxel_ml=voxel_ml,
        overlap=None if mask is None else overlap(mask, lesion),
        detection=None if mask is None else detect(mask, lesion),
        score=score,
    )

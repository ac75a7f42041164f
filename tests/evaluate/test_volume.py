from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from anatomad.errors import DataError
from anatomad.evaluate.volume import measure

SHAPE = (8, 7, 6)


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    brain, lesion = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    brain[1:7, 1:6, 1:5] = True
    lesion[2:4, 2:4, 3:6] = True  # the last slice lies outside the brain
    return rng.random(SHAPE).astype(np.float32), brain, lesion


def test_lesion_outside_the_brain_is_missed() -> None:
    anomaly, brain, lesion = scene()
    volume = measure("A", anomaly, brain, lesion)
    evaluated = brain | lesion
    scores = np.where(brain, anomaly, -1)[evaluated]
    assert volume.outside == 4
    assert volume.ranking.lesion_voxels == 12
    assert volume.ranking.average_precision == pytest.approx(average_precision_score(lesion[evaluated], scores))


def test_what_lies_outside_the_brain_does_not_matter() -> None:
    anomaly, brain, lesion = scene()
    other = np.where(brain, anomaly, np.nan)
    assert measure("A", other, brain, lesion).ranking == measure("A", anomaly, brain, lesion).ranking


def test_healthy_scan() -> None:
    anomaly, brain, lesion = scene()
    volume = measure("A", anomaly, brain, np.zeros_like(lesion), mask=anomaly > 0.9, voxel_ml=0.008)
    assert volume.healthy
    assert volume.mask_ml == pytest.approx(0.008 * (anomaly > 0.9).sum())
    assert volume.ranking.average_precision is None


def test_without_a_mask() -> None:
    volume = measure("A", *scene())
    assert (volume.overlap, volume.detection, volume.mask_ml) == (None, None, None)
    assert volume.subject == "A"


def test_scores_can_be_forgotten() -> None:
    volume = measure("A", *scene())
    light = volume.without_scores()
    assert light.scores.lesion.size == light.scores.other.size == 0
    assert light.ranking == volume.ranking


def test_bad_input_is_named() -> None:
    anomaly, brain, lesion = scene()
    with pytest.raises(DataError, match=r"A: .*\(8, 7, 6\).*\(9,\)"):
        measure("A", anomaly, brain, np.zeros(9, bool))
    with pytest.raises(DataError, match="A: NaN"):
        measure("A", np.full(SHAPE, np.inf, np.float32), brain, lesion)
    with pytest.raises(DataError, match=r"A: .*no brain"):
        measure("A", anomaly, np.zeros_like(brain), np.zeros_like(lesion))

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from anatomad.errors import DataError
from anatomad.evaluate import metrics
from anatomad.evaluate.metrics import Detection, Overlap, detect, overlap, rank, rank_voxels, sort_scores

TOLERANCE = 1e-9


def brute_force_dice(scores: np.ndarray, lesion: np.ndarray) -> float:
    return max(overlap(scores >= threshold, lesion).dice or 0.0 for threshold in np.unique(scores))


@pytest.fixture(params=[1 << 20, 7], ids=["one chunk", "many chunks"])
def _chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_CHUNK", request.param)


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("decimals", [0, 1, 3, 7], ids="{} decimals".format)
@pytest.mark.parametrize("size", [2, 50, 3000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_matches_scikit_learn_with_ties(size: int, decimals: int, dtype: type) -> None:
    rng = np.random.default_rng(size)
    scores = np.round(rng.standard_normal(size), decimals).astype(dtype)
    lesion = rng.random(size) < 0.3
    lesion[:2] = True, False
    ranking = rank_voxels(scores, lesion)
    assert ranking.average_precision == pytest.approx(average_precision_score(lesion, scores), abs=TOLERANCE)
    assert ranking.auroc == pytest.approx(roc_auc_score(lesion, scores), abs=TOLERANCE)
    assert ranking.oracle_dice == pytest.approx(brute_force_dice(scores, lesion), abs=TOLERANCE)
    assert overlap(scores >= ranking.oracle_threshold, lesion).dice == pytest.approx(ranking.oracle_dice)


@settings(deadline=None)
@given(hnp.arrays(np.float32, st.integers(2, 40), elements=st.sampled_from([-0.0, 0.0, 1e-30, 1, 2, 3e38])), st.data())
def test_matches_scikit_learn_on_awkward_scores(scores: np.ndarray, data: st.DataObject) -> None:
    lesion = data.draw(hnp.arrays(bool, scores.shape).filter(lambda y: y.any() and not y.all()))
    ranking = rank_voxels(scores, lesion)
    assert ranking.average_precision == pytest.approx(average_precision_score(lesion, scores), abs=TOLERANCE)
    assert ranking.auroc == pytest.approx(roc_auc_score(lesion, scores), abs=TOLERANCE)


def test_a_million_voxels_match_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    lesion = rng.random(10**6) < 0.01
    scores = (rng.standard_normal(10**6) + 2 * lesion).astype(np.float32)
    ranking = rank_voxels(scores, lesion)
    assert ranking.average_precision == pytest.approx(average_precision_score(lesion, scores), abs=TOLERANCE)
    assert ranking.auroc == pytest.approx(roc_auc_score(lesion, scores), abs=TOLERANCE)


def test_pool_of_volumes_equals_their_concatenation() -> None:
    rng = np.random.default_rng(3)
    parts = [(np.round(rng.standard_normal(n), 1).astype(np.float32), rng.random(n) < 0.2) for n in (40, 1, 300)]
    pooled = rank([sort_scores(*part) for part in parts])
    together = rank_voxels(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    assert pooled == together


def test_input_is_left_as_it_was() -> None:
    scores, lesion = np.array([3, 1, 2], np.float32), np.array([True, False, True])
    rank_voxels(scores, lesion)
    assert scores.tolist() == [3, 1, 2]


def test_missed_voxels_rank_last() -> None:
    ranking = rank_voxels(np.array([-np.inf, 1, 2, 3], np.float32), np.array([True, False, False, True]))
    assert ranking.average_precision == pytest.approx(0.5 * 1 + 0.5 * 2 / 4)
    assert ranking.auroc == pytest.approx(0.5)


def test_lowest_threshold_may_be_the_best() -> None:
    ranking = rank_voxels(np.array([-np.inf, 1, 2], np.float32), np.array([True, True, True]))
    assert (ranking.oracle_dice, ranking.oracle_threshold) == (1.0, -np.inf)
    assert ranking.auroc is None


def test_no_lesion_no_ranking() -> None:
    ranking = rank_voxels(np.zeros(5, np.float32), np.zeros(5, bool))
    assert ranking == metrics.Ranking(None, None, None, None, 0, 5)
    assert rank([]) == metrics.Ranking(None, None, None, None, 0, 0)


@pytest.mark.parametrize("lesion", [[True, False], [False, True]])
def test_nan_is_refused(lesion: list[bool]) -> None:
    with pytest.raises(DataError, match="NaN"):
        rank_voxels(np.array([np.nan, 1.0]), np.array(lesion))


def test_other_shape_is_refused() -> None:
    with pytest.raises(DataError, match=r"\(2,\).*\(3,\)"):
        rank_voxels(np.zeros(2), np.zeros(3, bool))


def test_dice() -> None:
    mask, lesion = np.array([1, 1, 0, 0], bool), np.array([0, 1, 1, 0], bool)
    assert overlap(mask, lesion) == Overlap(both=1, mask=2, lesion=2)
    assert overlap(mask, lesion).dice == 0.5
    assert Overlap(0, 0, 0).dice is None
    assert Overlap(0, 0, 3).dice == 0


def grid(*voxels: tuple[int, int, int]) -> np.ndarray:
    volume = np.zeros((12, 12, 12), bool)
    volume[tuple(np.transpose(voxels))] = True
    return volume


def test_corner_neighbours_are_one_lesion() -> None:
    lesion = grid((1, 1, 1), (2, 2, 2), (8, 8, 8))
    assert detect(lesion, lesion) == Detection(lesions=2, found=2, predicted=2, true=2)
    assert detect(lesion, lesion).f1 == 1


@pytest.mark.parametrize(("covered", "found"), [(0, 0), (1, 1), (10, 1)])
def test_a_tenth_of_a_lesion_is_enough(covered: int, found: int) -> None:
    lesion = grid(*((i, 0, 0) for i in range(10)))
    mask = grid(*((i, 0, 0) for i in range(covered)), (11, 11, 11))
    result = detect(mask, lesion)
    assert (result.lesions, result.found) == (1, found)
    assert (result.predicted, result.true) == (1 + found, found)


def test_less_than_a_tenth_is_not_enough() -> None:
    lesion = grid(*((i, 0, 0) for i in range(11)))
    assert detect(grid((0, 0, 0)), lesion).found == 0


def test_a_mask_of_everything_is_one_false_component() -> None:
    lesion = grid((1, 1, 1))
    result = detect(np.ones_like(lesion), lesion)
    assert (result.found, result.true, result.f1) == (1, 0, 0.0)


def test_f1_without_components() -> None:
    empty = np.zeros((4, 4, 4), bool)
    assert detect(empty, empty).f1 is None
    assert Detection(lesions=3, found=0, predicted=0, true=0).f1 == 0
    assert Detection(lesions=2, found=1, predicted=4, true=3).f1 == pytest.approx(2 * 0.5 * 0.75 / 1.25)


def test_components_agree_with_a_plain_loop() -> None:
    rng = np.random.default_rng(5)
    mask, lesion = (ndimage.gaussian_filter(rng.standard_normal((20, 18, 16)), 1.2) > 0.12 for _ in range(2))
    labels, number = ndimage.label(lesion, np.ones((3, 3, 3)))
    found = sum(mask[labels == n].mean() >= 0.1 for n in range(1, number + 1))
    result = detect(mask, lesion)
    assert number > 3
    assert (result.lesions, result.found) == (number, found)

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from anatomad.benchmark.postprocess import SMALLEST_ML, postprocess, window
from anatomad.evaluate.cases import Maps

SHAPE = (30, 28, 26)


def maps_of(anomaly: np.ndarray, threshold: float, spacing: float = 1.0) -> Maps:
    brain = np.zeros(SHAPE, bool)
    brain[4:-4, 4:-4, 4:-4] = True
    anomaly = np.where(brain, anomaly, 0).astype(np.float32)
    return Maps(anomaly, brain, np.zeros_like(brain), anomaly >= threshold, (spacing,) * 3, spacing**3 / 1000, 1.0)


def test_is_the_median_of_five_millimetres() -> None:
    maps = maps_of(np.random.default_rng(0).random(SHAPE), 2.0)
    changed = postprocess(maps)
    assert changed.anomaly == pytest.approx(ndimage.median_filter(maps.anomaly, 5), abs=1e-5)
    assert changed.brain is maps.brain
    assert changed.lesion is maps.lesion


@pytest.mark.parametrize(("spacing", "size"), [(0.7, 7), (1.0, 5), (1.5, 3), (2.0, 3), (4.0, 1), (8.0, 1)])
def test_window(spacing: float, size: int) -> None:
    assert window((spacing,) * 3) == size


def test_mask_and_map_stay_of_one_threshold() -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=SHAPE), 3)
    maps = maps_of(noise, float(np.quantile(noise[4:-4, 4:-4, 4:-4], 0.75)))
    changed = postprocess(maps)
    assert changed.mask is not None
    assert maps.mask is not None
    threshold = maps.anomaly[maps.mask].min()
    expected = ndimage.median_filter(maps.anomaly, 5) >= threshold
    labels, count = ndimage.label(expected, np.ones((3, 3, 3)))
    large = [k for k in range(1, count + 1) if (labels == k).sum() / 1000 >= SMALLEST_ML]
    assert large
    assert (changed.mask == np.isin(labels, large)).all()


def test_noise_goes_and_lesions_stay() -> None:
    anomaly = np.zeros(SHAPE)
    anomaly[8:15, 8:15, 8:15] = 5
    anomaly[20, 20, 20] = 9
    changed = postprocess(maps_of(anomaly, 2.0))
    assert changed.mask is not None
    assert not changed.mask[20, 20, 20]
    assert changed.anomaly[20, 20, 20] == 0
    assert changed.mask[11, 11, 11]


def test_without_a_mask_and_without_anything() -> None:
    nothing = maps_of(np.zeros(SHAPE), 2.0)
    assert not postprocess(nothing).anomaly.any()
    empty = Maps(nothing.anomaly, np.zeros(SHAPE, bool), nothing.lesion, None, nothing.spacing, 0.001, None)
    assert postprocess(empty).mask is None

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from anatomad.models.dal import DisentangledAnatomy
from anatomad.models.device import precision_of
from anatomad.predict.calibration import Calibration, calibrate_fold, subject_score
from anatomad.predict.choice import average_precision
from anatomad.predict.decompose import CONTEXT, RECOUPLINGS, TISSUES, decompose
from anatomad.predict.score import inner
from anatomad.predict.trials import lesion_trials
from anatomad.preprocess.store import load_case
from tests.predict.world import calibration_of, small_plan
from tests.train.fold import write_case

SIDE = 36


def scores(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).gamma(1.5, 1.0, SIDE**3).astype(np.float32)


def test_p_values_of_healthy_voxels_are_uniform() -> None:
    calibration = calibration_of(scores(0))
    rim = 1 - SIDE**3 / (SIDE + 2) ** 3  # scores 0 and belongs to the healthy brain
    for drawn in (scores(0), scores(1)):
        p = 10.0 ** -calibration.minus_log10_p(drawn) / (1 - rim)
        for level in (0.5, 0.2, 0.05, 0.01):
            assert np.mean(p <= level) == pytest.approx(level, rel=0.08, abs=0.002)


def test_one_percent_of_healthy_voxels_lie_beyond_the_default_mask() -> None:
    calibration = calibration_of(scores(0))
    assert calibration.healthy_share == {
        "real": pytest.approx(0.01, abs=0.001),
        "unseen contrast": pytest.approx(0.01, abs=0.001),
    }


def test_a_score_of_nothing_is_not_anomalous() -> None:
    calibration = calibration_of(scores(0))
    assert calibration.minus_log10_p(np.zeros(1, np.float32))[0] == 0


def test_the_map_rises_with_the_score_without_an_end() -> None:
    calibration = calibration_of(scores(0))
    rising = np.linspace(0.01, 60, 4000).astype(np.float32)
    p = calibration.minus_log10_p(rising)
    assert (np.diff(p) > 0).all()
    beyond = np.array([calibration.levels[-1], calibration.levels[-1] + calibration.tail], np.float32)
    low, high = calibration.minus_log10_p(beyond)
    assert low == pytest.approx(3, abs=1e-4)
    assert high - low == pytest.approx(np.log10(np.e), abs=1e-4)


def test_constant_scores_give_a_finite_map() -> None:
    calibration = calibration_of(np.zeros(8**3, np.float32))
    assert np.isfinite(calibration.minus_log10_p(np.array([0, 1, 100], np.float32))).all()


def test_average_precision_against_sklearn() -> None:
    rng = np.random.default_rng(0)
    for share in (0.01, 0.3):
        lesion = rng.random(5000) < share
        drawn = (rng.normal(size=5000) + lesion).astype(np.float32)
        assert average_precision(drawn, lesion) == pytest.approx(average_precision_score(lesion, drawn), abs=1e-6)
    assert average_precision(drawn, np.zeros(5000, bool)) == 0


def test_subject_score_is_the_mean_of_the_most_anomalous() -> None:
    map_ = np.arange(1000, dtype=np.float32).reshape(10, 10, 10)
    mask = np.ones_like(map_, bool)
    assert subject_score(map_, mask) == np.mean([995, 996, 997, 998, 999])
    mask[-1] = False
    assert subject_score(map_, mask) == np.mean([896, 897, 898, 899])


def test_subject_p_counts_the_scan_itself() -> None:
    calibration = calibration_of(scores(0)).model_copy(update={"subjects": (1.0, 2.0, 3.0)})
    assert [calibration.subject_p(s) for s in (0.5, 2.0, 9.0)] == [1.0, 0.75, 0.25]


def test_a_fold(tmp_path: Path) -> None:
    plan = small_plan()
    for case_id in "ab":
        write_case(tmp_path, case_id, plan)
    torch.manual_seed(0)
    model = DisentangledAnatomy(plan).eval()
    cases = [load_case(tmp_path, case_id) for case_id in "ab"]
    first, again = (calibrate_fold(model, plan, cases, torch.device("cpu")) for _ in range(2))
    assert first == again
    assert Calibration.model_validate_json(first.model_dump_json()) == first
    banks = [(0.0,), (0.0, 10.0), (10.0,)]
    alone = [c for c in first.candidates if not c.shares]
    tried = {(c.residual, c.smoothing_mm, c.with_fields) for c in alone}
    assert tried == set(product(RECOUPLINGS, banks, (False, True)))
    best = max(alone, key=lambda c: c.synthetic_ap)
    residual = first.score.residual
    assert (residual.kind, residual.smoothing_mm) == (best.residual, best.smoothing_mm)
    assert len(residual.fields) == len(best.smoothing_mm) * best.with_fields
    assert len(residual.usual) == len(residual.units) == len(best.smoothing_mm)
    more = [c for c in first.candidates if c.shares]
    assert {(c.residual, c.smoothing_mm, c.with_fields) for c in more} == {
        (best.residual, best.smoothing_mm, best.with_fields)
    }
    assert [list(c.shares.items())[-1] for c in more] == list(product((TISSUES, CONTEXT), (0.25, 0.5, 1.0)))
    best = max(first.candidates, key=lambda c: c.synthetic_ap)
    assert dict(zip([e.kind for e in first.score.supplements], first.score.shares, strict=True)) == best.shares
    assert 0 < best.synthetic_ap <= 1
    found = [
        average_precision(found[inside].numpy(), trial.lesion[inside].numpy())
        for trial in lesion_trials(plan, cases, torch.device("cpu"))
        for parts in [decompose(model, trial.image, trial.mask, precision_of(torch.device("cpu"), plan.precision))]
        for found, inside in [(first.score.of(parts, plan.spacing_mm, plan.rim()), inner(parts.mask, plan.rim()))]
    ]
    assert np.mean(found) == pytest.approx(best.synthetic_ap, abs=1e-6)  # what was chosen is what will be used
    assert len(first.subjects) == 2
    assert list(first.subjects) == sorted(first.subjects)
    assert first.healthy_share["real"] == pytest.approx(0.01, abs=0.004)
    assert list(first.levels) == sorted(first.levels)

from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from anatomad.models.dal import DisentangledAnatomy
from anatomad.models.device import precision_of
from anatomad.predict import choice
from anatomad.predict.calibration import (
    Calibration,
    _evenly,
    calibrate_fold,
    calibration_seconds,
    subject_score,
)
from anatomad.predict.choice import Candidate, _chosen, average_precision, read_trial
from anatomad.predict.decompose import DOUBT, RECOUPLINGS, TISSUES, decompose
from anatomad.predict.score import Score, inner
from anatomad.predict.trials import Trial, lesion_trials
from anatomad.preprocess.store import load_case
from tests.predict.world import calibration_of, decomposition, small_plan
from tests.train.fold import tiny_plan, write_case

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
    values = np.arange(1000, dtype=np.float32)[::-1]
    assert subject_score(values) == np.mean([995, 996, 997, 998, 999])
    assert subject_score(values[100:]) == np.mean([896, 897, 898, 899])
    assert subject_score(values[:3]) == 999  # of a handful of voxels, the highest


def test_subject_p_counts_the_scan_itself() -> None:
    calibration = calibration_of(scores(0)).model_copy(update={"subjects": (1.0, 2.0, 3.0)})
    assert [calibration.subject_p(s) for s in (0.5, 2.0, 9.0)] == [1.0, 0.75, 0.25]


def is_score_of(candidate: Candidate, score: Score) -> bool:
    shares = dict(zip([e.kind for e in score.supplements], score.shares, strict=True))
    of_score = (score.residual.kind, score.residual.smoothing_mm, bool(score.residual.fields), shares)
    return of_score == (candidate.residual, candidate.smoothing_mm, candidate.with_fields, candidate.shares)


def test_only_what_is_clearly_better_takes_the_place_of_the_first() -> None:
    rng = np.random.default_rng(0)
    first = rng.random(12)
    noisy = first + rng.normal(0.001, 0.1, 12)
    noisy += max(0.0, 0.001 - (noisy - first).mean())  # better, by less than chance
    assert _chosen(np.stack([first, noisy])) == 0
    assert _chosen(np.stack([first, noisy, first + 0.05])) == 2
    assert _chosen(np.stack([first, first - 0.05])) == 0
    assert _chosen(np.stack([first[:1], first[:1] + 0.5])) == 0  # one trial has no error


def test_thinned_voxels_tell_the_same_precision() -> None:
    rng = np.random.default_rng(0)
    lesion = rng.random(400_000) < 0.002
    drawn = (rng.normal(size=len(lesion)) + 2 * lesion).astype(np.float32)
    kept = lesion | (np.arange(len(lesion)) % 3 == 0)
    thin = average_precision(drawn[kept], lesion[kept], 3)
    assert thin == pytest.approx(average_precision(drawn, lesion), rel=0.05)
    assert average_precision(drawn[kept], lesion[kept]) > 1.5 * thin


def test_large_scans_are_thinned_but_for_their_lesions(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = torch.zeros(14, 14, 14, dtype=torch.bool)
    mask[2:-2, 2:-2, 2:-2] = True
    lesion = torch.zeros_like(mask)
    lesion[5:8, 5:8, 5:8] = True
    parts, plan = decomposition(torch.rand(14, 14, 14), mask), tiny_plan()
    whole = read_trial(Trial("lesions", parts.image, mask, lesion), parts, plan)
    assert whole.step == 1
    assert whole.even.all()
    monkeypatch.setattr(choice, "_ENOUGH", 100)
    thin = read_trial(Trial("lesions", parts.image, mask, lesion), parts, plan)
    assert thin.step == round(len(whole.lesion) / 100)
    assert thin.lesion.sum() == whole.lesion.sum() == 27
    assert thin.even.sum() == -(-len(whole.lesion) // thin.step)
    assert len(thin.lesion) == int((thin.even | thin.lesion).sum()) == thin.position.shape[1]
    assert set(thin.readings["closed form", 0.0]) <= set(whole.readings["closed form", 0.0])


def test_what_a_calibration_takes_grows_with_its_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = small_plan()
    write_case(tmp_path, "a", plan)
    model = DisentangledAnatomy(plan).eval().requires_grad_(False)
    clock = SimpleNamespace(monotonic=iter([0.0, 9.0, 10.0, 12.0] * 3).__next__)  # the first is cold
    monkeypatch.setattr("anatomad.predict.calibration.time", clock)
    stored, cpu = load_case(tmp_path, "a"), torch.device("cpu")
    assert calibration_seconds(model, plan, [stored], cpu) == 2 * (1 + 1 + 12 + 1 + 1)
    assert calibration_seconds(model, plan, [stored] * 20, cpu) == 2 * (20 + 20 + 20 + 20 + 20)
    assert calibration_seconds(model, plan, [stored] * 90, cpu) == 2 * 5 * 30


def test_of_many_cases_some_forty_are_taken() -> None:
    assert list(_evenly(3)) == [0, 1, 2]
    assert list(_evenly(40)) == list(range(40))
    assert list(_evenly(116)) == list(range(0, 116, 3))
    assert all(20 < len(_evenly(n)) <= 40 for n in range(40, 1000))


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
    tried = [
        (c.residual, c.smoothing_mm, c.with_fields, *(c.shares.get(name, 0.0) for name in (TISSUES, DOUBT)))
        for c in first.candidates
    ]
    assert tried[0] == ("closed form", (0.0, 10.0), True, 1.0, 1.0)  # what the method was designed with
    ways = list(product(RECOUPLINGS, banks, (False, True)))
    assert sorted(tried[:12]) == [(*way, 1.0, 1.0) for way in sorted(ways)]
    best = max(range(12), key=lambda row: first.candidates[row].synthetic_ap)
    shares = list(product((1.0, 0.5, 0.0), repeat=2))
    assert sorted([*tried[12:], tried[best]]) == sorted((*tried[best][:3], *each) for each in shares)
    (used,) = (c for c in first.candidates if is_score_of(c, first.score))
    residual = first.score.residual
    assert len(residual.fields) == len(used.smoothing_mm) * used.with_fields
    assert len(residual.usual) == len(residual.units) == len(used.smoothing_mm)
    assert 0 < used.synthetic_ap <= max(c.synthetic_ap for c in first.candidates) <= 1
    chosen = first.score.model_copy(update={"symmetry": 0.0, "usual": 0.0})  # what comes on top of every score alike
    found = [
        average_precision(found[inside].numpy(), trial.lesion[inside].numpy())
        for trial in lesion_trials(plan, cases, torch.device("cpu"))
        for parts in [decompose(model, trial.image, trial.mask, precision_of(torch.device("cpu"), plan.precision))]
        for found, inside in [(chosen.of(parts, plan.spacing_mm, plan.rim()), inner(parts.mask, plan.rim()))]
    ]
    assert np.mean(found) == pytest.approx(used.synthetic_ap, abs=1e-6)  # what was chosen is what will be used
    assert first.score.symmetry > 0
    assert first.score.usual > 0
    assert len(first.subjects) == 2
    assert list(first.subjects) == sorted(first.subjects)
    assert first.healthy_share["real"] == pytest.approx(0.01, abs=0.004)
    assert list(first.levels) == sorted(first.levels)

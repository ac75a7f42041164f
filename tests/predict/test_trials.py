from pathlib import Path

import torch

from anatomad.planner.plan import Plan
from anatomad.predict.trials import Trial, count_healthy, count_trials, healthy_trials, lesion_trials
from anatomad.preprocess.store import StoredCase, load_case
from tests.predict.world import small_plan
from tests.train.fold import write_case

CPU = torch.device("cpu")


def cases(folder: Path, plan: Plan) -> list[StoredCase]:
    for case_id in "abcd":
        write_case(folder, case_id, plan)
    return [load_case(folder, case_id) for case_id in "abcd"]


def test_healthy_trials_show_every_case_as_it_is_and_in_another_contrast(tmp_path: Path) -> None:
    plan = small_plan()
    stored = cases(tmp_path, plan)
    trials = list(healthy_trials(plan, stored, CPU))
    assert [trial.kind for trial in trials] == ["real", "unseen contrast"] * 4
    for number, case in enumerate(stored):
        real, other = trials[2 * number : 2 * number + 2]
        mask = torch.from_numpy(case.mask)
        assert torch.equal(real.image[mask], torch.from_numpy(case.image[0]).float()[mask])
        assert not real.image[~mask].any()
        assert not torch.equal(real.image, other.image)
        assert not real.lesion.any()
        assert not other.lesion.any()


def test_lesion_trials_are_every_disease_in_known_and_other_contrasts(tmp_path: Path) -> None:
    plan = small_plan()
    stored = cases(tmp_path, plan)
    trials, again = (list(lesion_trials(plan, stored, CPU)) for _ in range(2))
    assert len(trials) == 12
    for first, second in zip(trials, again, strict=True):
        assert first.kind == "lesions"
        assert torch.equal(first.image, second.image)
        assert torch.equal(first.lesion, second.lesion)
        assert not first.lesion[~first.mask].any()
    assert sum(bool(trial.lesion.any()) for trial in trials) >= 9  # one may be too faint to be found by anyone

    def like_its_scan(trial: Trial, case: StoredCase) -> bool:
        healthy = trial.mask & ~trial.lesion
        pair = torch.stack([trial.image[healthy], torch.from_numpy(case.image[0]).float()[healthy]])
        return float(torch.corrcoef(pair)[0, 1]) > 0.6

    own = [like_its_scan(trial, stored[k // 3]) for k, trial in enumerate(trials)]
    assert all(own[k] for k in (0, 1, 2, 6, 7, 8))
    assert not any(own[k] for k in (3, 4, 5, 9, 10, 11))


def test_every_case_has_its_lesions_however_many_there_are(tmp_path: Path) -> None:
    plan = small_plan()
    stored = cases(tmp_path, plan)
    assert len(list(lesion_trials(plan, stored[:1], CPU))) == 12
    assert len(list(lesion_trials(plan, stored * 5, CPU))) == 20


def test_trials_are_counted_before_they_are_made(tmp_path: Path) -> None:
    plan = small_plan()
    stored = cases(tmp_path, plan)
    for several in (stored[:1], stored, stored * 5):
        numbers = len(several), len(stored[0].image)
        healthy = list(healthy_trials(plan, several, CPU))
        assert len(healthy) == count_healthy(*numbers)
        assert len([*healthy, *lesion_trials(plan, several, CPU)]) == count_trials(*numbers)

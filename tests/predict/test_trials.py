from pathlib import Path

import torch

from anatomad.planner.plan import Plan
from anatomad.predict.trials import Trial, healthy_trials, lesion_trials
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


def test_lesion_trials_are_small_and_large_in_known_and_other_contrasts(tmp_path: Path) -> None:
    plan = small_plan()
    plan = plan.model_copy(
        update={"corruption": plan.corruption.model_copy(update={"small_mm": (10, 14), "large_mm": (50, 70)})}
    )
    stored = cases(tmp_path, plan)
    trials = list(lesion_trials(plan, stored, CPU))
    again = list(lesion_trials(plan, stored, CPU))
    assert len(trials) == 16
    for first, second in zip(trials, again, strict=True):
        assert first.kind == "lesions"
        assert torch.equal(first.image, second.image)
        assert not first.lesion[~first.mask].any()
    volume = {
        kind: sum(int(trial.lesion.sum()) for trial in (*trials[2 * kind :: 4], *trials[2 * kind + 1 :: 4]))
        for kind in (0, 1)
    }
    assert 0 < volume[0] < volume[1]

    def like_its_scan(trial: Trial, case: StoredCase) -> bool:
        healthy = trial.mask & ~trial.lesion
        pair = torch.stack([trial.image[healthy], torch.from_numpy(case.image[0]).float()[healthy]])
        return float(torch.corrcoef(pair)[0, 1]) > 0.7

    own = [like_its_scan(trial, stored[k // 4]) for k, trial in enumerate(trials)]
    assert all(own[::2])
    assert not all(own[1::2])

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from anatomad.errors import DataError, ModelError, ResourceError
from anatomad.models.dal import DisentangledAnatomy
from anatomad.planner.plan import Stages
from anatomad.planner.splits import Fold
from anatomad.train import budget, loop
from anatomad.train.cases import Sample
from anatomad.train.job import finished_model
from anatomad.train.learner import Learner, Outcome
from anatomad.train.loop import train_fold
from tests.train.fold import make_job, no_calibration, tiny_plan
from tests.train.test_resume import stop_at, timeless_log, train_with_stops


def test_a_finished_folder_has_everything(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    assert finished_model(job.folder) is None
    assert train_fold(job, no_calibration)
    names = {path.name for path in job.folder.iterdir()}
    assert names == {
        "weights.safetensors", "model.json", "calibration.json", "log.jsonl", "progress.png", "checkpoints",
    }  # fmt: skip
    assert json.loads((job.folder / "calibration.json").read_text()) == {"cases": ["c"]}
    model = DisentangledAnatomy(job.plan)
    model.load_state_dict(load_file(job.folder / "weights.safetensors"))
    description = finished_model(job.folder)
    assert description is not None
    assert description["plan_sha256"] == job.plan.digest()
    assert description["steps"] == {"anatomy": 5, "restoration": 4, "recoupling": 3}
    kinds = [line["kind"] for line in timeless_log(job.folder)]
    assert kinds == ["run", "steps", "validation", "steps", "validation", "steps", "validation"]
    assert (job.folder / "progress.png").read_bytes().startswith(b"\x89PNG")

    before = {path: path.read_bytes() for path in job.folder.rglob("*") if path.is_file()}
    assert not train_fold(job, no_calibration)
    assert before == {path: path.read_bytes() for path in job.folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("_no_picture")
def test_learns(tmp_path: Path) -> None:
    train_fold(make_job(tmp_path, tiny_plan(stages=Stages(anatomy=160, restoration=120, recoupling=1))), no_calibration)
    log = timeless_log(tmp_path / "fold0")
    last = next(line for line in log if line["kind"] == "validation" and line["stage"] == "restoration")
    assert last["rendered_anatomy_dice"] > 0.6  # type: ignore[operator]
    assert last["real_restored_dice"] > 0.5  # type: ignore[operator]


@pytest.fixture
def _no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop.picture, "draw", lambda *_: None)


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.usefixtures("_no_picture")
def test_batches_and_slices(tmp_path: Path, dimension: int) -> None:
    plan = tiny_plan(batch_size=2, dimension=dimension, stages=Stages(anatomy=2, restoration=2, recoupling=2))
    assert train_fold(make_job(tmp_path, plan), no_calibration)


def fail_with(monkeypatch: pytest.MonkeyPatch, case_id: str) -> None:
    """Make every loss of a case not finite, and with it the gradients."""
    step = Learner.step

    def poisoned(self: Learner, samples: Sequence[Sample], number: int, factor: float = 1.0) -> Outcome:
        stage = self.stage
        if samples[0].case_id == case_id:
            self.stage = replace(stage, loss=lambda *given: {n: v * torch.nan for n, v in stage.loss(*given).items()})
        outcome = step(self, samples, number, factor)
        self.stage = stage
        return outcome

    monkeypatch.setattr(Learner, "step", poisoned)


@pytest.mark.usefixtures("_no_picture")
def test_poisoned_case_is_skipped_counted_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "MAX_STREAK", 100)
    fail_with(monkeypatch, "b")
    train_fold(make_job(tmp_path, tiny_plan(stages=Stages(anatomy=12, restoration=2, recoupling=2))), no_calibration)
    skipped = [line for line in timeless_log(tmp_path / "fold0") if line["kind"] == "skipped"]
    assert skipped
    assert all(line["cases"] == ["b"] for line in skipped)
    description = finished_model(tmp_path / "fold0")
    assert description is not None
    assert description["skipped"] == len(skipped)
    assert all(tensor.isfinite().all() for tensor in load_file(tmp_path / "fold0" / "weights.safetensors").values())


@pytest.mark.usefixtures("_no_picture")
def test_training_that_cannot_recover_names_the_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, "b")
    fold = Fold(train=("b",), val=("c",))
    with pytest.raises(DataError, match=r"training failed 6 times at step 0 .* with b; .* delete .*fold0"):
        train_fold(make_job(tmp_path, fold=fold), no_calibration)
    rollbacks = [line for line in timeless_log(tmp_path / "fold0") if line["kind"] == "rollback"]
    assert rollbacks[-1]["rate_factor"] == 1 / 32


@pytest.mark.usefixtures("_no_picture")
def test_another_plan_is_not_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_at(monkeypatch, 3)
    with pytest.raises(loop.InterruptedRunError):
        train_fold(make_job(tmp_path), no_calibration)
    with pytest.raises(ModelError, match="another plan or other cases; delete this folder"):
        train_fold(make_job(tmp_path, tiny_plan(seed=1)), no_calibration)


@pytest.mark.usefixtures("_no_picture")
def test_another_machine_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    threads = torch.get_num_threads()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: threads + 1)
        stop_at(patch, 3)
        with pytest.raises(loop.InterruptedRunError):
            train_fold(make_job(tmp_path), no_calibration)
    caplog.set_level("WARNING")
    train_fold(make_job(tmp_path), no_calibration)
    assert f"not bit for bit as it would have without the stop: threads {threads + 1} -> {threads}" in caplog.text


@pytest.mark.usefixtures("_no_picture")
def test_another_time_for_steps_that_are_fixed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(budget, "fit_steps", lambda *_: {"anatomy": 12, "restoration": 3, "recoupling": 2})
    with monkeypatch.context() as patch:
        stop_at(patch, 24 + 5)  # the speed is measured in 24 steps
        with pytest.raises(loop.InterruptedRunError):
            train_fold(make_job(tmp_path, budget_s=60), no_calibration)
    caplog.set_level("WARNING")
    train_fold(make_job(tmp_path, budget_s=1200), no_calibration)
    told = "the steps were fixed when this training began, with a time of 60 s, and stay; delete"
    assert told in caplog.text
    assert "to train with a time of 1200 s" in caplog.text


@pytest.mark.usefixtures("_no_picture")
@pytest.mark.parametrize(
    ("stop", "seen"), [(RuntimeError("killed"), RuntimeError), (KeyboardInterrupt(), loop.InterruptedRunError)]
)
def test_picture_is_drawn_after_a_stop_in_its_drawing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException, seen: type[Exception]
) -> None:
    def stopped(*_: object) -> None:
        raise stop

    with monkeypatch.context() as patch:
        patch.setattr("anatomad.train.loop.picture.draw", stopped)
        with pytest.raises(seen):
            train_fold(make_job(tmp_path), no_calibration)
    drawn: list[int] = []
    monkeypatch.setattr("anatomad.train.loop.picture.draw", lambda _, records, *__: drawn.append(len(records)))
    train_fold(make_job(tmp_path), no_calibration)
    assert len(drawn) == 3


@pytest.mark.usefixtures("_no_picture")
def test_budget_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "fit_steps", lambda *_: {"anatomy": 12, "restoration": 3, "recoupling": 2})
    train_with_stops(monkeypatch, make_job(tmp_path, budget_s=60), 24 + 5)
    log = timeless_log(tmp_path / "fold0")
    assert log[0]["steps"] == {"anatomy": 12, "restoration": 3, "recoupling": 2}
    assert [line["step"] for line in log if line["kind"] == "steps"] == [10, 12, 3, 2]


@pytest.mark.usefixtures("_no_picture")
@pytest.mark.parametrize(("takes", "left"), [(2000, 4000), (5000, 3000)])
def test_budget_leaves_time_to_calibrate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, takes: float, left: float
) -> None:
    given: list[float] = []

    def fitted(planned: dict[str, int], seconds_per_step: dict[str, float], seconds: float) -> dict[str, int]:
        given.append(seconds)
        return dict.fromkeys(planned, 1)

    monkeypatch.setattr(budget, "calibration_seconds", lambda *_: takes)
    monkeypatch.setattr(budget, "fit_steps", fitted)
    caplog.set_level("WARNING")
    train_fold(make_job(tmp_path, budget_s=6000), no_calibration)
    assert left - 900 < given[0] < left  # the speed is measured in the same time
    assert ("calibrating takes some 5000 s of --time 6000 s" in caplog.text) == (takes > 3000)


@pytest.mark.usefixtures("_no_picture")
def test_out_of_gpu_memory_has_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(loop.Learner, "step", full)
    with pytest.raises(ResourceError, match=r"not enough GPU memory \(CUDA out of memory.*--device cpu"):
        train_fold(make_job(tmp_path), no_calibration)
    assert not (tmp_path / "fold0" / "owner.json").exists()

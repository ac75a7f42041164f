"""Training of one fold: the stages in order, checkpoints, what to do about steps that fail, and the finished model."""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import Any

import torch

from anatomad.errors import DataError, InterruptedRunError, ModelError, ResourceError
from anatomad.kernels import serving
from anatomad.models.device import precision_of
from anatomad.progress import Progress
from anatomad.train import checkpoint, picture
from anatomad.train.budget import fit_schedule
from anatomad.train.cases import CaseSource, SampleLoader, check_store
from anatomad.train.checkpoint import RunState
from anatomad.train.job import Calibrate, Job, finished_model, write_model
from anatomad.train.learner import Learner, Outcome, Tensors, restore_weights, weights
from anatomad.train.lease import Lease
from anatomad.train.log import Record, RunLog, Window, environment
from anatomad.train.stages import Stage
from anatomad.train.validate import MAX_CASES

LOG_STEPS = 10
SNAPSHOT_STEPS = 20  # a multiple of LOG_STEPS, so that no mean in the log spans a snapshot
MAX_STREAK = 3
MAX_ROLLBACKS = 5

_log = logging.getLogger(__name__)


def train_fold(job: Job, calibrate: Calibrate) -> bool:
    """Train a fold, or go on with it where an earlier run stopped; on a CPU to the same bits as without the stop.

    Args:
        job: What to train.
        calibrate: Makes ``calibration.json`` from the trained model and the validation cases.

    Returns:
        False when the fold was finished before.

    Raises:
        InterruptedRunError: stopped by a signal, after writing a checkpoint.
        DataError: cases missing from the store, or training that fails again and again (cases named).
        ModelError: the folder holds a run with another plan or other cases.
        ResourceError: no memory or disk space left, or another process trains this fold.
    """
    began = time.monotonic()
    check_store(job.store, sorted({*job.fold.train, *job.fold.val}), job.plan)
    with Lease(job.folder) as lease:
        if finished_model(job.folder) is not None:
            return False
        try:
            run = _Run(job, lease, began)
            run.all_stages()
            run.finish(calibrate)
        except torch.OutOfMemoryError as error:
            raise ResourceError(
                f"not enough GPU memory ({str(error).splitlines()[0]}); free some, use --device cpu, or make "
                f"'batch_size' or 'patch' in plan.json smaller and delete {job.folder}"
            ) from error
    return True


class _Run:
    def __init__(self, job: Job, lease: Lease, began: float) -> None:
        self.job, self._lease = job, lease
        self._precision = precision_of(job.device, job.plan.precision)
        self._cases = CaseSource(job.store, job.fold.train, job.loader_workers)
        self._validation = CaseSource(job.store, job.fold.val)
        self._checkpoints = job.folder / "checkpoints"
        torch.manual_seed(job.plan.seed)
        self._stages = job.method.stages
        self._model = job.method.networks(job.plan).to(job.device)
        self._saved = time.monotonic()
        self._suspects: deque[list[str]] = deque(maxlen=MAX_STREAK)
        found = checkpoint.load(self._checkpoints)
        if found is None:
            self._begin(began)
        else:
            self._continue(*found)

    def _begin(self, began: float) -> None:
        job = self.job
        steps, watched = job.method.steps(job.plan), min(MAX_CASES, len(self._validation))
        header: Record = {"budget_s": job.budget_s}
        if job.budget_s is not None and self._stages:
            _log.info("measuring the speed of each stage")
            schedule = fit_schedule(
                job.budget_s, began, job.method, self._model, job.plan, self._cases, self._validation, self._precision
            )
            steps, watched = schedule.steps, schedule.watched
            header["seconds_per_step"] = schedule.seconds_per_step
        self._log = RunLog(job.folder / "log.jsonl")
        header |= {"plan": job.plan.digest(), "train": job.fold.train, "val": job.fold.val, "steps": steps}
        self._log.add("run", **header, **environment(job.device, self._precision))
        self._keep(RunState(identity=job.identity(), steps=steps, watched=watched), weights(self._model))
        self._save()

    def _continue(self, state: RunState, tensors: Tensors) -> None:
        job = self.job
        if state.identity != job.identity():
            raise ModelError(
                f"{job.folder}: holds an unfinished training with another plan or other cases; delete this folder to "
                "train anew, or put the plan back"
            )
        self._log = RunLog(job.folder / "log.jsonl", state.log_lines)
        restore_weights(self._model, tensors)
        self.state, self._good = state, (state, tensors)
        now, then = environment(job.device, self._precision), self._log.records[0] if self._log.records else {}
        changed = [f"{key} {then[key]} -> {value}" for key, value in now.items() if then.get(key, value) != value]
        if changed:
            _log.warning("goes on, but not bit for bit as it would have without the stop: %s", ", ".join(changed))
        if then.get("budget_s", job.budget_s) != job.budget_s:
            _log.warning(
                "the steps were fixed when this training began, with %s, and stay; delete %s to train with %s",
                _budget(then["budget_s"]),
                job.folder,
                _budget(job.budget_s),
            )
        _log.info("goes on from %s", self._place())

    def all_stages(self) -> None:
        _log.info(
            "%s, %s, %d threads, kernels %s; steps: %s; cases are %s",
            self.job.device.type,
            self._precision,
            torch.get_num_threads(),
            serving(self.job.device.type),
            ", ".join(f"{name} {steps}" for name, steps in self.state.steps.items()) or "none",
            "in memory" if self._cases.in_memory else "read from disk as they are drawn",
        )
        try:
            while self.state.stage < len(self._stages):
                self._stage(self._stages[self.state.stage])
        except KeyboardInterrupt:
            self._save()
            raise InterruptedRunError(
                f"interrupted; a checkpoint holds {self._place()}, the same command goes on there"
            ) from None

    def _stage(self, stage: Stage) -> None:
        plan, steps = self.job.plan, self.state.steps[stage.name]
        learner = Learner(self._model, stage, plan, steps, self._precision)
        learner.restore(self._good[1])
        loader = SampleLoader(self._cases, plan, stage.name, self.job.device, self.state.step)
        window = Window()
        with Progress(steps, f"{stage.name} {self.state.stage + 1}/{len(self._stages)}", self.state.step) as progress:
            while self.state.step < steps:
                outcome = self._step(learner, loader)
                window.add(outcome)
                if self.state.streak >= MAX_STREAK:
                    self._roll_back(learner, loader)
                    window = Window()
                elif self.state.step % LOG_STEPS == 0 or self.state.step == steps:
                    self._log_steps(stage, window)
                self._snapshot(learner)
                progress.advance(self.state.step - progress.done, f"loss {sum(outcome.losses.values()):.3f}")
        learner.finish()
        self._end_stage(stage)

    def _step(self, learner: Learner, loader: SampleLoader) -> Outcome:
        state, samples = self.state, next(loader)
        outcome = learner.step(samples, state.step, state.rate_factor)
        change: dict[str, Any] = {"step": state.step + 1, "streak": 0}
        if not outcome.finite:
            change |= {"streak": state.streak + 1, "skipped": state.skipped + 1}
            self._suspects.append([sample.case_id for sample in samples])
            self._log.add("skipped", stage=learner.stage.name, step=state.step, cases=self._suspects[-1])
            _log.warning("step %d skipped: loss or gradient not finite (%s)", state.step, ", ".join(self._suspects[-1]))
        self.state = state.model_copy(update=change)
        return outcome

    def _roll_back(self, learner: Learner, loader: SampleLoader) -> None:
        """Return to the last snapshot with half the learning rate."""
        cases = sorted({case_id for step in self._suspects for case_id in step})
        if self.state.rollbacks >= MAX_ROLLBACKS:
            raise DataError(
                f"training failed {MAX_ROLLBACKS + 1} times at {self._place()}: loss or gradient not finite with "
                f"{', '.join(cases)}; look at these scans and take bad ones out of imagesTr, delete splits.json and "
                f"plan again, or lower 'learning_rate' in plan.json; then delete {self.job.folder}"
            )
        failed, (good, tensors) = self.state, self._good
        learner.restore(tensors)
        loader.step = good.step
        self._log.cut(good.log_lines)
        factor = good.rate_factor / 2
        self._log.add(
            "rollback", stage=learner.stage.name, step=good.step, failed_at=failed.step, cases=cases, rate_factor=factor
        )
        _log.warning("three failed steps in a row: back to step %d, learning rate halved", good.step)
        change = {"rate_factor": factor, "rollbacks": failed.rollbacks + 1, "skipped": failed.skipped}
        self._keep(good.model_copy(update=change), tensors)

    def _log_steps(self, stage: Stage, window: Window) -> None:
        voxels = self.job.plan.batch_size * self.job.plan.patch[0] * self.job.plan.patch[1] * self.job.plan.patch[2]
        summary = window.summary(voxels)
        self._log.add("steps", stage=stage.name, step=self.state.step, **summary, skipped=self.state.skipped)

    def _snapshot(self, learner: Learner) -> None:
        """Keep a good state in memory at fixed steps, and on disk when the last one there is old enough.

        Fixed steps make what a roll-back returns to independent of the clock.
        """
        if self.state.step % SNAPSHOT_STEPS or self.state.streak or self.state.step == self._good[0].step:
            return
        self._keep(self.state, learner.tensors())
        if time.monotonic() - self._saved >= self.job.checkpoint_s:
            self._save()

    def _end_stage(self, stage: Stage) -> None:
        job, method, model = self.job, self.job.method, self._model.eval()
        watched = [self._validation[index] for index in range(self.state.watched)]
        results = method.validate(model, watched, job.plan, stage.name, job.device, self._precision)
        self._log.add("validation", stage=stage.name, **{name: round(value, 5) for name, value in results.items()})
        told = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in results.items())
        _log.info("%s done; validation: %s", stage.name, told)
        shown = watched[: picture.MAX_CASES]
        rows = [method.row(model, case, job.device, self._precision) for case in shown]
        picture.draw(job.folder / "progress.png", self._log.records, rows, [each.name for each in self._stages])
        # Last: a run that is stopped while it draws ends the stage once more, and draws again.
        change = {"stage": self.state.stage + 1, "step": 0, "streak": 0}
        self._keep(self.state.model_copy(update=change), weights(model))
        self._save()

    def finish(self, calibrate: Calibrate) -> None:
        """Write weights, calibration and, last, the description that says that all is there."""
        job, model = self.job, self._model.eval().requires_grad_(False)
        job.method.fit(model, self._cases, job.plan, job.device)
        _log.info("calibrating; validation cases: %d", len(self._validation))
        calibration = calibrate(model, job.plan, self._validation, job.device)
        self._lease.check()
        write_model(job, model, calibration, self.state, environment(job.device, self._precision))

    def _keep(self, state: RunState, tensors: Tensors) -> None:
        self.state = state.model_copy(update={"log_lines": len(self._log.records)})
        self._good = (self.state, tensors)

    def _save(self) -> None:
        self._lease.check()
        self._log.sync()
        checkpoint.save(self._checkpoints, *self._good)
        self._saved = time.monotonic()

    def _place(self) -> str:
        state = self._good[0]
        if state.stage == len(self._stages):
            return "all stages"
        return f"step {state.step} of stage {self._stages[state.stage].name}"


def _budget(seconds: float | None) -> str:
    return "no time given" if seconds is None else f"a time of {seconds:g} s"

"""Calibration on healthy scans held out of training: which score, and what p-value a score has.

Nothing here sees a lesion label. The score is chosen by lesions painted into the validation fold's healthy scans; its
p-values are those of the same scans without them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from anatomad.models.device import precision_of
from anatomad.planner.plan import Plan
from anatomad.predict.choice import Candidate, choose_score, read_trial
from anatomad.predict.reader import DAL, Parts, Reader
from anatomad.predict.score import Score, inner, own_level
from anatomad.predict.trials import Trial, count_healthy, count_trials, healthy_trials, lesion_trials
from anatomad.preprocess.store import StoredCase
from anatomad.progress import Progress

_LEVELS = 257
_TAIL = 1e-3  # beyond this share of healthy voxels an exponential tail keeps the order
_TOP_SHARE = 0.005
_MOST_CASES = 40  # settle p-values and a score well enough; more would take hours
_SYMMETRY = 0.5  # found most of the lesions painted into 48 scans: docs/concepts/method.md


class Calibration(BaseModel):
    """What a model's scores mean.

    Attributes:
        score: The score in use.
        levels: Scores at the survival probabilities ``probabilities`` of healthy voxels (real validation scans).
        probabilities: From 1 down to 0.001.
        tail: Mean excess of the healthy scores beyond the last level: the scale of the exponential tail.
        subjects: Subject scores of the healthy validation scans, ascending.
        candidates: Every score that was tried.
        healthy_share: Share of healthy voxels with p <= 0.01, on the real scans and on contrasts absent from training
            (drawn or remapped from the same scans).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: Literal[4] = 4  # 4: chosen on lesions as diseases make them; doubt instead of what context restores
    score: Score
    levels: tuple[float, ...]
    probabilities: tuple[float, ...]
    tail: float
    subjects: tuple[float, ...]
    candidates: tuple[Candidate, ...]
    healthy_share: dict[str, float]

    def minus_log10_p(self, score: NDArray[np.float32]) -> NDArray[np.float32]:
        """-log10 of the share of healthy voxels that score at least as high; strictly increasing beyond the levels."""
        # Of equal levels (the brain's rim scores 0 everywhere) the first has the share that scores at least as high.
        levels, first = np.unique(self.levels, return_index=True)
        inside = np.interp(score, levels, -np.log10(np.asarray(self.probabilities)[first]))
        beyond = np.maximum(score - self.levels[-1], 0) / (self.tail * np.log(10))
        return (inside + beyond).astype(np.float32)

    def subject_p(self, subject_score: float) -> float:
        """Share of healthy subjects that score at least as high, the scan itself counted among them."""
        higher = sum(s >= subject_score for s in self.subjects)
        return (higher + 1) / (len(self.subjects) + 1)


def subject_score(values: NDArray[np.float32]) -> float:
    """Mean of the 0.5 % largest -log10 p of brain voxels [voxel]."""
    return float(np.sort(values)[-max(1, int(_TOP_SHARE * len(values))) :].mean())


def calibrate_fold(
    model: nn.Module, plan: Plan, validation: Sequence[StoredCase], device: torch.device, method: Reader = DAL
) -> Calibration:
    """Choose the score and calibrate it on the validation fold.

    Args:
        model: Trained networks in evaluation mode.
        plan: The model's plan.
        validation: Healthy cases of the fold's validation part, at least one; of many, some forty are taken.
        device: Where to compute.
        method: How the networks read a scan.
    """
    precision = precision_of(device, plan.precision)
    cases = [validation[index] for index in _evenly(len(validation))]
    with Progress(_count_readings(validation), "calibration") as progress:

        def read(trials: Iterator[Trial]) -> Iterator[tuple[Trial, Parts]]:
            for trial in trials:
                yield trial, method.read(model, trial.image, trial.mask, precision)
                progress.advance()

        trials = chain(healthy_trials(plan, cases, device), lesion_trials(plan, cases, device))
        best, candidates = choose_score([read_trial(trial, found, plan) for trial, found in read(trials)], plan)
        score = best.model_copy(update={"symmetry": _SYMMETRY})
        # read once more: what all healthy scans were taken apart into does not fit into memory
        return _calibrated(score, read(healthy_trials(plan, cases, device)), plan, candidates)


def calibration_seconds(
    model: nn.Module, plan: Plan, validation: Sequence[StoredCase], device: torch.device, method: Reader = DAL
) -> float:
    """About what :func:`calibrate_fold` will take: one trial is made and read, and every other takes as long.

    Twice, because the first time also fills caches, which for a fast method takes longer than the rest.
    """
    precision = precision_of(device, plan.precision)
    took = []
    for _ in range(2):
        began = time.monotonic()
        trial = next(lesion_trials(plan, [validation[0]], device))
        read_trial(trial, method.read(model, trial.image, trial.mask, precision), plan)
        took.append(time.monotonic() - began)
    return min(took) * _count_readings(validation)


def _evenly(cases: int) -> range:
    """Which of so many cases are taken, evenly spread."""
    return range(0, cases, math.ceil(cases / _MOST_CASES))


def _count_readings(validation: Sequence[StoredCase]) -> int:
    """How often a scan is read: every trial once, healthy ones once more when the score is known."""
    numbers = len(_evenly(len(validation))), len(validation[0].image)
    return count_healthy(*numbers) + count_trials(*numbers)


def _healthy_scores(
    score: Score, parts: Iterable[tuple[Trial, Parts]], plan: Plan
) -> tuple[Score, list[tuple[str, NDArray[np.float32]]]]:
    """The score with the level that real scans usually have; kind and scores of the brain's voxels of every trial."""
    rim = plan.rim()
    totals: list[tuple[str, Tensor, Tensor]] = []  # kind; sums of the brain's voxels; which of them are scored
    for trial, found in parts:
        mask = found.mask
        totals.append((trial.kind, score.total(found, plan.spacing_mm, rim)[mask], inner(mask, rim)[mask]))
    levels = [own_level(total[scored]) for kind, total, scored in totals if kind == "real"]
    score = score.model_copy(update={"usual": float(np.median(levels))})
    return score, [(kind, score.over_level(total, scored).cpu().numpy()) for kind, total, scored in totals]


def _calibrated(
    score: Score, parts: Iterable[tuple[Trial, Parts]], plan: Plan, candidates: tuple[Candidate, ...]
) -> Calibration:
    score, scores = _healthy_scores(score, parts, plan)
    healthy = np.sort(np.concatenate([values for kind, values in scores if kind == "real"]))
    probabilities = np.geomspace(1.0, _TAIL, _LEVELS)
    levels = np.maximum.accumulate(np.quantile(healthy, 1 - probabilities))
    beyond = healthy[healthy > levels[-1]]
    tail = float((beyond - levels[-1]).mean()) if len(beyond) else 1.0
    calibration = Calibration(
        score=score,
        levels=tuple(levels.tolist()),
        probabilities=tuple(probabilities.tolist()),
        tail=max(tail, 1e-3),
        subjects=(),
        candidates=candidates,
        healthy_share={},
    )
    maps = [(kind, calibration.minus_log10_p(values)) for kind, values in scores]
    subjects = sorted(subject_score(values) for kind, values in maps if kind == "real")
    shares = {
        each: float(np.mean(np.concatenate([values for kind, values in maps if kind == each]) >= 2))
        for each in ("real", "unseen contrast")
    }
    return calibration.model_copy(update={"subjects": tuple(subjects), "healthy_share": shares})

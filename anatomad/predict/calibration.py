"""Calibration on healthy scans held out of training: which score, and what p-value a score has.

Nothing here sees a lesion label. The score is chosen by lesions painted into the validation fold's healthy scans; its
p-values are those of the same scans without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from anatomad.models.dal import DisentangledAnatomy
from anatomad.models.device import precision_of
from anatomad.planner.plan import Plan
from anatomad.predict.decompose import RECOUPLINGS, Decomposition, decompose
from anatomad.predict.score import Score, inner
from anatomad.predict.trials import Trial, healthy_trials, lesion_trials
from anatomad.preprocess.store import StoredCase
from anatomad.progress import Progress

_LEVELS = 257
_TAIL = 1e-3  # beyond this share of healthy voxels an exponential tail keeps the order
_TOP_SHARE = 0.005


class Candidate(BaseModel):
    """A score that was tried, and its average precision on painted lesions."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    recoupling: str
    smoothing_mm: tuple[float, ...]
    synthetic_ap: float


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
    version: Literal[1] = 1
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


def subject_score(map_: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """Mean -log10 p of the 0.5 % most anomalous brain voxels."""
    values = np.sort(map_[mask])
    return float(values[-max(1, int(_TOP_SHARE * len(values))) :].mean())


def average_precision(scores: NDArray[np.float32], lesion: NDArray[np.bool_]) -> float:
    """Average precision of voxel scores against painted lesions; ties count in their given order."""
    ordered = lesion[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(ordered) / np.arange(1, len(ordered) + 1)
    return float(precision[ordered].mean()) if ordered.any() else 0.0


def calibrate_fold(
    model: DisentangledAnatomy, plan: Plan, validation: Sequence[StoredCase], device: torch.device
) -> Calibration:
    """Choose the score and calibrate it on the validation fold.

    Args:
        model: Trained networks in evaluation mode.
        plan: The model's plan.
        validation: Healthy cases of the fold's validation part, at least one.
        device: Where to compute.
    """
    precision = precision_of(device)
    trials = [*healthy_trials(plan, validation, device), *lesion_trials(plan, validation, device)]
    parts: list[tuple[Trial, Decomposition]] = []
    with Progress(len(trials), "calibration") as progress:
        for trial in trials:
            parts.append((trial, decompose(model, trial.image, trial.mask, precision)))
            progress.advance()
    real = [p for t, p in parts if t.kind == "real"]
    painted = [(t, p) for t, p in parts if t.kind == "lesions"]
    tried = [_try(score, painted, plan) for score in _scores(real, plan)]
    best = max(tried, key=lambda pair: pair[1].synthetic_ap)[0]
    return _calibrated(best, parts, plan, tuple(candidate for _, candidate in tried))


def _scores(real: Sequence[Decomposition], plan: Plan) -> list[Score]:
    """Every recoupling with every non-empty run of neighbouring smoothing widths."""
    widths = plan.smoothing_mm
    runs = [widths[i:j] for i in range(len(widths)) for j in range(i + 1, len(widths) + 1)]
    scores = []
    for recoupling in RECOUPLINGS:
        unit = {w: _unit(Score(recoupling=recoupling, smoothing_mm=(w,), units=(1.0,)), real, plan) for w in widths}
        scores += [Score(recoupling=recoupling, smoothing_mm=run, units=tuple(unit[w] for w in run)) for run in runs]
    return scores


def _brain_scores(score: Score, parts: Decomposition, plan: Plan) -> Tensor:
    return score.of(parts, plan.spacing_mm)[inner(parts.mask)]


def _unit(score: Score, real: Sequence[Decomposition], plan: Plan) -> float:
    values = torch.cat([_brain_scores(score, p, plan) for p in real]).cpu().numpy()
    return max(1e-3, float(np.quantile(values, 0.99)))


def _try(score: Score, painted: Sequence[tuple[Trial, Decomposition]], plan: Plan) -> tuple[Score, Candidate]:
    """Mean over trials, so that a large lesion counts no more than a small one."""
    found = [
        average_precision(score.of(p, plan.spacing_mm)[p.mask].cpu().numpy(), t.lesion[t.mask].cpu().numpy())
        for t, p in painted
    ]
    mean = float(np.mean(found)) if found else 0.0
    return score, Candidate(recoupling=score.recoupling, smoothing_mm=score.smoothing_mm, synthetic_ap=mean)


def _calibrated(
    score: Score, parts: Sequence[tuple[Trial, Decomposition]], plan: Plan, candidates: tuple[Candidate, ...]
) -> Calibration:
    real = [p for t, p in parts if t.kind == "real"]
    healthy = np.sort(np.concatenate([score.of(p, plan.spacing_mm)[p.mask].cpu().numpy() for p in real]))
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

    def map_of(p: Decomposition) -> NDArray[np.float32]:
        return calibration.minus_log10_p(score.of(p, plan.spacing_mm).cpu().numpy())

    subjects = sorted(subject_score(map_of(p), p.mask.cpu().numpy()) for p in real)
    shares = {
        kind: float(np.mean(np.concatenate([map_of(p)[p.mask.cpu().numpy()] >= 2 for t, p in parts if t.kind == kind])))
        for kind in ("real", "unseen contrast")
    }
    return calibration.model_copy(update={"subjects": tuple(subjects), "healthy_share": shares})

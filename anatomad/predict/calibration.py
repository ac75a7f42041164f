"""Calibration on healthy scans held out of training: which score, and what p-value a score has.

Nothing here sees a lesion label. The score is chosen by lesions painted into the validation fold's healthy scans; its
p-values are those of the same scans without them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from anatomad.models.dal import DisentangledAnatomy
from anatomad.models.device import precision_of
from anatomad.planner.plan import Plan
from anatomad.predict.decompose import RECOUPLINGS, Decomposition, decompose
from anatomad.predict.field import Field, field_at, measure_field, position_in_brain
from anatomad.predict.score import Kind, Score, inner, reading
from anatomad.predict.trials import Trial, healthy_trials, lesion_trials
from anatomad.preprocess.store import StoredCase
from anatomad.progress import Progress

_LEVELS = 257
_TAIL = 1e-3  # beyond this share of healthy voxels an exponential tail keeps the order
_TOP_SHARE = 0.005

Readings = dict[Kind, NDArray[np.float32]]


class Candidate(BaseModel):
    """A score that was tried, and its average precision on painted lesions."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    recoupling: str
    smoothing_mm: tuple[float, ...]
    white_matter: bool
    with_fields: bool
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
    healthy = list(healthy_trials(plan, validation, device))
    painted = list(lesion_trials(plan, validation, device))
    parts: list[tuple[Trial, Decomposition]] = []
    read: list[tuple[Trial, Readings]] = []
    with Progress(len(healthy) + len(painted), "calibration") as progress:
        for trial in (*healthy, *painted):
            found = decompose(model, trial.image, trial.mask, precision)
            read.append((trial, _readings(found, plan)))
            if trial.kind != "lesions":
                parts.append((trial, found))
            progress.advance()
    unharmed = [(trial, readings) for trial, readings in read if trial.kind != "lesions"]
    tried = [_try(score, read) for score in _scores(unharmed, plan)]
    best = max(tried, key=lambda pair: pair[1].synthetic_ap)[0]
    return _calibrated(best, parts, plan, tuple(candidate for _, candidate in tried))


def _readings(parts: Decomposition, plan: Plan) -> Readings:
    """What any score is made of, by its kind; within the scored brain only."""
    inside = inner(parts.mask)
    kinds = product(RECOUPLINGS, plan.smoothing_mm, (False, True))
    return {kind: reading(parts, kind, plan.spacing_mm)[inside].cpu().numpy() for kind in kinds}


def _scores(healthy: Sequence[tuple[Trial, Readings]], plan: Plan) -> Iterator[Score]:
    """Every recoupling with every run of neighbouring smoothing widths, by white matter and over fields or not."""
    fields = _fields(healthy)
    widths = plan.smoothing_mm
    runs = [widths[i:j] for i in range(len(widths)) for j in range(i + 1, len(widths) + 1)]
    for recoupling, run, white, with_fields in product(RECOUPLINGS, runs, (False, True), (False, True)):
        score = Score(
            recoupling=recoupling,
            smoothing_mm=run,
            white_matter=white,
            fields=tuple(fields[recoupling, width, white] for width in run) if with_fields else (),
            units=(1.0,) * len(run),
        )
        yield score.model_copy(update={"units": _units(score, healthy)})


def _fields(healthy: Sequence[tuple[Trial, Readings]]) -> dict[Kind, Field]:
    positions = [position_in_brain(t.mask)[:, inner(t.mask)].cpu().numpy() for t, _ in healthy]
    return {key: measure_field([readings[key] for _, readings in healthy], positions) for key in healthy[0][1]}


def _units(score: Score, healthy: Sequence[tuple[Trial, Readings]]) -> tuple[float, ...]:
    real = [_terms(score, trial, readings) for trial, readings in healthy if trial.kind == "real"]
    return tuple(max(1e-3, float(np.quantile(np.concatenate(terms), 0.99))) for terms in zip(*real, strict=True))


def _terms(score: Score, trial: Trial, readings: Readings) -> list[NDArray[np.float32]]:
    """What a score is the mean of, in the scored brain."""
    terms = [readings[score.recoupling, width, score.white_matter] for width in score.smoothing_mm]
    if not score.fields:
        return terms
    inside = inner(trial.mask)
    usual = [field_at(field, trial.mask)[inside].cpu().numpy() for field in score.fields]
    return [term / divisor for term, divisor in zip(terms, usual, strict=True)]


def _try(score: Score, read: Sequence[tuple[Trial, Readings]]) -> tuple[Score, Candidate]:
    """Mean over trials, so that a large lesion counts no more than a small one."""
    found = []
    for trial, readings in read:
        if trial.kind == "lesions":
            terms = [term / unit for term, unit in zip(_terms(score, trial, readings), score.units, strict=True)]
            lesion = trial.lesion[inner(trial.mask)].cpu().numpy()
            found.append(average_precision(np.mean(terms, axis=0), lesion))
    mean = float(np.mean(found)) if found else 0.0
    candidate = Candidate(
        recoupling=score.recoupling,
        smoothing_mm=score.smoothing_mm,
        white_matter=score.white_matter,
        with_fields=bool(score.fields),
        synthetic_ap=mean,
    )
    return score, candidate


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

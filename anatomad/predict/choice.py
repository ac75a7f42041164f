"""Which score finds lesions that were painted into healthy scans; no label of a real lesion is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from anatomad.planner.plan import Plan
from anatomad.predict.field import Field, field_at, measure_field, position_in_brain
from anatomad.predict.reader import Parts
from anatomad.predict.score import Evidence, Kind, Score, inner, level, own_level, reading
from anatomad.predict.trials import Kind as TrialKind
from anatomad.predict.trials import Trial

_SHARES = (0.25, 0.5, 1.0)  # of a supplement that may be added

Magnitudes = NDArray[np.float32]
Term = tuple[Kind, bool]  # a reading, and whether over its field


class Candidate(BaseModel):
    """A score that was tried, and its average precision on painted lesions."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    residual: str
    smoothing_mm: tuple[float, ...]
    with_fields: bool
    shares: dict[str, float]
    synthetic_ap: float


@dataclass(frozen=True)
class Readings:
    """What every score is made of, in one trial: readings by kind, in the scored brain."""

    trial: TrialKind
    kinds: tuple[str, ...]
    supplements: tuple[str, ...]
    lesion: NDArray[np.bool_]
    position: Tensor
    readings: dict[Kind, Magnitudes]

    def over(self, kind: Kind, field: Field | None) -> Magnitudes:
        """A reading over its field; as it is where there is none."""
        values = self.readings[kind]
        return values if field is None else values / field_at(field, self.position).cpu().numpy()


@dataclass(frozen=True)
class Ruler:
    """How one reading is measured: its field, the level that is usual, and its unit."""

    field: Field | None
    usual: float
    unit: float

    def measured(self, values: Magnitudes) -> Magnitudes:
        """Magnitudes over their field, in units of healthy scans."""
        return values / np.float32(self.unit * level(torch.from_numpy(values), self.usual))


def read_trial(trial: Trial, parts: Parts, plan: Plan) -> Readings:
    """Read a trial that was taken apart, in every kind, within the scored brain."""
    rim = plan.rim()
    inside = inner(parts.mask, rim)
    kinds = product((*parts.kinds, *parts.supplements), plan.smoothing_mm)
    readings: dict[Kind, Magnitudes] = {
        kind: reading(parts, kind, plan.spacing_mm, rim)[inside].cpu().numpy() for kind in kinds
    }
    lesion, position = trial.lesion[inside].cpu().numpy(), position_in_brain(parts.mask)[:, inside]
    return Readings(trial.kind, parts.kinds, parts.supplements, lesion, position, readings)


def choose_score(read: Sequence[Readings], plan: Plan) -> tuple[Score, tuple[Candidate, ...]]:
    """Try every residual with each smoothing width and with all of them, over fields or not; then add supplements,
    one after the other.

    Args:
        read: Healthy trials, at least one of them real, and trials with painted lesions.
        plan: Smoothing widths.

    Returns:
        The score that finds painted lesions best, and all that were tried.
    """
    healthy, lesioned = [r for r in read if r.trial != "lesions"], [r for r in read if r.trial == "lesions"]
    rulers = _rulers(healthy)
    tried = _try(_alone(healthy[0].kinds, plan.smoothing_mm, rulers), lesioned, rulers)
    for name in healthy[0].supplements:
        best, evidence = _best(tried), _evidence(name, plan.smoothing_mm, True, rulers)
        tried += _try([_with(best, evidence, share) for share in _SHARES], lesioned, rulers)
    return _best(tried), tuple(candidate for _, candidate in tried)


def _alone(kinds: Sequence[str], widths: tuple[float, ...], rulers: Mapping[Term, Ruler]) -> list[Score]:
    banks = dict.fromkeys([widths, *((width,) for width in widths)])
    each = product(kinds, banks, (False, True))
    return [Score(residual=_evidence(kind, bank, over, rulers)) for kind, bank, over in each]


def _with(score: Score, evidence: Evidence, share: float) -> Score:
    return Score(residual=score.residual, supplements=(*score.supplements, evidence), shares=(*score.shares, share))


def _rulers(healthy: Sequence[Readings]) -> dict[Term, Ruler]:
    places = [r.position for r in healthy]
    fields = {kind: measure_field([r.readings[kind] for r in healthy], places) for kind in healthy[0].readings}
    real = [r for r in healthy if r.trial == "real"]
    each = product(fields, (False, True))
    return {(kind, over): _ruler(kind, fields[kind] if over else None, real) for kind, over in each}


def _ruler(kind: Kind, field: Field | None, real: Sequence[Readings]) -> Ruler:
    values = [r.over(kind, field) for r in real]
    usual = float(np.median([own_level(torch.from_numpy(v)) for v in values]))
    plain = Ruler(field, usual, 1.0)
    unit = float(np.quantile(np.concatenate([plain.measured(v) for v in values]), 0.99))
    return Ruler(field, usual, max(1e-3, unit))


def _evidence(name: str, bank: tuple[float, ...], over: bool, rulers: Mapping[Term, Ruler]) -> Evidence:
    used = [rulers[(name, width), over] for width in bank]
    return Evidence(
        kind=name,
        smoothing_mm=bank,
        fields=tuple(r.field for r in used if r.field is not None),
        usual=tuple(r.usual for r in used),
        units=tuple(r.unit for r in used),
    )


def _best(tried: Sequence[tuple[Score, Candidate]]) -> Score:
    return max(tried, key=lambda pair: pair[1].synthetic_ap)[0]


def _try(
    scores: Sequence[Score], lesioned: Sequence[Readings], rulers: Mapping[Term, Ruler]
) -> list[tuple[Score, Candidate]]:
    """Mean over trials, so that a large lesion counts no more than a small one."""
    terms = {term for score in scores for each in (score.residual, *score.supplements) for term in _terms(each)}
    found: list[list[float]] = [[] for _ in scores]
    for each in lesioned:
        values = {term: rulers[term].measured(each.over(term[0], rulers[term].field)) for term in terms}
        for precisions, score in zip(found, scores, strict=True):
            precisions.append(average_precision(_score(score, values), each.lesion))
    return [(score, _candidate(score, precisions)) for score, precisions in zip(scores, found, strict=True)]


def _terms(evidence: Evidence) -> list[Term]:
    return [((evidence.kind, width), bool(evidence.fields)) for width in evidence.smoothing_mm]


def _score(score: Score, values: Mapping[Term, Magnitudes]) -> Magnitudes:
    result: Magnitudes = np.mean([values[term] for term in _terms(score.residual)], axis=0)
    for evidence, share in zip(score.supplements, score.shares, strict=True):
        result = result + np.float32(share) * np.mean([values[term] for term in _terms(evidence)], axis=0)
    return result


def _candidate(score: Score, precisions: Sequence[float]) -> Candidate:
    return Candidate(
        residual=score.residual.kind,
        smoothing_mm=score.residual.smoothing_mm,
        with_fields=bool(score.residual.fields),
        shares={evidence.kind: share for evidence, share in zip(score.supplements, score.shares, strict=True)},
        synthetic_ap=float(np.mean(precisions)) if precisions else 0.0,
    )


def average_precision(scores: Magnitudes, lesion: NDArray[np.bool_]) -> float:
    """Average precision of voxel scores against painted lesions; ties count in their given order."""
    ordered = lesion[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(ordered) / np.arange(1, len(ordered) + 1)
    return float(precision[ordered].mean()) if ordered.any() else 0.0

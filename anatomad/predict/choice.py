"""Which score finds lesions that were painted into healthy scans; no label of a real lesion is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from anatomad.planner.plan import Plan
from anatomad.predict.field import Field, field_at, measure_field, position_in_brain
from anatomad.predict.reader import Parts
from anatomad.predict.score import Kind, Score, inner, reading
from anatomad.predict.trials import Kind as TrialKind
from anatomad.predict.trials import Trial

Term = tuple[Kind, bool]  # a reading, and whether over its field


class Candidate(BaseModel):
    """A score that was tried, and its average precision on painted lesions."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    recoupling: str
    smoothing_mm: tuple[float, ...]
    with_fields: bool
    synthetic_ap: float


@dataclass(frozen=True)
class Readings:
    """What every score is made of, in one trial: readings by kind, over their fields too, in the scored brain."""

    trial: TrialKind
    lesion: NDArray[np.bool_]
    position: Tensor
    readings: dict[Term, NDArray[np.float32]]

    def over(self, fields: Mapping[Kind, Field]) -> None:
        """Add the readings over their fields."""
        for kind, field in fields.items():
            usual = field_at(field, self.position).cpu().numpy()
            self.readings[kind, True] = self.readings[kind, False] / usual


def read_trial(trial: Trial, parts: Parts, plan: Plan) -> Readings:
    """Read a trial that was taken apart, in every kind, within the scored brain."""
    inside = inner(parts.mask)
    kinds = product(parts.kinds, plan.smoothing_mm)
    readings: dict[Term, NDArray[np.float32]] = {
        (kind, False): reading(parts, kind, plan.spacing_mm)[inside].cpu().numpy() for kind in kinds
    }
    return Readings(trial.kind, trial.lesion[inside].cpu().numpy(), position_in_brain(parts.mask)[:, inside], readings)


def choose_score(read: Sequence[Readings], plan: Plan) -> tuple[Score, tuple[Candidate, ...]]:
    """Try every residual with each smoothing width and with all of them, over fields or not.

    Args:
        read: Healthy trials, at least one of them real, and trials with painted lesions.
        plan: Smoothing widths.

    Returns:
        The score that finds painted lesions best, and all that were tried.
    """
    fields = _fields([*_of("real", read), *_of("unseen contrast", read)])
    real, lesioned = _of("real", read), _of("lesions", read)
    for each in (*real, *lesioned):
        each.over(fields)
    units = {term: _unit([r.readings[term] for r in real]) for term in real[0].readings}
    tried = [(score, _try(score, terms, lesioned)) for score, terms in _scores(fields, units, plan)]
    best = max(tried, key=lambda pair: pair[1].synthetic_ap)[0]
    return best, tuple(candidate for _, candidate in tried)


def _scores(
    fields: Mapping[Kind, Field], units: Mapping[Term, float], plan: Plan
) -> Iterator[tuple[Score, list[Term]]]:
    banks = [plan.smoothing_mm, *((width,) for width in plan.smoothing_mm)]
    recouplings = dict.fromkeys(recoupling for recoupling, _ in fields)
    for recoupling, bank, over in product(recouplings, dict.fromkeys(banks), (False, True)):
        terms: list[Term] = [((recoupling, width), over) for width in bank]
        score = Score(
            recoupling=recoupling,
            smoothing_mm=bank,
            fields=tuple(fields[kind] for kind, _ in terms) if over else (),
            units=tuple(units[term] for term in terms),
        )
        yield score, terms


def _of(kind: TrialKind, read: Sequence[Readings]) -> list[Readings]:
    return [readings for readings in read if readings.trial == kind]


def _fields(healthy: Sequence[Readings]) -> dict[Kind, Field]:
    places = [r.position for r in healthy]
    return {k: measure_field([r.readings[k, False] for r in healthy], places) for k, _ in healthy[0].readings}


def _unit(readings: Sequence[NDArray[np.float32]]) -> float:
    return max(1e-3, float(np.quantile(np.concatenate(readings), 0.99)))


def _try(score: Score, terms: Sequence[Term], lesioned: Sequence[Readings]) -> Candidate:
    """Mean over trials, so that a large lesion counts no more than a small one."""
    found = []
    for each in lesioned:
        values = [each.readings[term] / unit for term, unit in zip(terms, score.units, strict=True)]
        found.append(average_precision(np.max(values, axis=0), each.lesion))
    return Candidate(
        recoupling=score.recoupling,
        smoothing_mm=score.smoothing_mm,
        with_fields=bool(score.fields),
        synthetic_ap=float(np.mean(found)) if found else 0.0,
    )


def average_precision(scores: NDArray[np.float32], lesion: NDArray[np.bool_]) -> float:
    """Average precision of voxel scores against painted lesions; ties count in their given order."""
    ordered = lesion[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(ordered) / np.arange(1, len(ordered) + 1)
    return float(precision[ordered].mean()) if ordered.any() else 0.0

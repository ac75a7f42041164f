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

_PARTS = (1.0, 0.5, 0.0)  # of a supplement's share in the method's design
_CLEARLY = 2.0  # standard errors
_ENOUGH = 150_000  # voxels of a scan tell scores apart; lesions are kept whole

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
    """What every score is made of, in one trial: readings by kind, in voxels of the scored brain.

    Attributes:
        trial: What the trial shows.
        kinds: Residuals of the method.
        supplements: Other evidence that may be added, and its shares in the method's design.
        lesion: Which of the voxels are lesion [voxel].
        even: Which were taken evenly [voxel]; the others are the rest of the lesions.
        step: One voxel in so many was taken evenly.
        position: In the brain box [3, voxel].
        readings: Magnitudes by kind.
    """

    trial: TrialKind
    kinds: tuple[str, ...]
    supplements: Mapping[str, float]
    lesion: NDArray[np.bool_]
    even: NDArray[np.bool_]
    step: int
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

    def measured(self, read: Readings, kind: Kind) -> Magnitudes:
        """Magnitudes over their field, in units of healthy scans."""
        values = read.over(kind, self.field)
        return values / np.float32(self.unit * level(torch.from_numpy(values[read.even]), self.usual))


def read_trial(trial: Trial, parts: Parts, plan: Plan) -> Readings:
    """Read a trial that was taken apart, in every kind, within the scored brain."""
    inside = inner(parts.mask, plan.rim())
    lesion = trial.lesion[inside]
    step = max(1, round(len(lesion) / _ENOUGH))
    even = torch.arange(len(lesion), device=lesion.device) % step == 0
    taken = even | lesion
    kinds = product((*parts.kinds, *parts.supplements), plan.smoothing_mm)
    readings: dict[Kind, Magnitudes] = {
        kind: reading(parts, kind, plan.spacing_mm, inside)[inside][taken].cpu().numpy() for kind in kinds
    }
    return Readings(
        trial=trial.kind,
        kinds=parts.kinds,
        supplements=parts.supplements,
        lesion=lesion[taken].cpu().numpy(),
        even=even[taken].cpu().numpy(),
        step=step,
        position=position_in_brain(parts.mask)[:, inside][:, taken],
        readings=readings,
    )


def choose_score(read: Sequence[Readings], plan: Plan) -> tuple[Score, tuple[Candidate, ...]]:
    """Try how the residual is read, and then how much of each supplement is added.

    First every residual at all widths and at each of them, over fields or not, with every supplement;
    then the best of these with all, half or none of each. The score that the method was designed with comes first:
    its first residual at all widths, over fields, with its supplements. Another takes its place where it
    finds painted lesions better by more than two standard errors of the difference over the trials: the best of many
    scores on few trials is best by chance (compare the rule of Breiman et al., Classification and Regression Trees,
    1984, which keeps the simplest within one standard error).

    Args:
        read: Healthy trials, at least one of them real, and trials with painted lesions.
        plan: Smoothing widths.

    Returns:
        The chosen score, and all that were tried.
    """
    healthy, lesioned = [r for r in read if r.trial != "lesions"], [r for r in read if r.trial == "lesions"]
    rulers = _rulers(healthy)
    scores = _residuals(healthy[0], plan.smoothing_mm, rulers)
    precisions = _precisions(scores, lesioned, rulers)
    shared = _fewer(scores[int(precisions.mean(1).argmax())])
    scores = [*scores, *shared]
    precisions = np.concatenate([precisions, _precisions(shared, lesioned, rulers)])
    return scores[_chosen(precisions)], tuple(_candidate(s, row) for s, row in zip(scores, precisions, strict=True))


def _residuals(first: Readings, widths: tuple[float, ...], rulers: Mapping[Term, Ruler]) -> list[Score]:
    """Every way to read the residual, with the method's supplements."""
    banks = dict.fromkeys([widths, *((width,) for width in widths)])
    added = tuple(_evidence(name, widths, True, rulers) for name in first.supplements)
    return [
        Score(residual=_evidence(kind, bank, over, rulers), supplements=added, shares=tuple(first.supplements.values()))
        for kind, bank, over in product(first.kinds, banks, (True, False))
    ]


def _fewer(score: Score) -> list[Score]:
    """A score with half or none of some of its supplements, in every combination."""
    tried = [[(e, share * part) for part in _PARTS] for e, share in zip(score.supplements, score.shares, strict=True)]
    added = [[(e, share) for e, share in each if share] for each in product(*tried)][1:]
    return [
        score.model_copy(update={"supplements": tuple(e for e, _ in each), "shares": tuple(share for _, share in each)})
        for each in added
    ]


def _rulers(healthy: Sequence[Readings]) -> dict[Term, Ruler]:
    places = [r.position for r in healthy]
    fields = {kind: measure_field([r.readings[kind] for r in healthy], places) for kind in healthy[0].readings}
    real = [r for r in healthy if r.trial == "real"]
    each = product(fields, (False, True))
    return {(kind, over): _ruler(kind, fields[kind] if over else None, real) for kind, over in each}


def _ruler(kind: Kind, field: Field | None, real: Sequence[Readings]) -> Ruler:
    usual = float(np.median([own_level(torch.from_numpy(r.over(kind, field))) for r in real]))
    plain = Ruler(field, usual, 1.0)
    unit = float(np.quantile(np.concatenate([plain.measured(r, kind) for r in real]), 0.99))
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


def _chosen(precisions: NDArray[np.float64]) -> int:
    """Row of average precisions [score, trial]: the best where it is clearly better than the first, else the first."""
    best = int(precisions.mean(1).argmax())
    gain = precisions[best] - precisions[0]
    error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.inf
    return best if gain.mean() > _CLEARLY * error else 0


def _precisions(
    scores: Sequence[Score], lesioned: Sequence[Readings], rulers: Mapping[Term, Ruler]
) -> NDArray[np.float64]:
    """Average precision [score, trial]: a large lesion counts no more than a small one."""
    evidence = {_key(e): e for score in scores for e in (score.residual, *score.supplements)}
    found = np.zeros((len(scores), len(lesioned)))
    for column, read in enumerate(lesioned):
        banks = {key: _mean(each, read, rulers) for key, each in evidence.items()}
        for row, score in enumerate(scores):
            added = zip(score.supplements, score.shares, strict=True)
            total = banks[_key(score.residual)] + sum(np.float32(share) * banks[_key(e)] for e, share in added)
            found[row, column] = average_precision(total, read.lesion, read.step)
    return found


def _key(evidence: Evidence) -> tuple[str, tuple[float, ...], bool]:
    return evidence.kind, evidence.smoothing_mm, bool(evidence.fields)


def _mean(evidence: Evidence, read: Readings, rulers: Mapping[Term, Ruler]) -> Magnitudes:
    kinds = [(evidence.kind, width) for width in evidence.smoothing_mm]
    result: Magnitudes = np.mean([rulers[kind, bool(evidence.fields)].measured(read, kind) for kind in kinds], axis=0)
    return result


def _candidate(score: Score, precisions: NDArray[np.float64]) -> Candidate:
    return Candidate(
        residual=score.residual.kind,
        smoothing_mm=score.residual.smoothing_mm,
        with_fields=bool(score.residual.fields),
        shares={evidence.kind: share for evidence, share in zip(score.supplements, score.shares, strict=True)},
        synthetic_ap=float(precisions.mean()),
    )


def average_precision(scores: Magnitudes, lesion: NDArray[np.bool_], healthy_weight: float = 1.0) -> float:
    """Average precision of voxel scores against painted lesions; ties count in their given order.

    Args:
        scores: Of voxels [voxel].
        lesion: Which of them are lesion.
        healthy_weight: For so many voxels each of the others stands.
    """
    ordered = lesion[np.argsort(-scores, kind="stable")]
    true = np.cumsum(ordered)
    precision = true / (true + healthy_weight * np.cumsum(~ordered))
    return float(precision[ordered].mean()) if ordered.any() else 0.0

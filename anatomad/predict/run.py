"""Many cases: one after the other, each finished or named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anatomad.errors import ResourceError, out_of_memory
from anatomad.planner.dataset import Case
from anatomad.predict.case import is_finished, predict_case
from anatomad.predict.folder import Model
from anatomad.progress import Progress


@dataclass(frozen=True)
class Judged:
    """What is to be said of the cases of a run.

    Attributes:
        failures: Case id to why it could not be judged; all others are done.
        warnings: Case id to what is doubtful about it, of those that were judged now.
    """

    failures: dict[str, Exception] = field(default_factory=dict)
    warnings: dict[str, list[str]] = field(default_factory=dict)


def predict_cases(cases: Sequence[Case], model: Model, out: Path) -> Judged:
    """Judge every case that ``out`` does not hold yet.

    Raises:
        ResourceError, OSError: no space or memory left; what is written is whole and the same call goes on.
    """
    judged = Judged()
    with Progress(len(cases), "predict") as progress:
        for case in cases:
            try:
                if not is_finished(case, model, out):
                    judged.warnings[case.id] = predict_case(case, model, out)["warnings"]
            except Exception as error:  # a case that meets a defect of ours must not cost the others their results
                if isinstance(error, (ResourceError, OSError)) or out_of_memory(error):
                    raise
                judged.failures[case.id] = error
            progress.advance(text=case.id)
    return judged

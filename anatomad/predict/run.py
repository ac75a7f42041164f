"""Many cases: one after the other, each finished or named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anatomad.errors import DataError
from anatomad.planner.dataset import Case
from anatomad.predict.case import is_finished, predict_case
from anatomad.predict.folder import Model
from anatomad.progress import Progress


def predict_cases(cases: Sequence[Case], model: Model, out: Path) -> dict[str, DataError]:
    """Judge every case that ``out`` does not hold yet.

    Returns:
        The cases that cannot be used, by id, with the reason; all others are done.

    Raises:
        ResourceError: no space or memory left; what is written is whole and the same call goes on.
    """
    failures: dict[str, DataError] = {}
    with Progress(len(cases), "predict") as progress:
        for case in cases:
            try:
                if not is_finished(case, model, out):
                    predict_case(case, model, out)
            except DataError as error:
                failures[case.id] = error
            progress.advance(text=case.id)
    return failures

"""Folds by subject: who trains, who validates."""

from __future__ import annotations

import csv
import random
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from anatomad.errors import DataError, UsageError

USUAL_FOLDS = 5
LEAVE_ONE_OUT_BELOW = 10
_BIDS_SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")
_SEPARATOR = re.compile(r"[_-]")
_FOLD = re.compile(r"(?:fold[_-]?)?(\d+)", re.IGNORECASE)
_Ids = Annotated[tuple[str, ...], Field(min_length=1)]


class Fold(BaseModel):
    """Ids of one fold's training and validation cases."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: _Ids
    val: _Ids


_FOLDS = TypeAdapter(Annotated[list[Fold], Field(min_length=1)])


def subject_of(case_id: str, participants: Collection[str] = ()) -> str:
    """Subject of a case: the longest listed participant that the id starts with, a BIDS ``sub-`` entity, or the id.

    Give many participants as a set.
    """
    ends = [len(case_id), *(match.start() for match in reversed(list(_SEPARATOR.finditer(case_id))))]
    listed = next((case_id[:end] for end in ends if case_id[:end] in participants), None)
    bids = _BIDS_SUBJECT.match(case_id)
    return listed or (bids[0] if bids else case_id)


def read_participants(dataset: Path) -> tuple[str, ...]:
    """Ids in the ``participant_id`` column of a data set's ``participants.tsv``; empty without such a file.

    Raises:
        DataError: the file has no such column.
    """
    path = dataset / "participants.tsv"
    if not path.is_file():
        return ()
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        if "participant_id" not in (rows.fieldnames or ()):
            raise DataError(f"{path}: no column 'participant_id' in its first line; add it or remove the file")
        return tuple(row["participant_id"] for row in rows if row["participant_id"])


def usual_folds(subjects: int) -> int:
    """Folds for that many subjects where nobody asks for another number: 5, or one per subject below ten subjects."""
    return subjects if subjects < LEAVE_ONE_OUT_BELOW else USUAL_FOLDS


def check_folds(folds: int, subjects: int) -> None:
    """Check that so many subjects can be shared out into so many folds.

    Raises:
        UsageError: fewer than 2 or more than there are subjects; a single subject makes one fold.
    """
    least = min(2, subjects)
    if not least <= folds <= subjects:
        allowed = "1" if subjects == 1 else f"{least} to {subjects}"
        raise UsageError(
            f"folds={folds}: expected {allowed} (subjects: {subjects}); choose with --set folds=N, or edit it in a "
            "plan.json that is there already"
        )


def subjects_of(
    case_ids: Iterable[str], participants: Sequence[str] = (), repeats: Sequence[Sequence[str]] = ()
) -> dict[str, list[str]]:
    """Cases of each subject: of one name (:func:`subject_of`), or in one of the groups ``repeats``."""
    subjects: dict[str, list[str]] = {}
    known = frozenset(participants)
    first = {case_id: min(group) for group in repeats for case_id in group}
    for case_id in sorted(case_ids):
        subjects.setdefault(subject_of(first.get(case_id, case_id), known), []).append(case_id)
    return subjects


def make_splits(
    case_ids: Sequence[str],
    participants: Sequence[str] = (),
    wanted: int | None = None,
    seed: int = 0,
    repeats: Sequence[Sequence[str]] = (),
) -> list[Fold]:
    """Draw folds by subject; repeated scans of a subject stay together, same input gives same folds.

    A single subject can only validate on itself, so that its one fold trains and validates on all its cases.

    Args:
        case_ids: Cases to share out.
        participants: Ids of ``participants.tsv``.
        wanted: Number of folds, 2 to the number of subjects; None takes the usual one.
        seed: Of the order.
        repeats: Groups of cases that show one person, whatever their names say.

    Raises:
        UsageError: the subjects cannot be shared out into so many folds.
    """
    subjects = subjects_of(case_ids, participants, repeats)
    count = usual_folds(len(subjects)) if wanted is None else wanted
    check_folds(count, len(subjects))
    if len(subjects) == 1:
        return [Fold(train=tuple(sorted(case_ids)), val=tuple(sorted(case_ids)))]
    order = sorted(subjects)
    random.Random(seed).shuffle(order)
    folds = []
    for index in range(count):
        val = sorted(case_id for subject in order[index::count] for case_id in subjects[subject])
        folds.append(Fold(train=tuple(sorted(set(case_ids) - set(val))), val=tuple(val)))
    return folds


def read_splits(path: Path) -> list[Fold]:
    """Read and validate ``splits.json``: a list of ``{"train": [...], "val": [...]}``.

    Raises:
        DataError: missing, not JSON, or not of that form.
    """
    try:
        return _FOLDS.validate_json(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: no folds here; make them with 'anatomad_plan -d DATASET'") from None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise DataError(f"{path}: {problems}; expected a list of {{train: [ids], val: [ids]}}") from None


def parse_fold(text: str, folds: int) -> int:
    """Index of the fold spelt ``0`` or ``fold0``.

    Raises:
        UsageError: not a fold of this data set; lists those that exist.
    """
    match = _FOLD.fullmatch(text)
    if match is None or int(match[1]) >= folds:
        exists = ", ".join(f"fold{index}" for index in range(folds))
        raise UsageError(f"no fold {text!r}; this data set has {exists}")
    return int(match[1])

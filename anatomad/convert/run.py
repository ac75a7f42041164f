"""A whole data set converted: found, checked, written, told."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anatomad
from anatomad.convert.description import IGNORE, DataSet
from anatomad.convert.files import targets, write_case
from anatomad.convert.find import CaseFiles, Found, find_files
from anatomad.convert.people import People, participants_tsv, read_people
from anatomad.errors import DataError, UsageError
from anatomad.io.atomic import write_json, write_text
from anatomad.parallel import run_jobs

LEDGER = "conversion.json"


@dataclass(frozen=True)
class Outcome:
    """What became of a conversion.

    Attributes:
        data_set: what was converted.
        cases: converted ones by id.
        written: number of files written for them now; the others were there.
        found: what was in the source.
        people: what tables said.
        failures: case id to why it was not converted.
    """

    data_set: DataSet
    cases: dict[str, CaseFiles]
    written: int
    found: Found
    people: People
    failures: dict[str, Exception]

    @property
    def kept(self) -> int:
        """Number of files that were there already."""
        return sum(len(case.channels) + (case.mask is not None) for case in self.cases.values()) - self.written

    @property
    def scans(self) -> dict[str, int]:
        """Number of converted scans by sequence, and of lesion masks."""
        counts = Counter(number for case in self.cases.values() for number in case.channels)
        scans = {name: counts[number] for number, name in enumerate(self.data_set.sequences)}
        masks = sum(case.mask is not None for case in self.cases.values())
        return scans | ({"lesion masks": masks} if self.data_set.mask else {})


def convert(data_set: DataSet, source: Path, folder: Path, workers: int, link: bool = False) -> Outcome:
    """Convert a public data set to the raw layout; what is there already is kept.

    ``dataset.json`` is written last: a folder without it is an interrupted conversion, and the same call goes on.

    Args:
        data_set: its description.
        source: its folder as published, unpacked.
        folder: of the raw data set, ``DatasetNNN_Name``.
        workers: processes.
        link: link to files that need no change instead of copying them.

    Raises:
        UsageError: the set cannot be converted, its files are not there, or ``folder`` holds something else.
        DataError: a table of the set cannot be used.
        ResourceError: no space left.
    """
    if data_set.refusal:
        raise UsageError(f"{data_set.title} cannot be converted: {data_set.refusal}")
    source = Path(os.path.abspath(source))
    found = find_files(data_set, source, folder)
    people = read_people(data_set, found, source, folder)
    wanted = _without(found.cases, *people.left_out.values())
    start = {"set": data_set.name, "source": str(source), "complete": False}
    _claim(folder, start)
    missing = {id_: _missing(data_set, case, folder) for id_, case in wanted.items()}
    jobs = {id_: (data_set.name, wanted[id_], folder, link) for id_, count in missing.items() if count}
    failures: dict[str, Exception] = {id_: _twins(id_, paths) for id_, paths in found.twins.items()}
    failures |= run_jobs(write_case, jobs, workers, "convert")[1] if jobs else {}
    cases = _without(wanted, failures)
    outcome = Outcome(data_set, cases, sum(missing[id_] for id_ in cases), found, people, failures)
    write_text(folder / "participants.tsv", participants_tsv(cases.values(), people.facts))
    write_json(folder / LEDGER, {**start, "complete": True, **_told(folder, source, outcome)})
    write_json(folder / "dataset.json", _description(data_set, len(cases)))
    return outcome


def _without(cases: Mapping[str, CaseFiles], *ids: Iterable[str]) -> dict[str, CaseFiles]:
    gone = {id_ for some in ids for id_ in some}
    return {id_: case for id_, case in cases.items() if id_ not in gone}


def _missing(data_set: DataSet, case: CaseFiles, folder: Path) -> int:
    return sum(not target.exists() for target in targets(data_set, case, folder))


def _claim(folder: Path, start: Mapping[str, Any]) -> None:
    """Make sure that ``folder`` is new, or the same conversion begun earlier."""
    ledger = folder / LEDGER
    if ledger.is_file():
        try:
            earlier = json.loads(ledger.read_text(encoding="utf-8"))
            same = all(earlier[key] == start[key] for key in ("set", "source"))
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{ledger}: damaged; delete {folder} to convert afresh") from None
        if not same:
            raise UsageError(
                f"{folder}: holds {earlier['set']} from {earlier['source']}; choose another number or delete the folder"
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder}: is there and was not made by anatomad_convert; choose another number or name")
    else:
        write_json(ledger, start)


def _twins(id_: str, paths: list[Path]) -> DataError:
    return DataError(f"case {id_}: {' and '.join(map(str, paths))} are the same scan; keep one of them in the source")


def _description(data_set: DataSet, cases: int) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": data_set.title,
        "description": ". ".join(filter(None, (data_set.about, data_set.processing))),
        "licence": data_set.licence,
        "citation": data_set.citation,
        "homepage": data_set.homepage,
        "channel_names": {str(number): name for number, name in enumerate(data_set.sequences)},
        "file_ending": ".nii.gz",
        "numTraining": cases if data_set.healthy else 0,
        "numTest": 0 if data_set.healthy else cases,
    }
    if data_set.mask:
        ignore = {"ignore": IGNORE} if IGNORE in data_set.mask.meaning.values() else {}
        described["labels"] = {"background": 0, "lesion": 1, **ignore}
    return described | {"converted_by": f"anatomad {anatomad.__version__}, {data_set.name}"}


def _told(folder: Path, source: Path, outcome: Outcome) -> dict[str, Any]:
    def names(paths: list[Path]) -> list[str]:
        return [path.relative_to(source).as_posix() for path in paths]

    found = outcome.found
    files = {
        target.relative_to(folder).as_posix(): path.relative_to(source).as_posix()
        for case in outcome.cases.values()
        for target, path in targets(outcome.data_set, case, folder).items()
    }
    return {
        "files": files,
        "left_out": outcome.people.left_out,
        "failed": {id_: str(error) for id_, error in outcome.failures.items()},
        "unplaced": names(found.unplaced),
        "masks_without_scan": names(found.masks_alone),
        "not_used": {why: names(paths) for why, paths in found.unused.items()},
    }

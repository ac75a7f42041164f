"""The fingerprint: what a data set is, measured once per case and kept beside the results."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from anatomad.io.atomic import write_json
from anatomad.io.nifti import read_image
from anatomad.parallel import run_jobs
from anatomad.planner.dataset import Case, RawDataset
from anatomad.planner.measure import measure_image
from anatomad.planner.outliers import distributions_of, find_outliers
from anatomad.planner.records import FINGERPRINT_VERSION, CaseFingerprint, Fingerprint, Record
from anatomad.planner.repeats import find_repeats
from anatomad.planner.splits import read_participants
from anatomad.planner.thumbnails import Thumbnail, read_thumbnails, write_thumbnails

_Stamp = tuple[tuple[int, str, int, int], ...]


class _Cached(Record):
    version: int
    stamp: _Stamp
    case: CaseFingerprint


def take_fingerprint(dataset: RawDataset, folder: Path, workers: int) -> tuple[Fingerprint, dict[str, Exception]]:
    """Measure the training cases in parallel and write ``fingerprint.json`` into ``folder``.

    A case that was measured before is not measured again unless one of its files changed (name, size or time). A data
    set without training cases is measured by its test cases.

    Returns:
        The fingerprint of the cases that could be measured, and the failures by case.
    """
    cache = folder / "fingerprint"
    cache.mkdir(exist_ok=True)
    cases = dataset.training_cases() or dataset.test_cases()
    known = {case.id: _read_cached(case, cache) for case in cases}
    missing = {case.id: (case, cache) for case in cases if known[case.id] is None}
    measured, failures = run_jobs(_measure_and_keep, missing, workers, "fingerprint") if missing else ({}, {})
    found = {case_id: measured.get(case_id) or kept for case_id, kept in known.items()}
    fingerprint = _of_dataset(dataset, tuple(case for case in found.values() if case is not None), cache)
    write_json(folder / "fingerprint.json", fingerprint.model_dump(mode="json"))
    return fingerprint, failures


def measure_case(case: Case) -> tuple[CaseFingerprint, dict[int, Thumbnail]]:
    """Measure every channel of a case.

    Raises:
        ImageError: a file cannot be used, or holds no plausible brain; the file is named.
    """
    found = {number: measure_image(read_image(path)) for number, path in case.channels.items()}
    channels = {number: channel for number, (channel, _) in found.items()}
    return CaseFingerprint(id=case.id, channels=channels), {number: picture for number, (_, picture) in found.items()}


def _of_dataset(dataset: RawDataset, cases: tuple[CaseFingerprint, ...], cache: Path) -> Fingerprint:
    measured = Fingerprint(dataset=dataset.name, channel_names=dataset.channel_names, cases=cases)
    details = {case.id: {c: t.detail for c, t in read_thumbnails(cache, case.id).items()} for case in cases}
    repeats = find_repeats(measured, details, read_participants(dataset.path))
    return measured.model_copy(
        update={
            "distributions": distributions_of(measured),
            "outliers": find_outliers(measured, repeats),
            "repeats": repeats.groups,
        }
    )


def _measure_and_keep(case: Case, cache: Path) -> CaseFingerprint:
    stamp = _stamp(case)
    measured, thumbnails = measure_case(case)
    write_thumbnails(cache, case.id, thumbnails)
    kept = _Cached(version=FINGERPRINT_VERSION, stamp=stamp, case=measured)
    write_json(cache / f"{case.id}.json", kept.model_dump(mode="json"))
    return measured


def _read_cached(case: Case, cache: Path) -> CaseFingerprint | None:
    try:
        kept = _Cached.model_validate_json((cache / f"{case.id}.json").read_bytes())
        current = kept.version == FINGERPRINT_VERSION and kept.stamp == _stamp(case)
    except (OSError, ValidationError):
        return None
    return kept.case if current and (cache / f"{case.id}.safetensors").is_file() else None


def _stamp(case: Case) -> _Stamp:
    files = [(number, path, path.stat()) for number, path in case.channels.items()]
    return tuple((number, path.name, status.st_size, status.st_mtime_ns) for number, path, status in files)

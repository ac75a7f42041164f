"""The fingerprint: what a data set is, measured once per case and kept beside the results."""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

import anatomad
from anatomad.io.atomic import write_json, write_text
from anatomad.parallel import run_jobs
from anatomad.planner.dataset import Case, RawDataset
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

    A case that was measured before is not measured again unless one of its files changed (name, size or time), and
    where nothing changed at all, what was written is read. A data set without training cases is measured by its test
    cases.

    Returns:
        The fingerprint of the cases that could be measured, and the failures by case.
    """
    (folder / "fingerprint").mkdir(exist_ok=True)
    cases = dataset.training_cases() or dataset.test_cases()
    sources = sources_of(dataset, cases)
    kept = _read_kept(folder, cases, sources)
    if kept is not None:
        return kept, {}
    found, failures = _measure_cases(cases, folder / "fingerprint", workers)
    fingerprint = _of_dataset(dataset, found, folder / "fingerprint")
    write_fingerprint(folder, fingerprint, None if failures else sources)
    return fingerprint, failures


def sources_of(dataset: RawDataset, cases: Sequence[Case]) -> str | None:
    """Digest of all that a fingerprint is made from: the code, the names and the files' stamps; None if one is lost."""
    try:
        stamps = [(case.id, _stamp(case)) for case in cases]
    except OSError:
        return None
    code = anatomad.__version__, FINGERPRINT_VERSION
    names = dataset.name, sorted(dataset.channel_names.items()), read_participants(dataset.path)
    return hashlib.sha256(repr((code, names, stamps)).encode()).hexdigest()


def write_fingerprint(folder: Path, fingerprint: Fingerprint, sources: str | None) -> None:
    """Write ``fingerprint.json`` and, last, ``fingerprint.seal``: it was made from all of ``sources``."""
    path = folder / "fingerprint.json"
    write_json(path, fingerprint.model_dump(mode="json"))
    if sources is not None:
        write_text(folder / "fingerprint.seal", _seal(sources, path.read_bytes()) + "\n")


def measure_case(case: Case) -> tuple[CaseFingerprint, dict[int, Thumbnail]]:
    """Measure every channel of a case.

    Raises:
        ImageError: a file cannot be used, or holds no plausible brain; the file is named.
    """
    from anatomad.io.nifti import read_image  # these take longer to load than to read what was measured earlier
    from anatomad.planner.measure import measure_image

    found = {number: measure_image(read_image(path)) for number, path in case.channels.items()}
    channels = {number: channel for number, (channel, _) in found.items()}
    return CaseFingerprint(id=case.id, channels=channels), {number: picture for number, (_, picture) in found.items()}


def _read_kept(folder: Path, cases: Sequence[Case], sources: str | None) -> Fingerprint | None:
    """The whole fingerprint, if it was made from these sources and has not been touched since."""
    try:
        text = (folder / "fingerprint.json").read_bytes()
        sealed = (folder / "fingerprint.seal").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    if sources is None or sealed != _seal(sources, text):
        return None
    parts = {f"{case.id}.{ending}" for case in cases for ending in ("json", "safetensors")}
    if not parts.issubset(os.listdir(folder / "fingerprint")):
        return None
    gc.disable()  # of the many records none is garbage: looking for some takes longer than to read them
    try:
        return Fingerprint.model_validate_json(text)
    finally:
        gc.enable()


def _seal(sources: str, text: bytes) -> str:
    return hashlib.sha256(sources.encode() + text).hexdigest()


def _measure_cases(
    cases: Sequence[Case], cache: Path, workers: int
) -> tuple[tuple[CaseFingerprint, ...], dict[str, Exception]]:
    known = {case.id: _read_cached(case, cache) for case in cases}
    missing = {case.id: (case, cache) for case in cases if known[case.id] is None}
    measured, failures = run_jobs(_measure_and_keep, missing, workers, "fingerprint") if missing else ({}, {})
    found = (measured.get(case_id) or case for case_id, case in known.items())
    return tuple(case for case in found if case is not None), failures


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

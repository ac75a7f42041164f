"""``anatomad_plan --check``: a verdict on every file of a data set."""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from anatomad.cli.common import say

if TYPE_CHECKING:
    from anatomad.planner.dataset import Case
    from anatomad.planner.records import Outlier

MOST_ROWS = 200
_COLOURS = {"ok": "green", "look": "yellow", "mend": "bold red"}


class Verdict(NamedTuple):
    """What to do about a file: nothing (ok), look at it, or mend it."""

    file: str
    word: str
    why: str


def check(args: argparse.Namespace) -> int:
    """Measure a data set and print the verdicts; returns 3 when a file must be mended."""
    from anatomad.errors import DataError
    from anatomad.parallel import default_workers
    from anatomad.planner.dataset import dataset_folder, find_dataset, make_folder
    from anatomad.planner.fingerprint import take_fingerprint

    dataset = find_dataset(args.dataset, args.root)
    cases = dataset.training_cases() or dataset.test_cases()
    if not cases:
        raise DataError(f"{dataset.path}: no scan in imagesTr or imagesTs; scans go there as CASE_0000.nii.gz")
    folder = make_folder(dataset_folder(dataset, args.work))
    fingerprint, failures = take_fingerprint(dataset, folder, args.workers or default_workers())
    findings: dict[str, list[Outlier]] = defaultdict(list)
    for outlier in fingerprint.outliers:
        findings[outlier.case].append(outlier)
    verdicts = [verdict for case in cases for verdict in verdicts_of(case, findings.get(case.id, ()), failures)]
    _show(dataset.name, verdicts)
    counts = Counter(verdict.word for verdict in verdicts)
    say(f"files: {len(verdicts)}; ok: {counts['ok']}, look: {counts['look']}, mend: {counts['mend']}")
    say(f"measurements: {folder / 'fingerprint.json'}")
    return 3 if counts["mend"] else 0


def verdicts_of(case: Case, found: Sequence[Outlier], failures: Mapping[str, Exception]) -> list[Verdict]:
    """The verdict on every file of a case from what was found; a case that failed has one, which names the file."""
    if case.id in failures:
        return [Verdict(case.id, "mend", str(failures[case.id]))]
    numbers = case.channels.keys() | {outlier.channel for outlier in found if outlier.channel is not None}
    return [_verdict(case, number, [o for o in found if o.channel in (number, None)]) for number in sorted(numbers)]


def _verdict(case: Case, number: int, found: Sequence[Outlier]) -> Verdict:
    path = case.channels.get(number)
    word = max((outlier.severity for outlier in found), default="ok", key=list(_COLOURS).index)
    name = f"{case.id}_{number:04d}" if path is None else path.name
    return Verdict(name, word, "; ".join(outlier.reason for outlier in found))


def _show(name: str, verdicts: list[Verdict]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("file", "verdict", "why", title=f"Check of {name}", title_justify="left")
    shown = verdicts if len(verdicts) <= MOST_ROWS else [verdict for verdict in verdicts if verdict.word != "ok"]
    for verdict in shown:
        table.add_row(verdict.file, Text(verdict.word, style=_COLOURS[verdict.word]), verdict.why)
    console = Console(highlight=False, markup=False)
    console.width = console.width if console.is_terminal else 120
    console.print(table)

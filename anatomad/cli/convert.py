"""``anatomad_convert``: public data sets from their published folder layouts to the raw layout."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anatomad.cli.common import add_workers, make_parser, run_command, say

if TYPE_CHECKING:
    from anatomad.convert.description import DataSet
    from anatomad.convert.run import Outcome

_log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``anatomad_convert``; returns the exit code (3 when a case could not be converted: the others are done)."""
    parser = make_parser(
        "anatomad_convert",
        "Bring a public data set, unpacked as it was published, into the raw layout. Healthy subjects go to imagesTr,\n"
        "patients to imagesTs and their lesion masks to labelsTs. Started again, it goes on where it was.",
        "anatomad_convert ixi downloads/IXI -d 010",
    )
    parser.add_argument("name", nargs="?", help="which data set it is, like ixi or brats2021; --list names them")
    parser.add_argument("source", nargs="?", type=Path, help="its folder; folders above and within will do")
    parser.add_argument("-d", "--dataset", metavar="NUMBER", help="number of the new data set, or Dataset010_Name")
    parser.add_argument("--root", type=Path, metavar="DIR", help="folder to make it in (else ANATOMAD_ROOT, else here)")
    parser.add_argument("--link", action="store_true", help="link to files that need no change instead of copying them")
    parser.add_argument("--list", action="store_true", help="list the known data sets, their licences and citations")
    add_workers(parser)
    return run_command(_convert, parser.parse_args(argv))


def _convert(args: argparse.Namespace) -> int:
    from anatomad.convert.run import convert
    from anatomad.convert.sets import KNOWN, known_set
    from anatomad.errors import UsageError
    from anatomad.parallel import default_workers
    from anatomad.planner.dataset import new_dataset

    if args.list:
        say("\n\n".join(map(_card, KNOWN.values())))
        return 0
    if not (args.name and args.source and args.dataset):
        raise UsageError("which data set, from where, to which number? For example: anatomad_convert ixi IXI -d 010")
    data_set = known_set(args.name)
    folder = new_dataset(args.dataset, data_set.title, args.root)
    outcome = convert(data_set, args.source, folder, args.workers or default_workers(), args.link)
    return _report(folder, outcome, args.debug)


def _card(data_set: DataSet) -> str:
    kind = "healthy" if data_set.healthy else "patients"
    masks = "with lesion masks" if data_set.mask else "no lesion masks"
    lines = [
        f"{data_set.name}: {kind}, {', '.join(data_set.sequences)}, {masks}",
        f"  {data_set.about}",
        f"  licence: {data_set.licence}",
        f"  cite:    {data_set.citation}",
        f"  from:    {data_set.homepage}",
        f"  files:   {data_set.example}",
    ]
    lines += [f"  note:    {data_set.processing}"] if data_set.processing else []
    lines += [f"  CANNOT BE CONVERTED: {data_set.refusal}"] if data_set.refusal else []
    return "\n".join(lines)


def _report(folder: Path, outcome: Outcome, debug: bool) -> int:
    from anatomad.errors import ResourceError

    data_set = outcome.data_set
    _tell_of_rest(outcome)
    for id_, error in outcome.failures.items():
        _log.error("case %s was not converted: %s", id_, error, exc_info=error if debug else None)
    counts = ", ".join(f"{name} {number}" for name, number in outcome.scans.items())
    say(f"{data_set.title}: cases {len(outcome.cases)}; {counts}")
    say(f"files written: {outcome.written}, kept: {outcome.kept}; what came from where: {folder / 'conversion.json'}")
    say(f"licence: {data_set.licence}")
    say(f"cite: {data_set.citation}")
    say(_next(data_set, folder))
    full = any(isinstance(error, ResourceError) for error in outcome.failures.values())
    return ResourceError.exit_code if full else 3 if outcome.failures else 0


def _tell_of_rest(outcome: Outcome) -> None:
    found, people = outcome.found, outcome.people
    for hint in people.hints:
        _log.warning("%s", hint)
    for why, paths in found.unused.items():
        say(f"not used, {why}: {len(paths)} files")
    for why, ids in people.left_out.items():
        say(f"left out, {why}: {len(ids)} cases: {_some(ids)}")
    for what, files in (("images that fit no pattern", found.unplaced), ("masks without a scan", found.masks_alone)):
        if files:
            _log.warning("not placed, %s: %d: %s", what, len(files), _some([str(path) for path in files]))


def _next(data_set: DataSet, folder: Path) -> str:
    if data_set.healthy:
        return f"next: anatomad_plan -d {folder}"
    evaluate = f", then anatomad_evaluate -p OUT -r {folder / 'labelsTs'}" if data_set.mask else ""
    return f"next: anatomad_predict -i {folder} -o OUT -m MODEL --each{evaluate}"


def _some(names: Sequence[str], shown: int = 10) -> str:
    rest = f" and {len(names) - shown} more, all in conversion.json" if len(names) > shown else ""
    return ", ".join(names[:shown]) + rest

"""``anatomad_evaluate``: anomaly maps measured against lesion labels."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anatomad.cli.common import make_parser, run_command, say

if TYPE_CHECKING:
    from rich.table import Table

_log = logging.getLogger(__name__)

# Metric, heading, digits, whether its interval is shown.
_COLUMNS = (
    ("pooled_ap", "AP\npooled", 3, True),
    ("mean_ap", "AP\nper volume", 3, False),
    ("auroc", "AUROC\nvoxels", 3, False),
    ("oracle_dice", "oracle\nDice", 3, False),
    ("calibrated_dice", "Dice of\nthe mask", 3, True),
    ("lesion_f1", "lesion\nF1", 3, False),
    ("healthy_false_positive_ml", "healthy FP\nml", 1, False),
    ("subject_auroc", "AUROC\nscans", 3, False),
)


def _parser() -> argparse.ArgumentParser:
    result = make_parser(
        "anatomad_evaluate",
        "Measure anomaly maps against lesion labels, per sequence; each metric comes with its protocol.",
        "anatomad_evaluate -p out -r Dataset101_Glioma/labelsTs -o metrics.json",
    )
    result.add_argument(
        "-p", "--predictions", type=Path, required=True, metavar="DIR", help="what anatomad_predict wrote"
    )
    result.add_argument(
        "-r",
        "--references",
        type=Path,
        required=True,
        metavar="DIR",
        help="labels CASE.nii.gz, lesion > 0; a dataset.json beside this folder names the sequences",
    )
    result.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="metrics as JSON (default: metrics.json in DIR of -p)"
    )
    result.add_argument(
        "--healthy", type=Path, metavar="PATH", help="predictions of healthy scans, or a text file of cases in -p"
    )
    result.add_argument(
        "--bootstrap", type=_count, default=1000, metavar="N", help="replicates (default 1000; 0: none)"
    )
    result.add_argument("--seed", type=_count, default=0, metavar="N", help="of the bootstrap (default 0)")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``anatomad_evaluate``; returns the exit code (3 when a prediction could not be measured: the others are)."""
    return run_command(_evaluate, _parser().parse_args(argv))


def _evaluate(args: argparse.Namespace) -> int:
    from anatomad.evaluate.protocol import evaluate
    from anatomad.io.atomic import write_json
    from anatomad.progress import track

    metrics = evaluate(
        args.predictions,
        args.references,
        args.healthy,
        replicates=args.bootstrap,
        seed=args.seed,
        track=lambda predictions: track(predictions, "measure"),
    )
    _show(metrics)
    for key, text in (
        ("predictions_without_label", "predictions without a label, not measured; name healthy ones with --healthy"),
        ("labels_without_prediction", "labels without a prediction, not measured"),
        (
            "predictions_without_sidecar",
            "predictions without ID.json, which anatomad_predict writes last: not finished?",
        ),
    ):
        if metrics[key]:
            _log.warning("%d %s: %s", len(metrics[key]), text, ", ".join(metrics[key]))
    for id_, error in metrics["failed"].items():
        _log.error("%s could not be measured: %s", id_, error)
    output = args.output or args.predictions / "metrics.json"
    write_json(output, metrics)
    say(f"metrics, intervals, single cases and the protocol of each number: {output}")
    return 3 if metrics["failed"] else 0


def _show(metrics: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    console.width = console.width if console.is_terminal else 120
    console.print(_table(metrics["sequences"]))


def _table(sequences: dict[str, dict[str, Any]]) -> Table:
    from rich.table import Table

    columns = [column for column in _COLUMNS if any(s[column[0]]["value"] is not None for s in sequences.values())]
    table = Table("sequence", *(heading for _, heading, *_ in columns), show_lines=True)
    for name, values in sequences.items():
        scans = f"{name}\n{values['volumes']} scans"
        scans += f", {values['healthy_volumes']} healthy" if values["healthy_volumes"] else ""
        table.add_row(scans, *(_cell(values[key], digits, interval) for key, _, digits, interval in columns))
    return table


def _cell(metric: dict[str, Any], digits: int, interval: bool) -> str:
    if metric["value"] is None:
        return "-"
    text = f"{metric['value']:.{digits}f}"
    if interval and metric["interval"]:
        low, high = metric["interval"]
        text += f"\n{low:.{digits}f}-{high:.{digits}f}"
    return text


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)

"""What intensity alone reaches in each column where the rule is chosen with the labels: a reference, not a method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from anatomad.benchmark.results import Column
from anatomad.benchmark.runs import read_finished
from anatomad.benchmark.scans import Scans
from anatomad.demo.baseline import SMOOTHING_MM, threshold_intensity
from anatomad.io.atomic import write_json

NAME = "any intensity rule, the best per cell"
NOTE = (
    f"{NAME}: of bright, dark, two-sided and equalised, each smoothed with a Gaussian of SD "
    f"{', '.join(f'{sd:g}' for sd in SMOOTHING_MM)} mm, the one that suits the labels of the cell best, on the scan's "
    "own grid; no method, as nobody could choose it"
)

Reference = Mapping[Column, Mapping[str, float]]


def measure_rules(scans: Scans, folder: Path, images: Path, predictions: Path) -> None:
    """Measure every rule on labelled scans, unless ``folder`` holds that already.

    Args:
        scans: Whose labels.
        folder: Of the benchmark.
        images: The scans.
        predictions: What any method made of them; its brains are used, which are the same for all.
    """
    path, made_from = _file(scans, folder)
    if scans.labels is None or read_finished(path, made_from) is not None:
        return
    found = threshold_intensity(images, predictions, scans.labels)
    best = {
        sequence: {"pooled_ap": rules.best_precision()[1], "oracle_dice": rules.best_dice()[1]}
        for sequence, rules in found.items()
    }
    write_json(path, {"sequences": best, "made_from": made_from})


def read_rules(scans: Iterable[Scans], folder: Path) -> Reference:
    """What is measured already: the best average precision and oracle Dice of any rule, by column."""
    result = {}
    for group in scans:
        for sequence, values in (read_finished(*_file(group, folder)) or {"sequences": {}})["sequences"].items():
            result[Column(group.name, sequence)] = values
    return result


def _file(scans: Scans, folder: Path) -> tuple[Path, dict[str, str]]:
    return folder / "rules" / f"{scans.slug}.json", {"scans": scans.digest}

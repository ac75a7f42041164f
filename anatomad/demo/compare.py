"""The demo's verdict per sequence: anatomad against the best intensity rule, on the same voxels."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anatomad.demo.baseline import Rule, threshold_intensity

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Verdict:
    """One sequence.

    Attributes:
        sequence: its name.
        chance: share of lesion voxels: the average precision of a coin.
        precision, dice: pooled average precision and oracle Dice of anatomad, in [0, 1].
        rule_precision, rule_dice: the same of the best intensity rule, which may be another for each.
        precision_rule, dice_rule: what these rules are.
    """

    sequence: str
    chance: float
    precision: float
    dice: float
    rule_precision: float
    rule_dice: float
    precision_rule: str
    dice_rule: str

    @property
    def won(self) -> bool:
        """Whether anatomad's average precision is higher."""
        return self.precision > self.rule_precision


def compare(metrics: dict[str, Any], images: Path, predictions: Path, references: Path) -> list[Verdict]:
    """Set the metrics of ``anatomad_evaluate`` against intensity thresholding; folders as of `threshold_intensity`."""
    verdicts = []
    for sequence, rules in threshold_intensity(images, predictions, references).items():
        measured = metrics["sequences"][sequence]
        precision_rule, rule_precision = rules.best_precision()
        dice_rule, rule_dice = rules.best_dice()
        verdicts.append(
            Verdict(
                sequence=sequence,
                chance=measured["prevalence"],
                precision=measured["pooled_ap"]["value"],
                dice=measured["oracle_dice"]["value"],
                rule_precision=rule_precision,
                rule_dice=rule_dice,
                precision_rule=_words(precision_rule),
                dice_rule=_words(dice_rule),
            )
        )
    return sorted(verdicts, key=lambda verdict: -verdict.precision + verdict.rule_precision)


def as_json(verdicts: list[Verdict]) -> list[dict[str, Any]]:
    """The verdicts as plain values."""
    return [asdict(verdict) | {"won": verdict.won} for verdict in verdicts]


def as_table(verdicts: list[Verdict], trained_on: set[str]) -> Table:
    """The verdicts as a table for a terminal; sequences outside ``trained_on`` are marked as never seen."""
    from rich.table import Table

    title = "Lesions found: pooled average precision (AP), and Dice at the best threshold"
    pairs = (f"{who}\n{what}" for what in ("AP", "Dice") for who in ("anatomad", "intensity"))
    table = Table("sequence", "in training", "chance", *pairs, "higher AP", title=title, title_justify="left")
    for v in verdicts:
        table.add_row(
            v.sequence,
            "yes" if v.sequence in trained_on else "never",
            f"{v.chance:.3f}",
            f"{v.precision:.3f}",
            f"{v.rule_precision:.3f}\n{v.precision_rule}",
            f"{v.dice:.3f}",
            f"{v.rule_dice:.3f}\n{v.dice_rule}",
            "anatomad" if v.won else "intensity",
        )
    return table


def _words(rule: Rule) -> str:
    name, sd = rule
    return f"{name}, {sd:g} mm" if sd else name

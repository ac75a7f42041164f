"""The tables of a benchmark, from what is finished."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from anatomad.benchmark.compare import TESTED, Comparison, Estimate, best_other, compare, estimate
from anatomad.benchmark.document import Cell, Document, Table
from anatomad.benchmark.measure import AS_PREDICTED, VARIANTS
from anatomad.benchmark.permutation import PermutationTest
from anatomad.benchmark.protocol import HEADINGS, PROTOCOLS
from anatomad.benchmark.results import Column, Finished, Missing, seconds_per_scan
from anatomad.benchmark.rules import NAME, NOTE, Reference

PEERS, PEERS_AUGMENTED = "best of the other methods", "best of those with our contrast randomisation"
VARIANTS_OF_FIRST = "best of its own variants"
AUGMENTED = "+contrasts"  # how the names of methods end that train on our contrast randomisation
_SHORT = {"pooled_ap": "AP", "calibrated_dice_pooled": "Dice", "oracle_dice": "oracle Dice"}

Methods = Mapping[str, Sequence[Finished]]


@dataclass(frozen=True)
class Standing:
    """All that the tables are made of.

    Attributes:
        methods: Runs by method; the first is compared with the others.
        columns: Single sequences and fused results, as asked for.
        missing: What is not there.
        seeds: Seeds asked for.
        about: Lines on what was run.
        rules: What intensity alone reaches, by column and metric.
    """

    methods: Methods
    columns: Sequence[Column]
    missing: Sequence[Missing]
    seeds: int
    about: Sequence[str]
    rules: Reference = field(default_factory=dict)

    @property
    def single(self) -> list[Column]:
        """Columns of single sequences: those that the means are over."""
        return [column for column in self.columns if not column.fused]

    @property
    def first(self) -> str:
        """The method that is compared with the others."""
        return next(iter(self.methods))


def comparisons(standing: Standing) -> list[Comparison]:
    """The first method against every other one that has every column."""
    found = [
        compare(standing.methods[standing.first], standing.methods[other], standing.single, variant, metric)
        for variant in VARIANTS
        for metric in TESTED
        for other in standing.methods
        if other != standing.first
    ]
    return [comparison for comparison in found if comparison is not None]


def make_document(standing: Standing) -> Document:
    """Everything, the headline first."""
    versus = comparisons(standing)
    tables = [
        *_headline_table(standing, versus),
        *(_missing_table(standing) if standing.missing else ()),
        *(_metric_table(standing, variant, metric) for variant in VARIANTS for metric in HEADINGS),
        *(_comparison_table(versus) if versus else ()),
        *(_fused_table(standing) if any(column.fused for column in standing.columns) else ()),
        *_healthy_tables(standing),
        _cost_table(standing),
    ]
    parts = f"Incomplete: parts are missing ({len(standing.missing)}); each is listed below with its error."
    lead = [*([parts] if standing.missing else []), *standing.about]
    return Document("Benchmark", lead, tables, PROTOCOLS)


def _headline_table(standing: Standing, versus: Sequence[Comparison]) -> Iterator[Table]:
    kinds = [(variant, metric) for variant in VARIANTS for metric in TESTED]
    groups = {name: others for name, others in _groups(standing).items() if others}
    head = [f"{standing.first} against", *(f"{_SHORT[metric]},\n{variant}" for variant, metric in kinds)]
    rows = [
        [Cell(name), *(_headline_cell(standing, versus, others, *kind) for kind in kinds)]
        for name, others in groups.items()
    ]
    if rows:
        yield Table("Headline: difference of the means over all single sequences, in points", head, rows)


def _groups(standing: Standing) -> dict[str, list[str]]:
    """Other methods by what a comparison with them shows."""
    groups: dict[str, list[str]] = {PEERS: [], PEERS_AUGMENTED: [], VARIANTS_OF_FIRST: []}
    own = standing.first.partition(":")[0]
    for name in standing.methods:
        if re.match(rf"{re.escape(own)}(?![\w])", name):
            groups[VARIANTS_OF_FIRST] += [name] if name != standing.first else []
        else:
            groups[PEERS_AUGMENTED if name.partition(":")[0].endswith(AUGMENTED) else PEERS].append(name)
    return groups


def _headline_cell(
    standing: Standing, versus: Sequence[Comparison], others: Sequence[str], variant: str, metric: str
) -> Cell:
    best = best_other({name: standing.methods[name] for name in others}, standing.single, variant, metric)
    pair = next((c for c in versus if (c.other, c.variant, c.metric) == (best, variant, metric)), None)
    if pair is None:
        return Cell("missing", missing=True)
    detail = f"{_brackets(pair.interval, 100, 1).strip()} {_p_text(pair.test)}, {pair.patients} patients"
    return Cell(f"{100 * pair.difference:+.1f} over {pair.other}", detail.strip())


def _metric_table(standing: Standing, variant: str, metric: str) -> Table:
    names = [f"{column.data_set.split('_', 1)[-1]}\n{column.sequence}" for column in standing.single]
    columns = [_metric_cells(standing, cells, variant, metric) for cells in (standing.single, *_each(standing.single))]
    rows = [[Cell(name), *cells] for name, *cells in zip(standing.methods, *columns, strict=True)]
    reference = _rules_row(standing, metric) if variant == AS_PREDICTED else []
    note = NOTE if reference else ""
    return Table(f"{HEADINGS[metric]}; {variant}", ["method", "mean", *names], [*rows, *reference], note)


def _each(columns: Sequence[Column]) -> list[list[Column]]:
    return [[column] for column in columns]


def _metric_cells(standing: Standing, columns: Sequence[Column], variant: str, metric: str) -> list[Cell]:
    """A column of a table, over one or several columns of results: a cell per method."""
    found = [estimate(runs, columns, variant, metric) for runs in standing.methods.values()]
    best = max((e.mean for e in found if e is not None), default=None)
    return [_cell(e, standing.seeds, best) for e in found]


def _rules_row(standing: Standing, metric: str) -> list[list[Cell]]:
    values = [standing.rules.get(column, {}).get(metric) for column in standing.single]
    known = [value for value in values if value is not None]
    if not known:
        return []
    mean = float(np.mean(known)) if len(known) == len(values) else None
    cells = [Cell("missing", missing=True) if v is None else Cell(f"{v:.3f}", shade=v) for v in (mean, *values)]
    return [[Cell(NAME), *cells]]


def _cell(found: Estimate | None, seeds: int, best: float | None = None) -> Cell:
    if found is None:
        return Cell("missing", missing=True)
    sd = "" if found.sd is None else f" ± {found.sd:.3f}"
    few = f"{found.seeds} of {seeds} seeds " if found.seeds < seeds else ""
    detail = f"{few}{_brackets(found.interval, 1, 3).strip()}"
    return Cell(f"{found.mean:.3f}{sd}", detail.strip(), shade=found.mean, best=found.mean == best, missing=bool(few))


def _comparison_table(versus: Sequence[Comparison]) -> Iterator[Table]:
    others = list(dict.fromkeys(c.other for c in versus))
    kinds = list(dict.fromkeys((c.variant, c.metric) for c in versus))
    at = {(c.other, c.variant, c.metric): c for c in versus}
    head = [f"{versus[0].method} minus", *(f"{_SHORT[metric]},\n{variant}" for variant, metric in kinds)]
    rows = [[Cell(other), *(_comparison_cell(at.get((other, *kind))) for kind in kinds)] for other in others]
    yield Table("Differences of the means, in points, and permutation tests over patients", head, rows)


def _comparison_cell(pair: Comparison | None) -> Cell:
    if pair is None:
        return Cell("missing", missing=True)
    detail = f"{_brackets(pair.interval, 100, 1).strip()} {_p_text(pair.test)}"
    return Cell(f"{100 * pair.difference:+.1f}", detail.strip())


def _fused_table(standing: Standing) -> Iterator[Table]:
    fused = [column for column in standing.columns if column.fused]
    head, rows = ["method"], [[Cell(name)] for name in standing.methods]
    for column in fused:
        own = [c for c in standing.single if c.data_set == column.data_set]
        name = column.data_set.split("_", 1)[-1]
        for metric in TESTED:
            head += [f"{name}\nfused {_SHORT[metric]}", f"{name}\nbest single {_SHORT[metric]}"]
            for row, runs in zip(rows, standing.methods.values(), strict=True):
                row.append(_cell(estimate(runs, [column], AS_PREDICTED, metric), standing.seeds))
                row.append(_best_single(runs, own, metric, standing.seeds))
    note = f"{AS_PREDICTED}; the best single sequence is chosen with the labels, the fused result is not"
    yield Table("Sequences of a patient fused", head, rows, note)


def _best_single(runs: Sequence[Finished], columns: Sequence[Column], metric: str, seeds: int) -> Cell:
    found = [(e, c) for c in columns if (e := estimate(runs, [c], AS_PREDICTED, metric)) is not None]
    if not found:
        return Cell("missing", missing=True)
    top, column = max(found, key=lambda pair: pair[0].mean)
    cell = _cell(top, seeds)
    return Cell(cell.text, f"{column.sequence} {cell.detail}".strip(), cell.shade, missing=cell.missing)


def _healthy_tables(standing: Standing) -> Iterator[Table]:
    groups = list(dict.fromkeys(g for runs in standing.methods.values() for run in runs for g in run.healthy))
    if not groups:
        return
    kinds = [(group, variant) for group in groups for variant in VARIANTS]
    head = ["method", *(f"{group},\n{variant}" for group, variant in kinds)]
    rows = [[Cell(name), *(_healthy_cell(runs, *kind) for kind in kinds)] for name, runs in standing.methods.items()]
    yield Table("Healthy scans: share of the brain with p ≤ 0.01, and ml of the mask per scan", head, rows)


def _healthy_cell(runs: Sequence[Finished], group: str, variant: str) -> Cell:
    found = [run.healthy[group][variant] for run in runs if group in run.healthy]
    if not found:
        return Cell("missing", missing=True)
    p01, brain, mask = (
        np.array([[scan[name] for scan in scans] for scans in found]) for name in ("p01_ml", "brain_ml", "mask_ml")
    )
    share = float(np.mean(p01.sum(1) / brain.sum(1)))
    return Cell(f"{share:.2%}".replace("%", " %"), f"{mask.mean():.1f} ml, scans: {mask.shape[1]}")


def _cost_table(standing: Standing) -> Table:
    head = ["method", "seeds finished", "training\nmin", "memory, training\nMB", "judging\ns per scan"]
    rows = [_cost_row(name, runs, standing) for name, runs in standing.methods.items()]
    note = "time of trainings that were not interrupted; judging is one sequence of one patient, from file to map"
    return Table("Cost", head, rows, note)


def _cost_row(name: str, runs: Sequence[Finished], standing: Standing) -> list[Cell]:
    trained = [run.training for run in runs if run.training is not None]
    lacking = {missing.seed for missing in standing.missing if missing.method == name}
    whole = sum(run.run.seed not in lacking for run in runs)
    return [
        Cell(name),
        Cell(f"{whole} of {standing.seeds}", missing=whole < standing.seeds),
        Cell(_mean_text([training["seconds"] for training in trained], lambda seconds: f"{seconds / 60:.1f}")),
        Cell(_mean_text([training["peak_memory_mb"] for training in trained], lambda size: f"{size:.0f}")),
        Cell(_mean_text([seconds for run in runs for seconds in _per_scan(run)], lambda seconds: f"{seconds:.1f}")),
    ]


def _per_scan(run: Finished) -> Iterator[float | None]:
    """Seconds per scan of every group that the run has judged."""
    return (seconds_per_scan(seconds) for seconds in run.seconds.values())


def _missing_table(standing: Standing) -> Iterator[Table]:
    rows = [[Cell(m.method), Cell(str(m.seed)), Cell(m.what), Cell(m.error)] for m in standing.missing]
    yield Table("Missing", ["method", "seed", "what", "why"], rows, "the same command tries these again")


def _mean_text(values: Sequence[float | None], text: Callable[[float], str]) -> str:
    known = [value for value in values if value is not None]
    return text(float(np.mean(known))) if known else "unknown"


def _p_text(test: PermutationTest | None) -> str:
    if test is None:
        return "no volume to test"
    return f"p = {test.p:.2g}{'' if test.exact else ' (sampled)'}"


def _brackets(interval: tuple[float, float] | None, factor: float, digits: int) -> str:
    if interval is None:
        return ""
    low, high = (factor * end for end in interval)
    return f" [{low:.{digits}f}, {high:.{digits}f}]"

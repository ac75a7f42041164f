"""``benchmark.html``, ``benchmark.md`` and ``benchmark.json``: the same results to look at, to paste and to read in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anatomad
from anatomad.benchmark.compare import estimate
from anatomad.benchmark.measure import METRICS, VARIANTS
from anatomad.benchmark.pages import as_html, as_markdown
from anatomad.benchmark.protocol import PROTOCOLS
from anatomad.benchmark.results import Column, Finished
from anatomad.benchmark.tables import Standing, comparisons, make_document
from anatomad.io.atomic import write_json, write_text


def write_report(folder: Path, standing: Standing) -> None:
    """Write the three files; raises as `io.atomic.write_text` does."""
    document = make_document(standing)
    write_text(folder / "benchmark.html", as_html(document))
    write_text(folder / "benchmark.md", as_markdown(document))
    write_json(folder / "benchmark.json", as_json(standing))


def as_json(standing: Standing) -> dict[str, Any]:
    """All estimates, comparisons, single runs and what is missing, as plain values."""
    return {
        "anatomad": anatomad.__version__,
        "about": list(standing.about),
        "protocols": PROTOCOLS,
        "columns": [asdict(column) for column in standing.columns],
        "comparisons": [asdict(comparison) for comparison in comparisons(standing)],
        "any_intensity_rule": {str(column): values for column, values in standing.rules.items()},
        "missing": [asdict(missing) for missing in standing.missing],
        "methods": {name: _method(runs, standing) for name, runs in standing.methods.items()},
    }


def _method(runs: Sequence[Finished], standing: Standing) -> dict[str, Any]:
    groups: dict[str, list[Column]] = {str(column): [column] for column in standing.columns}
    return {
        "estimates": {
            variant: {
                metric: {name: _estimate(runs, cells, variant, metric) for name, cells in _with_mean(groups, standing)}
                for metric in METRICS
            }
            for variant in VARIANTS
        },
        "runs": [_run(run) for run in runs],
    }


def _with_mean(groups: dict[str, list[Column]], standing: Standing) -> list[tuple[str, list[Column]]]:
    return [*groups.items(), ("mean", standing.single)]


def _estimate(runs: Sequence[Finished], columns: list[Column], variant: str, metric: str) -> dict[str, Any] | None:
    found = estimate(runs, columns, variant, metric)
    return None if found is None else asdict(found)


def _run(run: Finished) -> dict[str, Any]:
    training = {key: value for key, value in (run.training or {}).items() if key != "made_from"}
    return {
        "seed": run.run.seed,
        "folder": run.run.folder.name,
        "training": training or None,
        "seconds": run.seconds,
        "columns": {str(column): variants for column, variants in run.columns.items()},
        "healthy": run.healthy,
    }

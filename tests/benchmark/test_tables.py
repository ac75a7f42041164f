from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from anatomad.benchmark.document import Cell, Table
from anatomad.benchmark.pages import as_html, as_markdown
from anatomad.benchmark.report import as_json, write_report
from anatomad.benchmark.results import Missing
from anatomad.benchmark.tables import PEERS, PEERS_AUGMENTED, VARIANTS_OF_FIRST, Standing, make_document
from tests.benchmark.made import FUSED, MS, T1, T2, made_run, seeds

COLUMNS = [T1, T2, FUSED, MS]


@pytest.fixture
def standing() -> Standing:
    methods = {
        "dal": seeds("dal", [0.6, 0.7], COLUMNS),
        "dal:3d": seeds("dal:3d", [0.75, 0.75], COLUMNS),
        "vae": seeds("vae", [0.4, 0.4], COLUMNS),
        "dae": seeds("dae", [0.2, 0.5], COLUMNS),
        "dae+contrasts": seeds("dae+contrasts", [0.5, 0.5], COLUMNS),
    }
    return Standing(methods, COLUMNS, [], 2, ["Trained on ten scans."])


def table_of(standing: Standing, title: str) -> Table:
    return next(table for table in make_document(standing).tables if table.title.startswith(title))


def row_of(table: Table, name: str) -> list[Cell]:
    return list(next(row for row in table.rows if row[0].text == name))


def test_headline_is_against_the_best_of_each_kind(standing: Standing) -> None:
    table = table_of(standing, "Headline")
    assert table.head[:2] == ["dal against", "AP,\nas predicted"]
    assert [row[0].text for row in table.rows] == [PEERS, PEERS_AUGMENTED, VARIANTS_OF_FIRST]
    first = [row[1] for row in table.rows]
    assert [cell.text for cell in first] == ["+25.0 over vae", "+15.0 over dae+contrasts", "-10.0 over dal:3d"]
    assert all("p = 0.002, 10 patients" in cell.detail for cell in first)


def test_a_name_that_only_begins_alike_is_no_variant(standing: Standing) -> None:
    other = replace(standing, methods={"dal": standing.methods["dal"], "dalton": standing.methods["vae"]})
    assert [row[0].text for row in table_of(other, "Headline").rows] == [PEERS]
    alone = replace(standing, methods={"dal": standing.methods["dal"]})
    assert not [table for table in make_document(alone).tables if table.title.startswith(("Headline", "Differences"))]


def test_cells_are_means_with_spread_and_interval(standing: Standing) -> None:
    table = table_of(standing, "Average precision (AP), voxels of all patients pooled; as predicted")
    assert table.head == ["method", "mean", "Glioma\nT1w", "Glioma\nT2w", "MS\nT1w"]  # fused ones stand apart
    runs = standing.methods["dae"]
    values = [run.columns[T1]["as predicted"]["pooled_ap"]["value"] for run in runs]
    cell = row_of(table, "dae")[2]
    assert cell.text == f"{sum(values) / 2:.3f} ± 0.212"
    assert cell.detail.startswith("[0.")
    best = [[cell.best for cell in row] for row in table.rows]
    assert best == [[False] * 5, [False, True, True, True, True], *[[False] * 5] * 3]


def test_a_missing_seed_is_said_in_every_cell(standing: Standing) -> None:
    runs = [standing.methods["vae"][0], made_run("vae", 1, {}, trained=False)]
    lost = Missing("vae", 1, "training", "loss <not> finite")
    broken = replace(standing, methods={**standing.methods, "vae": runs}, missing=[lost])
    document = make_document(broken)
    assert document.lead[0].startswith("Incomplete: parts are missing (1)")
    assert [cell.text for cell in table_of(broken, "Missing").rows[0]] == ["vae", "1", "training", "loss <not> finite"]
    row = row_of(table_of(broken, "Average precision"), "vae")
    assert all("1 of 2 seeds" in cell.detail and cell.missing for cell in row[1:])
    assert row_of(table_of(broken, "Cost"), "vae")[1].text == "1 of 2"
    assert "loss &lt;not&gt; finite" in as_html(document)


def test_a_method_without_a_column_is_missing_and_never_the_best(standing: Standing) -> None:
    partial = replace(standing, methods={**standing.methods, "vae": seeds("vae", [0.99, 0.99], [T1])})
    row = row_of(table_of(partial, "Average precision"), "vae")
    assert [cell.text == "missing" for cell in row] == [False, True, False, True, True]
    assert table_of(partial, "Headline").rows[0][1].text == "+30.0 over dae"
    assert "vae" not in [row[0].text for row in table_of(partial, "Differences").rows]


def test_nothing_at_all_is_a_page_too() -> None:
    methods = {name: [made_run(name, seed, {}, trained=False) for seed in (0, 1)] for name in ("dal", "vae")}
    nothing = [Missing(name, seed, "training", "not run yet") for name in methods for seed in (0, 1)]
    for run in [run for runs in methods.values() for run in runs]:
        run.healthy.clear()
    empty = Standing(methods, COLUMNS, nothing, 2, [])
    cells = [cell for row in table_of(empty, "Oracle Dice").rows for cell in row[1:]]
    assert {cell.text for cell in cells} == {"missing"}
    assert "missing" in as_markdown(make_document(empty))
    assert all(row[1].text == "missing" for row in table_of(empty, "Headline").rows)


def test_fused_beside_the_best_single_sequence(standing: Standing) -> None:
    table = table_of(standing, "Sequences of a patient fused")
    assert table.head == ["method", *(f"Glioma\n{k} {m}" for m in ("AP", "Dice") for k in ("fused", "best single"))]
    assert row_of(table, "vae")[2].detail.startswith(("T1w [", "T2w ["))


def test_the_best_rule_of_each_cell_stands_below_and_apart(standing: Standing) -> None:
    rules = {column: {"pooled_ap": 0.9, "oracle_dice": 0.8} for column in (T1, T2, MS)}
    with_rules = replace(standing, rules=rules)
    row = table_of(with_rules, "Average precision").rows[-1]
    assert [cell.text for cell in row] == ["any intensity rule, the best per cell", *["0.900"] * 4]
    assert not any(cell.best for cell in row)
    assert table_of(with_rules, "Headline") == table_of(standing, "Headline")
    assert len(table_of(with_rules, "Dice at the label-free").rows) == 5  # it has no threshold without labels
    some = replace(standing, rules={T1: rules[T1]})
    assert [cell.text for cell in table_of(some, "Oracle").rows[-1][1:]] == ["missing", "0.800", "missing", "missing"]


def test_healthy_and_cost(standing: Standing) -> None:
    healthy = row_of(table_of(standing, "Healthy"), "dal")[1]
    assert (healthy.text, healthy.detail) == ("1.05 %", "1.5 ml, scans: 2")
    assert [cell.text for cell in row_of(table_of(standing, "Cost"), "dal")] == ["dal", "2 of 2", "1.5", "500", "2.0"]


class Balance(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_pages_say_the_same_whatever_names_hold(standing: Standing) -> None:
    hostile = "<script>alert('|*_`')</script>"
    runs = seeds("vae", [0.4, 0.4], COLUMNS)
    odd = replace(standing, methods={**standing.methods, hostile: runs})
    document = make_document(odd)
    parser = Balance()
    parser.feed(as_html(document))
    assert not parser.open
    assert parser.texts.count(hostile) == sum(
        cell.text == hostile for table in document.tables for row in table.rows for cell in row
    )
    markdown = as_markdown(document)
    assert "<script" not in markdown
    for line in markdown.splitlines():
        if line.startswith("|"):
            assert len(line.replace("\\|", "").split("|")) in {len(table.head) + 2 for table in document.tables}


def test_three_files_of_one_content(standing: Standing, tmp_path: Path) -> None:
    write_report(tmp_path, standing)
    found = json.loads((tmp_path / "benchmark.json").read_text())
    assert found == json.loads(json.dumps(as_json(standing)))
    mean = found["methods"]["vae"]["estimates"]["as predicted"]["pooled_ap"]["mean"]
    assert f"{mean['mean']:.3f} ± {mean['sd']:.3f}" in (tmp_path / "benchmark.md").read_text()
    assert f"{mean['mean']:.3f} ± {mean['sd']:.3f}" in (tmp_path / "benchmark.html").read_text()
    pair = next(c for c in found["comparisons"] if c["other"] == "vae")
    assert pair["test"] == {"p": 2 / 1024, "patterns": 1024, "exact": True}

"""Age, sex, site and scanner of subjects, and who of them is healthy, from the tables of a data set."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anatomad.convert.description import DataSet, Table
from anatomad.convert.find import CaseFiles, Found, find_tables
from anatomad.errors import AnatomadError, DataError, UsageError

_COLUMNS = ("age", "sex", "site", "scanner")
_DELIMITERS = (",", "\t", ";")
_UNKNOWN = "n/a"

Rows = dict[str, list[dict[str, str]]]


@dataclass
class People:
    """What tables say.

    Attributes:
        facts: by subject, columns of participants.tsv.
        left_out: reason to ids of cases that are not healthy, or not known to be.
        hints: what would tell more.
    """

    facts: dict[str, dict[str, str]] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    hints: list[str] = field(default_factory=list)


def read_people(data_set: DataSet, found: Found, source: Path, apart: Path) -> People:
    """Read the tables of a data set that lie in ``source``.

    Raises:
        UsageError: a table is missing without which nobody knows who is healthy.
        DataError: such a table lacks a column.
    """
    people = People({subject: dict(facts) for subject, facts in found.facts.items()})
    for table in data_set.tables:
        rows = _read(table, source, apart, people)
        for case in found.cases.values():
            mine = rows.get(_key(table.key.format(**case.groups)), [])
            if table.healthy and (why := _not_healthy(mine, *table.healthy)):
                people.left_out.setdefault(why, []).append(case.id)
            _carry_over(table, mine, people.facts[case.subject])
    return people


def participants_tsv(cases: Iterable[CaseFiles], facts: Mapping[str, Mapping[str, str]]) -> str:
    """The content of participants.tsv: a row per subject, a column per fact that is known of anyone."""
    subjects = sorted({case.subject for case in cases})
    columns = [name for name in _COLUMNS if any(name in facts.get(subject, {}) for subject in subjects)]
    lines = [["participant_id", *columns]]
    lines += [[subject, *(facts.get(subject, {}).get(name, _UNKNOWN) for name in columns)] for subject in subjects]
    return "".join("\t".join(line) + "\n" for line in lines)


def _read(table: Table, source: Path, apart: Path, people: People) -> Rows:
    readable, sheets = find_tables(table.stem, source, apart)
    if not readable:
        lost = f"nobody knows {'who is healthy' if table.healthy else ' and '.join(table.columns)}"
        advice = "it comes with the data set"
        if sheets:
            advice = f"save {sheets[0]} as CSV, e.g. with 'soffice --headless --convert-to csv'"
        _complain(table, UsageError(f"{source}: no {table.stem}.csv, so {lost}; {advice}"), people)
    rows: Rows = {}
    for path in readable:
        try:
            for row in _rows(path, table):
                rows.setdefault(_key(row[table.id_column]), []).append(row)
        except DataError as error:
            _complain(table, error, people)
    return rows


def _complain(table: Table, error: AnatomadError, people: People) -> None:
    """Stop where the table says who is healthy; else a hint will do."""
    if table.healthy:
        raise error
    people.hints.append(str(error))


def _rows(path: Path, table: Table) -> list[dict[str, str]]:
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    wanted = {table.id_column, *table.columns.values(), *(table.healthy or ())[:1]}
    missing = wanted
    for delimiter in _DELIMITERS:
        header, *lines = [*csv.reader(text.splitlines(), delimiter=delimiter)] or [[]]
        places = {name: place for name in wanted if (place := _place(name, header)) is not None}
        if len(places) == len(wanted):
            return [{name: _cell(line, place) for name, place in places.items()} for line in lines if line]
        missing = min(missing, wanted - places.keys(), key=len)
    raise DataError(
        f"{path}: no column {', '.join(sorted(missing))} in its first line; is it the table of this data set?"
    )


def _cell(line: Sequence[str], place: int) -> str:
    return line[place].strip() if place < len(line) else ""


def _place(name: str, header: Sequence[str]) -> int | None:
    titles = [title.strip() for title in header]
    # "SEX_ID (1=m, 2=f)": the explanation in brackets is no part of the name.
    fitting = [place for place, title in enumerate(titles) if title == name or title.startswith(f"{name} ")]
    return titles.index(name) if name in titles else next(iter(fitting), None)


def _key(text: str) -> str:
    return text.strip().removeprefix("sub-").lstrip("0")


def _not_healthy(rows: Sequence[Mapping[str, str]], column: str, values: Sequence[str]) -> str:
    if not rows:
        return f"no row that tells {column}"
    return "" if all(row[column] in values for row in rows) else f"{column} is not that of a healthy subject"


def _carry_over(table: Table, rows: Sequence[Mapping[str, str]], facts: dict[str, str]) -> None:
    for name, column in table.columns.items():
        value = next((row[column] for row in rows if row[column]), "")
        code = value.removesuffix(".0")
        if value and name not in facts:
            facts[name] = table.values.get(name, {}).get(code, value)

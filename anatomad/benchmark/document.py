"""Tables as plain cells, before they are Markdown or HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        text: What it says.
        detail: Smaller, below it.
        shade: From 0 to 1, how strongly it is coloured.
        best: Whether it leads its column.
        missing: Whether something that was asked for is not there.
    """

    text: str
    detail: str = ""
    shade: float = 0.0
    best: bool = False
    missing: bool = False


@dataclass(frozen=True)
class Table:
    """A table with its heading, the note under it, the names of its columns, and its rows."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


@dataclass(frozen=True)
class Document:
    """A page: what it says first, its tables, and the protocols at its end."""

    title: str
    lead: Sequence[str]
    tables: Sequence[Table]
    protocols: dict[str, str] = field(default_factory=dict)

"""A document as Markdown, and as one HTML page that needs no network."""

from __future__ import annotations

from html import escape

from anatomad.benchmark.document import Cell, Document, Table

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --best: #2563eb; --lack: #d97706 }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1400px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.7rem; margin: 0 0 .5rem } h2 { font-size: 1.1rem; margin: 2rem 0 .4rem }
.lead { margin: .25rem 0 } .note { opacity: .7; font-size: 13px; margin: .2rem 0 .6rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .45rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
th { font-weight: 600; vertical-align: bottom; white-space: pre-line }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 7em }
th { max-width: 9em; font-size: 12px; overflow-wrap: anywhere }
.text td { text-align: left; white-space: normal; vertical-align: top } .text th { text-align: left; max-width: none }
td small { display: block; opacity: .65; font-size: 11px; max-width: 13em; white-space: normal; margin-left: auto }
.text td small { max-width: none; margin: 0 } td.best { color: var(--best); font-weight: 700 }
td.missing { color: var(--lack) } dt { font-weight: 600; margin-top: .5rem } dd { margin: 0; opacity: .85 }
"""


def as_markdown(document: Document) -> str:
    """The document in GitHub's Markdown; the best of a column is bold."""
    parts = [f"# {_plain(document.title)}", *map(_plain, document.lead), *map(_markdown_table, document.tables)]
    if document.protocols:
        lines = [f"- **{_plain(name)}**: {_plain(text)}" for name, text in document.protocols.items()]
        parts.append("## Protocols\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def as_html(document: Document) -> str:
    """The document as a page; cells are shaded by their value, the best of a column is blue."""
    title = escape(document.title)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    lead = [f'<p class="lead">{escape(line)}</p>' for line in document.lead]
    parts = [f"<h1>{title}</h1>", *lead, *map(_html_table, document.tables)]
    if document.protocols:
        entries = (f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in document.protocols.items())
        parts.append(f"<h2>Protocols</h2><dl>{''.join(entries)}</dl>")
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head><body>{body}</body></html>\n'


def _markdown_table(table: Table) -> str:
    rows = [[_markdown_cell(cell) for cell in row] for row in table.rows]
    head = [_plain(name) for name in table.head]
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    note = f"\n\n{_plain(table.note)}" if table.note else ""
    return f"## {_plain(table.title)}\n\n{body}{note}"


def _markdown_cell(cell: Cell) -> str:
    text = f"**{_plain(cell.text)}**" if cell.best else _plain(cell.text)
    return f"{text} {_plain(cell.detail)}" if cell.detail else text


def _plain(text: str) -> str:
    """Text that is nothing but text in Markdown, on one line."""
    line = " ".join(text.split())
    return escape(line, quote=False).replace("|", "\\|").replace("*", "\\*").replace("_", "\\_").replace("`", "\\`")


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.head)
    rows = "".join(f"<tr>{''.join(map(_html_cell, row))}</tr>" for row in table.rows)
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    kind = "" if any(cell.shade for row in table.rows for cell in row) else ' class="text"'
    return f'<h2>{escape(table.title)}</h2>{note}<div class="wide"><table{kind}><tr>{head}</tr>{rows}</table></div>'


def _html_cell(cell: Cell) -> str:
    kinds = " ".join(name for name, there in (("best", cell.best), ("missing", cell.missing)) if there)
    shade = f' style="background:rgb(37 99 235/{0.3 * cell.shade:.2f})"' if cell.shade else ""
    detail = f"<small>{escape(cell.detail)}</small>" if cell.detail else ""
    return f"<td{f' class={chr(34)}{kinds}{chr(34)}' if kinds else ''}{shade}>{escape(cell.text)}{detail}</td>"

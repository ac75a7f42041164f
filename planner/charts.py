"""Small charts as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

_WIDTH, _HEIGHT, _TOP, _BOTTOM = 260, 130, 24, 22
_BINS = 24
_MOST_ROWS = 240
_COLOURS = ("#3b82f6", "#f59e0b", "#10b981", "#a855f7", "#ef4444", "#64748b")


def bars(title: str, values: Sequence[float], unit: str) -> str:
    """Histogram of at least one value."""
    low, high = min(values), max(values)
    margin = 0.05 * max(abs(low), 1e-3) if high == low else 0.0
    counts, _ = np.histogram(values, bins=_BINS, range=(low - margin, high + margin))
    step, plot = _WIDTH / _BINS, _HEIGHT - _TOP - _BOTTOM
    heights = plot * counts / counts.max()
    shapes = "".join(
        f'<rect x="{index * step + 0.5:.1f}" y="{_TOP + plot - height:.1f}" width="{step - 1:.1f}" '
        f'height="{height:.1f}" fill="{_COLOURS[0]}"/>'
        for index, height in enumerate(heights)
        if height
    )
    ends = _text(0, _HEIGHT - 8, f"{low - margin:.4g}") + _text(_WIDTH, _HEIGHT - 8, f"{high + margin:.4g}", "end")
    return _svg(
        _WIDTH, _HEIGHT, f"{title}, {unit}", _axis() + shapes + ends + _middle(f"median {np.median(values):.4g}")
    )


def quantiles(title: str, rows: Sequence[Sequence[float]]) -> str:
    """One upright stroke per scan, sorted by the median: thin from the first to the last percentile, thick between.

    Args:
        title: of the chart.
        rows: five ascending percentiles per scan; of many scans an evenly spaced sample is drawn.
    """
    ordered = sorted(rows, key=lambda row: row[2])
    index = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), _MOST_ROWS)).round().astype(int))
    low, high = min(row[0] for row in rows), max(row[-1] for row in rows)
    plot, step = _HEIGHT - _TOP - _BOTTOM, _WIDTH / len(index)

    def y(value: float) -> float:
        return _TOP + plot * (1 - (value - low) / max(high - low, 1e-12))

    strokes = []
    for place, row in enumerate(ordered[i] for i in index):
        x = (place + 0.5) * step
        for width, first, last in ((0.3, row[0], row[4]), (0.8, row[1], row[3])):
            strokes.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y(first):.1f}" y2="{y(last):.1f}" stroke="{_COLOURS[0]}" '
                f'stroke-opacity="{0.5 if width < 0.5 else 1}" stroke-width="{max(0.4, min(width * step, 6)):.1f}"/>'
            )
    ends = _text(0, _TOP - 2, f"{high:.4g}") + _text(0, _HEIGHT - 8, f"{low:.4g}")
    return _svg(_WIDTH, _HEIGHT, title, _axis() + "".join(strokes) + ends + _middle("scans by their median"))


def stack(parts: Sequence[tuple[str, float]], budget: float) -> str:
    """One bar of amounts in bytes, laid end to end, and the budget as a stroke."""
    total = sum(size for _, size in parts)
    full = max(total, budget, 1)
    width, shapes, at = 860, [], 0.0
    for index, (name, size) in enumerate(parts):
        colour, length = _COLOURS[index % len(_COLOURS)], width * size / full
        label = f"{name}: {gigabytes(size)}"
        shapes.append(
            f'<rect x="{at:.1f}" y="26" width="{length:.1f}" height="26" fill="{colour}">'
            f"<title>{escape(label)}</title></rect>"
            f'<rect x="{index % 3 * 290}" y="{72 + index // 3 * 18}" width="10" height="10" fill="{colour}"/>'
            + _text(index % 3 * 290 + 15, 81 + index // 3 * 18, label)
        )
        at += length
    x = width * budget / full
    shapes.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="22" y2="56" stroke="currentColor" stroke-width="2"/>')
    title = f"{gigabytes(total)} needed of {gigabytes(budget)}"
    return _svg(width, 80 + (len(parts) + 2) // 3 * 18, title, "".join(shapes))


def gigabytes(size: float) -> str:
    """A size in bytes as text, in the units of the plan."""
    return f"{size / 1e9:.2f} GB" if size >= 2.5e8 else f"{size / 1e6:.0f} MB"


def _svg(width: int, height: int, title: str, content: str) -> str:
    heading = f'<text class="title" x="{width / 2}" y="13" text-anchor="middle">{escape(title)}</text>'
    box = f'viewBox="-2 0 {width + 4} {height}" width="{width + 4}" height="{height}"'
    return f'<svg {box} role="img">{heading}{content}</svg>'


def _axis() -> str:
    y = _HEIGHT - _BOTTOM
    return f'<line x1="0" x2="{_WIDTH}" y1="{y}" y2="{y}" stroke="currentColor" stroke-opacity="0.4"/>'


def _middle(text: str) -> str:
    return _text(_WIDTH / 2, _HEIGHT - 8, text, "middle")


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'

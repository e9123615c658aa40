"""Bars with their spread as an SVG file, without a library for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

LABEL, WIDTH, LINE, ROOM = 300, 380, 26, 110  # pixels
COLOURS = ("#2f6f8f", "#9db4c0")  # the first of a panel, the others


def bars(panels: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """One panel each: a bar per row as long as its `median`, with a line from its lowest to its highest rate."""
    drawn, y = [], 10
    for title, rows in panels.items():
        drawn.append(f'<text x="10" y="{y + 16}" font-weight="bold">{escape(title)}</text>')
        y += LINE + 4
        rates = [next(value for name, value in row.items() if name.endswith("/s")) for row in rows]
        longest = max(max(values) for values in rates)
        for place, (row, values) in enumerate(zip(rows, rates, strict=True)):
            drawn += _bar(row, values, WIDTH / longest, y, COLOURS[min(place, 1)])
            y += LINE
        y += 14
    size = f'width="{LABEL + WIDTH + ROOM}" height="{y}" viewBox="0 0 {LABEL + WIDTH + ROOM} {y}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *drawn, "</svg>"])


def _bar(row: Mapping[str, Any], values: Sequence[float], scale: float, y: int, colour: str) -> list[str]:
    low, middle, high = (LABEL + scale * value for value in (min(values), row["median"], max(values)))
    return [
        f'<text x="{LABEL - 8}" y="{y + 14}" text-anchor="end">{escape(row["name"])}</text>',
        f'<rect x="{LABEL}" y="{y + 3}" width="{middle - LABEL:.1f}" height="15" fill="{colour}"/>',
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y + 10.5}" y2="{y + 10.5}" stroke="#222" stroke-width="1.5"/>',
        f'<text x="{high + 6:.1f}" y="{y + 14}">{row["median"]:,.1f}</text>',
    ]

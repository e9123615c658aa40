"""The numbers of the report's charts: how high each bar is, how a share is coloured, and a description in words.

Pure functions of counts. The page draws the charts; nothing here is markup.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pairsmith.reporting.ratios import signed

TICKS = 6  # labels that fit under a histogram on a phone
_HEATS = 8  # shades of a share
_MARGIN = 0.1  # width of the narrowest step of the histogram of margins
_REWARD = 0.1  # the same for a reward model's scores
_MOST_STEPS = 24


@dataclass(frozen=True)
class Bar:
    """One bar; position and size in percent of the chart."""

    kind: str
    x: float
    width: float
    height: float
    description: str


@dataclass(frozen=True)
class Chart:
    """A histogram: its bars, a label (or none) for the left edge of each step, and a description in words."""

    bars: list[Bar]
    ticks: list[str]
    description: str


def margin_step(margin: float) -> int:
    """The histogram step of a margin."""
    return math.floor(margin / _MARGIN + 1e-9)


def reward_step(score: float) -> int:
    """The histogram step of a reward model's score."""
    return math.floor(score / _REWARD + 1e-9)


def length_step(size: int) -> int:
    """The histogram step of a length: half octaves, so each step is 1.4 times as long as the one before."""
    return math.floor(2 * math.log2(size)) if size else -1


def length_edge(step: int) -> int:
    """The shortest length in a step."""
    return math.ceil(2 ** (step / 2)) if step >= 0 else 0


def histogram(
    series: Mapping[str, Mapping[int, int]], name: Callable[[int], str], tick: Callable[[int], str]
) -> Chart | None:
    """A histogram of several series of counts by step, side by side; None where all are empty."""
    counts = {step for found in series.values() for step in found}
    if not counts:
        return None
    steps = range(min(counts), max(counts) + 1)
    bars = _bars(series, steps, max(max(found.values(), default=0) for found in series.values()), name)
    every = -(-len(steps) // TICKS)
    ticks = [tick(step) if (step - steps.start) % every == 0 else "" for step in steps]
    fullest = max(steps, key=lambda step: sum(found.get(step, 0) for found in series.values()))
    return Chart(bars, ticks, f"From {tick(steps.start)} to {tick(steps.stop)}, most often {name(fullest)}")


def margins(histograms: Mapping[tuple[str, int], int]) -> Chart | None:
    """The margins of the pairs."""
    return _spread(_of(histograms, "margin"), _MARGIN, "pairs")


def rewards(histograms: Mapping[tuple[str, int], int]) -> list[tuple[str, Chart]]:
    """The scores of reward models, each on a scale of its own: aspect and judge -> a histogram."""
    names = sorted({name for name, _ in histograms} - {"margin", "chosen", "rejected"})
    made = [(name, _spread(_of(histograms, name), _REWARD, "texts")) for name in names]
    return [(name, chart) for name, chart in made if chart]


def _spread(found: Mapping[int, int], width: float, what: str) -> Chart | None:
    """A histogram of unbounded numbers, with steps wide enough that there are at most two dozen."""
    span = max(found, default=0) - min(found, default=0)
    widths = (n * 10**power for power in itertools.count() for n in (1, 2, 5))
    wide = next(wide for wide in widths if span < _MOST_STEPS * wide)
    step = wide * width
    return histogram(
        {what: _wider(found, wide)}, lambda n: f"{n * step:g} to {(n + 1) * step:g}", lambda n: f"{n * step:g}"
    )


def lengths(histograms: Mapping[tuple[str, int], int]) -> Chart | None:
    """The lengths of the chosen and the rejected texts."""
    found = {side: _of(histograms, side) for side in ("chosen", "rejected")}
    return histogram(
        found,
        lambda n: f"{number(length_edge(n))} to {number(length_edge(n + 1))} characters",
        lambda n: number(length_edge(n)),
    )


def score_grid(
    scores: Mapping[tuple[str, str, int], int], members: Iterable[str], aspects: Iterable[str]
) -> list[tuple[str, list[Chart | None]]]:
    """member -> a small histogram for each aspect. Equal heights are equal shares in all, so they can be compared."""
    cells: dict[tuple[str, str], dict[int, int]] = {}
    for (member, aspect, score), count in scores.items():
        cells.setdefault((member, aspect), {})[score] = count
    scales = {aspect: _scale([score for _, of, score in scores if of == aspect]) for aspect in aspects}
    peak = max((max(cell.values()) / sum(cell.values()) for cell in cells.values()), default=1.0)
    return [
        (name, [_small(cells.get((name, aspect)), *scale, peak) for aspect, scale in scales.items()])
        for name in members
    ]


def _scale(seen: Sequence[int]) -> tuple[int, int]:
    """The lowest and highest point of the scale that scores are probably on: from 0 or 1 to 1, 5, 10 or 100."""
    low = min(1, *seen)
    return low, next(high for high in (1, 5, 10, 100) if high >= max(seen) and high > low)


def _small(counts: Mapping[int, int] | None, low: int, high: int, peak: float) -> Chart | None:
    """A histogram without room for labels; a step is one score, or ten on a scale of a hundred."""
    if not counts:
        return None
    wide, total = (10 if high == 100 else 1), sum(counts.values())
    found = _wider(counts, wide)

    def name(step: int) -> str:
        return str(step) if wide == 1 else f"{step * wide} to {min(step * wide + wide - 1, high)}"

    bars = _bars({"ratings": found}, range(low // wide, high // wide + 1), peak * total, name)
    description = ", ".join(f"{name(step)}: {percent(found[step], total)}" for step in sorted(found))
    return Chart(bars, [str(low), str(high)], description)


def _wider(counts: Mapping[int, int], wide: int) -> dict[int, int]:
    """The same counts in steps `wide` times as wide."""
    wider: Counter[int] = Counter()
    for step, count in counts.items():
        wider[step // wide] += count
    return dict(wider)


def _bars(series: Mapping[str, Mapping[int, int]], steps: range, top: float, name: Callable[[int], str]) -> list[Bar]:
    """A bar for each series and step; a count of `top` is as high as the chart."""
    step_width = 100 / len(steps)
    width = 0.86 * step_width / len(series)
    return [
        Bar(
            kind,
            round((place + 0.07) * step_width + number_of * width, 2),
            round(width, 2),
            round(100 * found.get(step, 0) / top, 2),
            f"{name(step)}: {number(found.get(step, 0))} {kind}",
        )
        for number_of, (kind, found) in enumerate(series.items())
        for place, step in enumerate(steps)
    ]


def win_matrix(wins: Mapping[tuple[str, str], int], members: Iterable[str]) -> list[dict[str, Any]]:
    """Per member: how often it was chosen against each other member, and its share of the pairs with both of them."""
    names = list(members)
    matrix = []
    for chosen in names:
        cells = []
        for rejected in names:
            won, lost = wins.get((chosen, rejected), 0), wins.get((rejected, chosen), 0)
            shared = chosen != rejected and won + lost
            heat = 1 + min(_HEATS - 1, int(_HEATS * won / (won + lost))) if shared else 0
            cells.append({"count": won, "share": percent(won, won + lost) if shared else "", "heat": heat})
        won = sum(wins.get((chosen, other), 0) for other in names)
        lost = sum(wins.get((other, chosen), 0) for other in names)
        matrix.append({"member": chosen, "cells": cells, "won": won, "share": percent(won, won + lost)})
    return matrix


def ranked(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """The most frequent first; equally frequent ones by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def columns_of(table: Iterable[Mapping[str, Any]]) -> list[str]:
    """The columns of all rows of a table, in the order in which they first occur."""
    return list(dict.fromkeys(column for row in table for column in row))


def number_columns(table: Sequence[Mapping[str, Any]]) -> set[str]:
    """The columns whose cells are all numbers or empty."""
    seen: dict[str, set[bool]] = {}
    for row in table:
        for column, value in row.items():
            if value is not None:
                seen.setdefault(column, set()).add(isinstance(value, (int, float)) and not isinstance(value, bool))
    empty = set(columns_of(table)) - set(seen)
    return {column for column, kinds in seen.items() if kinds == {True}} | empty


def percent(part: float, whole: float) -> str:
    """A share as text; a dash where the whole is 0."""
    return f"{100 * part / whole:.0f}%" if whole else "–"


def number(value: Any) -> str:
    """A table cell as text: numbers with separators and only the digits that matter; other values unchanged."""
    if value is None or value != value:
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 0.0001 and value != 0:
        return signed(f"{value:.6f}").rstrip("0").rstrip(".")
    return signed(f"{value:.2f}") if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"


def fixed(value: float | None) -> str:
    """A score with two digits, also where they are zeros."""
    return "–" if value is None or value != value else signed(f"{value:.2f}")


def _of(histograms: Mapping[tuple[str, int], int], what: str) -> dict[int, int]:
    return {step: count for (name, step), count in histograms.items() if name == what}

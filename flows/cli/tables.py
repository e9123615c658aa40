"""Tables for the terminal: drawn where no word has to be cut, as lists where the terminal is too narrow for that."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Table
from rich.text import Text

Row = Mapping[str, Any]
_CONTROLS = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
_FRAME = 3  # characters of a cell's frame


def plain(text: str, **style: Any) -> Text:
    """Text that is not read as markup, with control characters replaced so that it cannot control the terminal."""
    return Text(text.translate(_CONTROLS), **style)


def say(console: Console, text: str, **style: Any) -> None:
    """Print sentences: on a terminal in lines divided between words, elsewhere as they are. No path is divided."""
    lines = text.split("\n")
    if console.is_terminal:
        lines = [part for line in lines for part in _divided(line, console.width) or [""]]
    console.print(plain("\n".join(lines), **style), soft_wrap=True)


def number(value: float) -> str:
    """A number to four digits, as a person writes it: never with an exponent.

    >>> number(0.00002898), number(1234.5), number(-0.0), number(2.5)
    ('0.00002898', '1,234', '0', '2.5')
    """
    if not math.isfinite(value):
        return str(value)
    digits = 3 - math.floor(math.log10(abs(value))) if value else 0
    text = f"{value:,.{min(max(digits, 0), 12)}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def label(column: str) -> str:
    """A column's name as a person says it.

    >>> label("n_prompt_tokens")
    'prompt tokens'
    """
    return column.removeprefix("n_").replace("_", " ")


def cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else number(value)


@dataclass(frozen=True)
class Rows:
    """Rows under a title, to be printed. Cells are never read as markup; a column that is empty is left out."""

    title: str
    rows: Sequence[Row]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        cells = [{name: cell(value) for name, value in row.items()} for row in self.rows]
        texts: dict[str, list[str]] = {}
        for row in cells:
            for name, text in row.items():
                texts.setdefault(name, []).append(text)
        names = [name for name, column in texts.items() if any(column)]
        least = {name: max(map(_longest_word, [label(name), *texts[name]])) for name in names}
        spare = options.max_width - 1 - sum(least.values()) - _FRAME * len(names)
        if spare >= 0:
            wanted = {name: max(map(_longest_line, [label(name), *texts[name]])) for name in names}
            yield self._drawn(names, _shared_out(spare, least, wanted), cells)
        else:
            yield Group(plain(self.title, style="bold"), *(_listed(names, row) for row in cells))

    def _drawn(self, names: Sequence[str], widths: Mapping[str, int], cells: Sequence[Mapping[str, str]]) -> Table:
        drawn = Table(title=self.title, title_justify="left", title_style="bold")
        for name in names:
            numeric = all(isinstance(row.get(name), int | float | None) for row in self.rows)
            drawn.add_column(label(name), width=widths[name], justify="right" if numeric else "left")
        for row in cells:
            drawn.add_row(*(plain(row.get(name, "")) for name in names))
        return drawn


def _listed(names: Sequence[str], row: Mapping[str, str]) -> Text:
    """A row as lines: what its first column says, and below it the others that say something."""
    first, *others = (name for name in names if row.get(name))
    lines = [f"{label(first)} {row[first]}", *(f"  {label(name)}: {row[name]}" for name in others)]
    return plain("\n".join(lines), overflow="fold")


def _shared_out(spare: int, least: Mapping[str, int], wanted: Mapping[str, int]) -> dict[str, int]:
    """Each column's width: what it needs at least, and an even share of the spare characters as far as it wants them.

    >>> _shared_out(6, {"a": 3, "b": 5, "c": 4}, {"a": 3, "b": 6, "c": 20})
    {'a': 3, 'b': 6, 'c': 9}
    """
    widths = dict(least)
    by_want = sorted(widths, key=lambda name: wanted[name] - least[name])
    for place, name in enumerate(by_want):
        more = min(wanted[name] - least[name], spare // (len(by_want) - place))
        widths[name] += more
        spare -= more
    return widths


_divided = partial(textwrap.wrap, break_long_words=False, break_on_hyphens=False, replace_whitespace=False)


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def _longest_line(text: str) -> int:
    return max(map(cell_len, text.splitlines()), default=0)

"""Where the data files of a version are divided, so that a refresh changes few of them and shares the others.

A part ends after a table of pairs (those of a shard) that a draw by its content picks. Tables that come or go thus move
no division but those beside them, and all other parts stay as they are, byte for byte.
"""

from __future__ import annotations

import math

import pyarrow as pa

from pairsmith.ids import draw

LEAST_ROWS_A_PART = 64
MOST_PARTS = 128  # about so many, on average


def rows_a_part(pairs: int) -> int:
    """Rows of a part, on average: a power of two, so that it changes only when a data set has doubled."""
    doublings = math.ceil(math.log2(max(1, pairs) / (LEAST_ROWS_A_PART * MOST_PARTS)))
    return LEAST_ROWS_A_PART << max(0, doublings)


def ends_part(table: pa.Table, rows: int) -> bool:
    """Whether a part ends after a table: the likelier, the more of the rows of a part it has."""
    return len(table) > 0 and draw("part", table.column("prompt_id")[-1].as_py()) < len(table) / rows

"""Amounts that budgets are made of: tokens, of prompts and answers together, and their cost."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

Amount = tuple[int, float]  # tokens and cost


def added(one: Amount, other: Amount) -> Amount:
    """The sum of two amounts."""
    return one[0] + other[0], one[1] + other[1]


def amount_in(row: sa.Row[Any]) -> Amount:
    """The amount in a row of two sums, which a database gives as null where there was nothing to add up."""
    tokens, cost = row
    return int(tokens or 0), float(cost or 0)

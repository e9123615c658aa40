"""What calls to models cost: sums over the replies."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pairsmith.ledger.database import Database
from pairsmith.ledger.schema import replies

_CALLS = sa.func.count().label("calls")
_SUMS = tuple(sa.func.sum(replies.c[name]).label(name) for name in ("n_prompt_tokens", "n_tokens", "cost"))


class Spending:
    """Calls, tokens and cost of the replies in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def totals(self) -> list[dict[str, Any]]:
        """Calls, tokens and cost by model, most calls first."""
        names = (replies.c.backend, replies.c.model)
        return self._rows(sa.select(*names, _CALLS, *_SUMS).group_by(*names).order_by(_CALLS.desc(), *names))

    def paid(self, dataset: str) -> list[dict[str, Any]]:
        """Calls, tokens and cost of all replies that `dataset` paid for, by asker and model."""
        names = (replies.c.asker, replies.c.model)
        return self._rows(sa.select(*names, _CALLS, *_SUMS).where(replies.c.dataset == dataset).group_by(*names))

    def spent(self, dataset: str) -> tuple[int, float]:
        """Tokens and cost of all replies that `dataset` paid for."""
        (row,) = self._rows(sa.select(*_SUMS).where(replies.c.dataset == dataset))
        return int(row["n_prompt_tokens"] or 0) + int(row["n_tokens"] or 0), float(row["cost"] or 0)

    def _rows(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        return [row._asdict() for row in self._database.fetch(query)]

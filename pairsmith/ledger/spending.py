"""What calls to models cost: sums over the table that has a row for each answered call."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import sqlalchemy as sa

from pairsmith.ledger.amounts import Amount, amount_in
from pairsmith.ledger.database import Database, in_portions
from pairsmith.ledger.schema import spending

CHECK = "check-"  # begins the id of an answer that a preflight asked for
_CALLS = sa.func.count().label("calls")
_SUMS = tuple(sa.func.sum(spending.c[name]).label(name) for name in ("n_prompt_tokens", "n_tokens", "cost"))


class Asked(NamedTuple):
    """What a data set has asked of one asker's model: requests that were answered, tokens, cost."""

    calls: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    cost: float = 0.0


class Spending:
    """Calls, tokens and cost of all answers that were paid for through one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def totals(self) -> list[dict[str, Any]]:
        """Calls, tokens and cost by model, most calls first."""
        names = (spending.c.backend, spending.c.model)
        return self._rows(sa.select(*names, _CALLS, *_SUMS).group_by(*names).order_by(_CALLS.desc(), *names))

    def paid(self, dataset: str) -> list[dict[str, Any]]:
        """Calls, tokens and cost of all that `dataset` paid for, by asker and model."""
        names = (spending.c.asker, spending.c.model)
        return self._rows(sa.select(*names, _CALLS, *_SUMS).where(spending.c.dataset == dataset).group_by(*names))

    def asked(self, dataset: str) -> dict[str, Asked]:
        """The requests of `dataset` that were answered, however often each, with their tokens and cost, by asker."""
        columns = (spending.c.asker, sa.func.count(spending.c.key.distinct()), *_SUMS)
        query = sa.select(*columns).where(spending.c.dataset == dataset).group_by(spending.c.asker)
        return {str(asker): Asked(*(count or 0 for count in counts)) for asker, *counts in self._database.fetch(query)}

    def spent(self, dataset: str) -> Amount:
        """Tokens and cost of all that `dataset` paid for."""
        return amount_in(self._database.fetch(_total(dataset))[0])

    def reckoned(self, dataset: str) -> Amount:
        """The part of `spent` that is an estimate, since the endpoints did not say."""
        return amount_in(self._database.fetch(_total(dataset, spending.c.is_reckoned))[0])

    def cost_of(self, keys: Collection[str]) -> float:
        """What all answers to these requests cost together, whoever paid for them; 0 where they have no price."""
        total = 0.0
        for chunk in in_portions(sorted(keys)):
            query = sa.select(sa.func.sum(spending.c.cost)).where(spending.c.key.in_(chunk))
            total += self._database.fetch(query)[0][0] or 0.0
        return total

    def typical_tokens(self, backend: str, model: str, role: str) -> float | None:
        """The mean tokens of a model's usable answers in a role, over all data sets; None where there is none."""
        columns = spending.c
        query = sa.select(sa.func.avg(columns.n_tokens)).where(
            columns.backend == backend, columns.model == model, columns.asker.like(f"{role} %"),
            columns.problem.is_(None), columns.n_tokens > 1,
        )  # fmt: skip
        found = self._database.fetch(query)[0][0]
        return None if found is None else float(found)

    def has_answered(self, dataset: str, model: str, asker: str) -> bool:
        """Whether `dataset` paid for a usable answer of a model to an asker in a run, not only in a preflight."""
        columns = spending.c
        query = sa.select(columns.id).where(
            columns.dataset == dataset, columns.model == model, columns.asker == asker,
            columns.problem.is_(None), columns.id.not_like(f"{CHECK}%"),
        )  # fmt: skip
        return bool(self._database.fetch(query.limit(1)))

    def has_sound_between(self, dataset: str, first: str, last: str) -> bool:
        """Whether a usable answer that `dataset` paid for has an id in this range, in the order of text."""
        columns = spending.c
        query = sa.select(columns.id).where(
            columns.dataset == dataset, columns.id.between(first, last), columns.problem.is_(None)
        )
        return bool(self._database.fetch(query.limit(1)))

    def doubts(self) -> dict[str, int]:
        """How many calls gave nothing that could be used, and for how many the cost is an estimate."""
        unusable, reckoned = (
            sa.func.count().filter(condition) for condition in (spending.c.problem.is_not(None), spending.c.is_reckoned)
        )
        return self._rows(sa.select(unusable.label("unusable"), reckoned.label("reckoned")))[0]

    def rows(self) -> Iterator[dict[str, Any]]:
        """All rows, each with the key of its request."""
        with self._database.engine.connect().execution_options(yield_per=1000) as connection:
            yield from (dict(row) for row in connection.execute(sa.select(spending)).mappings())

    def _rows(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        return [row._asdict() for row in self._database.fetch(query)]


def spent_in(connection: sa.Connection, dataset: str, *only: sa.ColumnElement[bool]) -> Amount:
    """Tokens and cost of what a data set paid for, within a transaction. `only`: conditions on the rows that count."""
    return amount_in(connection.execute(_total(dataset, *only)).one())


def _total(dataset: str, *only: sa.ColumnElement[bool]) -> sa.Select[Any]:
    tokens = spending.c.n_prompt_tokens + spending.c.n_tokens
    return sa.select(sa.func.sum(tokens), sa.func.sum(spending.c.cost)).where(spending.c.dataset == dataset, *only)

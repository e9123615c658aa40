"""What processes have reserved of the budgets of data sets, so that together they stay within them.

A process reserves a portion, out of which it pays for many requests, and writes again when that is used up or no longer
needed. A portion lapses with its lease, unless its process renews it. Times are those of the database.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import sqlalchemy as sa

from pairsmith.ledger.amounts import Amount, added, amount_in
from pairsmith.ledger.batches import held_in
from pairsmith.ledger.database import Database
from pairsmith.ledger.schema import reservations
from pairsmith.ledger.spending import spent_in

LEASE_SECONDS = 60.0
PORTIONS = 16  # of what is left: one process leaves enough for others, and writes less than a hundred times in all
_NOW = {
    "sqlite": "SELECT (julianday('now') - 2440587.5) * 86400",
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())::double precision",
}


@dataclass(frozen=True)
class Granted:
    """What a data set has spent, what a process may use beyond that, and what others hold.

    What submitted batches can cost counts as spent: it may take a day until they are collected, and by any process.
    """

    fits: bool
    spent: Amount
    held: Amount
    others: Amount


class Reservations:
    """The reservations in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def reserve(
        self, holder: str, dataset: str, most: tuple[int | None, float | None], used: Amount, more: Amount
    ) -> Granted:
        """Hold `used` (by requests under way), `more` and a portion of what is left, instead of what was held before.

        `most`: the budget; None where it has no bound. Where `more` does not fit, no more than `used` is held.
        """

        def reserve(connection: sa.Connection) -> Granted:
            now = self._begin(connection, dataset)
            mine = reservations.c.holder == holder
            past = reservations.c.ends < now
            connection.execute(sa.delete(reservations).where(reservations.c.dataset == dataset, mine | past))
            spent = added(spent_in(connection, dataset), held_in(connection, dataset))
            others = _held(connection, dataset)
            held, fits = _portion(most, spent, others, used, more)
            self._hold(connection, holder, dataset, held, now)
            return Granted(fits, spent, held, others)

        return self._database.write(reserve)

    def renew(self, holder: str, dataset: str, held: Amount) -> None:
        """Hold what is held for another lease, also where the last one has lapsed: its requests are under way."""

        def renew(connection: sa.Connection) -> None:
            now = self._begin(connection, dataset)
            connection.execute(sa.delete(reservations).where(reservations.c.holder == holder))
            self._hold(connection, holder, dataset, held, now)

        self._database.write(renew)

    def give_back(self, holder: str) -> None:
        """Hold nothing any more."""
        gone = sa.delete(reservations).where(reservations.c.holder == holder)
        self._database.write(lambda connection: connection.execute(gone))

    def held(self, dataset: str) -> Amount:
        """What all processes hold together, those included whose lease has lapsed since."""
        with self._database.engine.connect() as connection:
            return _held(connection, dataset)

    def _begin(self, connection: sa.Connection, dataset: str) -> float:
        """Let nobody else reserve for a data set until the transaction ends; returns the time."""
        if self._database.is_sqlite:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            number = int.from_bytes(hashlib.sha256(f"budget {dataset}".encode()).digest()[:8], "big", signed=True)
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(number)))
        return float(connection.execute(sa.text(_NOW[connection.dialect.name])).scalar_one())

    @staticmethod
    def _hold(connection: sa.Connection, holder: str, dataset: str, held: Amount, now: float) -> None:
        if any(held):
            row = {"holder": holder, "dataset": dataset, "tokens": held[0], "cost": held[1]}
            connection.execute(sa.insert(reservations).values(row | {"ends": now + LEASE_SECONDS}))


def _portion(
    most: tuple[int | None, float | None], spent: Amount, others: Amount, used: Amount, more: Amount
) -> tuple[Amount, bool]:
    """What a process may hold, and whether `more` is part of it."""
    left = [
        None if bound is None else bound - sum(amounts)
        for bound, *amounts in zip(most, spent, others, used, more, strict=True)
    ]
    if any(room is not None and room < 0 for room in left):
        return used, False
    tokens, cost = ((room or 0) / PORTIONS for room in left)
    return (used[0] + more[0] + int(tokens), used[1] + more[1] + cost), True


def _held(connection: sa.Connection, dataset: str) -> Amount:
    sums = (sa.func.sum(reservations.c[name]) for name in ("tokens", "cost"))
    return amount_in(connection.execute(sa.select(*sums).where(reservations.c.dataset == dataset)).one())

"""Batches of requests at an endpoint, noted before they are submitted and kept until their replies are recorded."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

import sqlalchemy as sa

from pairsmith.ledger.amounts import Amount, amount_in
from pairsmith.ledger.database import Database
from pairsmith.ledger.schema import batches


@dataclass(frozen=True)
class Batch:
    """Requests submitted together, their replies not collected yet. `id`: the endpoint's, None until it gives one.

    `tokens`, `cost`: the most that they can take of the budget of `dataset`.
    """

    token: str
    id: str | None
    endpoint: str
    model: str
    keys: tuple[str, ...]
    dataset: str = ""
    tokens: int = 0
    cost: float = 0.0

    def with_id(self, batch_id: str) -> Batch:
        return replace(self, id=batch_id)


class Batches:
    """The batches under way, noted in one database: a run that starts after a crash finds them again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, batch: Batch) -> None:
        """Note a batch, or note it again with its id."""

        def note(connection: sa.Connection) -> None:
            connection.execute(sa.delete(batches).where(batches.c.token == batch.token))
            connection.execute(sa.insert(batches).values(asdict(batch) | {"keys": json.dumps(batch.keys)}))

        self._database.write(note)

    def pending(self, endpoint: str, model: str) -> list[Batch]:
        """The batches of a model at an endpoint that were noted and not closed."""
        query = sa.select(batches).where(batches.c.endpoint == endpoint, batches.c.model == model)
        found = [row._asdict() for row in self._database.fetch(query)]
        return [Batch(**row | {"keys": tuple(json.loads(row["keys"]))}) for row in found]

    def keep(self, token: str, tokens: int, cost: float) -> None:
        """Note what the requests of a batch can still take, when the replies to some of them are recorded."""
        left = sa.update(batches).where(batches.c.token == token).values(tokens=tokens, cost=cost)
        self._database.write(lambda connection: connection.execute(left))

    def held(self, dataset: str) -> Amount:
        """The most tokens and cost that batches under way can take of the budget of `dataset`."""
        return amount_in(self._database.fetch(_held(dataset))[0])

    def close(self, batch: Batch) -> None:
        """Forget a batch, whose replies are recorded or which was never submitted."""
        gone = sa.delete(batches).where(batches.c.token == batch.token)
        self._database.write(lambda connection: connection.execute(gone))


def held_in(connection: sa.Connection, dataset: str) -> Amount:
    """`Batches.held` within a transaction."""
    return amount_in(connection.execute(_held(dataset)).one())


def _held(dataset: str) -> sa.Select[tuple[int, float]]:
    tokens, cost = (sa.func.sum(batches.c[name]) for name in ("tokens", "cost"))
    return sa.select(tokens, cost).where(batches.c.dataset == dataset)

"""Requests that were handed to an endpoint as a batch, noted before it is made, until their replies are recorded."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

import sqlalchemy as sa

from pairsmith.ledger.database import Database
from pairsmith.ledger.schema import batches


@dataclass(frozen=True)
class Batch:
    """Requests that were submitted together and not collected yet. `id` is the endpoint's, null until it gave one."""

    token: str
    id: str | None
    endpoint: str
    model: str
    keys: tuple[str, ...]

    def with_id(self, given: str) -> Batch:
        return replace(self, id=given)


class Batches:
    """The batches under way, noted in one database: a run that starts after a crash finds them again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, batch: Batch) -> None:
        """Note a batch, or the id that it was given."""
        with self._database.transaction() as connection:
            connection.execute(sa.delete(batches).where(batches.c.token == batch.token))
            connection.execute(sa.insert(batches).values(asdict(batch) | {"keys": json.dumps(batch.keys)}))

    def pending(self, endpoint: str, model: str) -> list[Batch]:
        """Those that were noted and not closed."""
        query = sa.select(batches).where(batches.c.endpoint == endpoint, batches.c.model == model)
        with self._database.engine.connect() as connection:
            found = [dict(row) for row in connection.execute(query).mappings()]
        return [Batch(**row | {"keys": tuple(json.loads(row["keys"]))}) for row in found]

    def close(self, batch: Batch) -> None:
        """Forget a batch: its replies are recorded, or it was never made."""
        with self._database.transaction() as connection:
            connection.execute(sa.delete(batches).where(batches.c.token == batch.token))

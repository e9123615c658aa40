"""Every model reply ever paid for, durable, keyed by its request.

SQLite in WAL mode by default, or any database that SQLAlchemy speaks to, by URL. A reply is committed before
anything else sees it, so after a crash only the calls in flight are asked again. `Recorded` wraps a backend with
the ledger: known requests are answered without loading the model at all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from pairsmith.errors import ConfigError, DataError
from pairsmith.llms.base import LLM, Finished, Identity, Reply, Request

_metadata = sa.MetaData()
_replies = sa.Table(
    "replies",
    _metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("backend", sa.String(32), nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("revision", sa.Text),
    sa.Column("reply", sa.Text, nullable=False),
    sa.Column("n_prompt_tokens", sa.Integer, nullable=False),
    sa.Column("n_tokens", sa.Integer, nullable=False),
    sa.Column("recorded_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
)
_KEYS_A_QUERY = 500  # well under SQLite's limit on bound parameters


class Ledger:
    """The replies in one database. Safe to use from several threads and processes."""

    def __init__(self, url: str) -> None:
        try:
            parsed = sa.make_url(url)
            if parsed.get_backend_name() == "sqlite" and parsed.database:
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            self._engine = sa.create_engine(parsed)
            if parsed.get_backend_name() == "sqlite":
                sa.event.listen(self._engine, "connect", _durable_sqlite)
            with self._engine.begin() as connection:
                _create(connection)
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ModuleNotFoundError) as error:
            raise ConfigError(f"ledger: not a usable database URL: {error}") from None
        except (sa.exc.DatabaseError, OSError) as error:
            reason = error.orig if isinstance(error, sa.exc.DatabaseError) else error
            raise DataError(f"ledger {url}: cannot be opened ({reason}); if it is damaged, move it away") from None
        self._insert: Any = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}.get(self._engine.dialect.name)
        if self._insert is None:
            raise ConfigError(f"ledger: {self._engine.dialect.name} is not supported; use SQLite or PostgreSQL")

    def get(self, keys: Iterable[str]) -> dict[str, Reply]:
        """The replies recorded under those of `keys` that are known."""
        wanted, found = list(dict.fromkeys(keys)), {}
        with self._engine.connect() as connection:
            for start in range(0, len(wanted), _KEYS_A_QUERY):
                chunk = wanted[start : start + _KEYS_A_QUERY]
                query = sa.select(_replies.c.key, _replies.c.reply).where(_replies.c.key.in_(chunk))
                found.update({key: Reply(**json.loads(reply)) for key, reply in connection.execute(query)})
        return found

    def put(self, identity: Identity, replies: Mapping[str, Reply]) -> None:
        """Record replies, durable on return; a key that is already there keeps its first reply."""
        if not replies:
            return
        values = [
            {
                "key": key,
                **asdict(identity),
                "reply": json.dumps(asdict(reply), ensure_ascii=True, allow_nan=False),
                "n_prompt_tokens": reply.n_prompt_tokens,
                "n_tokens": reply.n_tokens,
            }
            for key, reply in replies.items()
        ]
        with self._engine.begin() as connection:
            connection.execute(self._insert(_replies).on_conflict_do_nothing(), values)

    def totals(self) -> list[dict[str, Any]]:
        """Calls and tokens by model, most calls first."""
        calls = sa.func.count().label("calls")
        query = (
            sa.select(
                _replies.c.backend,
                _replies.c.model,
                calls,
                sa.func.sum(_replies.c.n_prompt_tokens).label("n_prompt_tokens"),
                sa.func.sum(_replies.c.n_tokens).label("n_tokens"),
            )
            .group_by(_replies.c.backend, _replies.c.model)
            .order_by(calls.desc())
        )
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


@lru_cache(maxsize=8)
def open_ledger(url: str) -> Ledger:
    """The ledger at `url`, opened once per process."""
    return Ledger(url)


class Recorded:
    """A backend whose replies go through the ledger: known ones come from it, new ones are recorded first.

    Replies that failed for a passing reason are handed on but not recorded: the next run asks again.
    """

    def __init__(self, llm: LLM, ledger: Ledger) -> None:
        self.identity = llm.identity
        self.calls = self.tokens = 0  # asked of the model itself, not answered from the ledger
        self._llm, self._ledger = llm, ledger

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        places: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            places.setdefault(request.key(self.identity), []).append(index)
        known = self._ledger.get(places)
        if known:
            yield [(index, reply) for key, reply in known.items() for index in places[key]]
        keys = [key for key in places if key not in known]
        if not keys:
            return
        for finished in self._llm.stream([requests[places[key][0]] for key in keys]):
            finished = [(i, _storable(reply)) for i, reply in finished]
            lasting = {keys[i]: reply for i, reply in finished if reply.error is None or reply.final}
            self._ledger.put(self.identity, lasting)
            self.calls += len(finished)
            self.tokens += sum(reply.n_tokens for _, reply in finished)
            yield [(index, reply) for i, reply in finished for index in places[keys[i]]]


def _storable(reply: Reply) -> Reply:
    """A reply that JSON and tables can hold: lone surrogates replaced; NaN or infinity make it a failed one."""
    if reply.logprobs and not all(math.isfinite(value) for value in reply.logprobs.values()):
        return Reply("", n_prompt_tokens=reply.n_prompt_tokens, error="the probabilities are not finite", final=True)
    text = reply.text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return reply if text == reply.text else replace(reply, text=text)


def _create(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":  # two processes may create the table at the same time
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(72177351)"))
    connection.execute(sa.schema.CreateTable(_replies, if_not_exists=True))


def _durable_sqlite(connection: Any, _record: Any) -> None:
    """WAL with a sync at each commit: readers never wait, and a committed reply survives a power cut."""
    for pragma in ("busy_timeout=60000", "journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")

"""Models' replies, keyed by the request.

A reply is committed before anything else sees it, so after a crash only the calls in flight are repeated.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from pairsmith.config import Price
from pairsmith.ledger.database import KEYS_A_QUERY, Database, in_portions
from pairsmith.ledger.group_commit import GroupCommit
from pairsmith.ledger.schema import replies as _replies
from pairsmith.ledger.schema import spending
from pairsmith.protocol import Bill, Identity, Reply

log = logging.getLogger(__name__)
_STORED = tuple(name for name in Reply.__dataclass_fields__ if name not in ("bill", "wasted", "retries"))
_JSON = json.JSONEncoder(allow_nan=False)
_ROWS_A_PAGE = 10_000  # in memory at once when reading the whole ledger


@dataclass(frozen=True)
class Account:
    """The ledger for a model's replies, the data set that pays for them, and the price."""

    ledger: str
    identity: Identity
    dataset: str = ""
    price: Price | None = None
    asker: str | None = None  # the role and name in the recipe that asked, such as "judge strict"
    host: str | None = None  # of the endpoint that answers
    is_bounded: bool = False  # whether a budget holds


@dataclass(frozen=True)
class Entry:
    """A reply to be recorded under `key`, with its account."""

    account: Account
    key: str
    reply: Reply

    @property
    def lasts(self) -> bool:
        """Whether it is recorded. One that failed for a temporary reason is not, so it is asked for again."""
        return self.reply.error is None or self.reply.final


@dataclass(frozen=True)
class Charge:
    """The bill for an answer to the request `key`, and the account that pays it."""

    account: Account
    key: str
    bill: Bill


class Replies:
    """The replies in one database. Safe to use from several threads and processes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._commits = GroupCommit(database, _replies, spending)

    def get(self, keys: Iterable[str]) -> dict[str, Reply]:
        """Key -> reply for those of `keys` that are recorded; damaged replies are dropped and so asked for again."""
        wanted, found = list(dict.fromkeys(keys)), dict[str, Reply]()
        columns = (_replies.c.key, _replies.c.reply, _replies.c.checksum)
        damaged = []
        for chunk in in_portions(wanted):
            for key, reply, checksum in self._database.fetch(sa.select(*columns).where(_replies.c.key.in_(chunk))):
                if checksum_of(key, reply) == checksum:
                    found[key] = Reply(**json.loads(reply))
                else:
                    damaged.append(key)
        if damaged:
            log.warning("ledger: %d damaged replies are dropped and asked for again", len(damaged))
            self.drop(damaged)
        return found

    def record(self, entries: Sequence[Entry], bills: Sequence[Charge] = ()) -> list[Reply]:
        """Record the replies that last, and what each answer cost, durable on return; a key that is recorded already
        keeps its first reply. `bills`: for answers in which there was no reply.

        Returns all replies; where another run recorded a key first, that run's reply.
        """
        lasting = {entry.key: entry for entry in reversed(entries) if entry.lasts}  # the first of several with one key
        paid = _spending([*(charge for entry in entries if (charge := _charge(entry))), *bills])
        rows = [_row(entry) for entry in lasting.values()]
        all_new = self._commits.insert(rows, paid) if rows or paid else True
        if all_new and len(lasting) == sum(entry.lasts for entry in entries):
            return [entry.reply for entry in entries]
        kept = self.get(lasting)
        return [kept.get(entry.key, entry.reply) if entry.lasts else entry.reply for entry in entries]

    def rows(self) -> Iterator[dict[str, Any]]:
        """All rows in the order of their keys, read a page at a time."""
        last = ""
        while True:
            query = sa.select(_replies).where(_replies.c.key > last).order_by(_replies.c.key).limit(_ROWS_A_PAGE)
            page = [row._asdict() for row in self._database.fetch(query)]
            yield from (row | {"recorded_at": _in_utc(row["recorded_at"])} for row in page)
            if len(page) < _ROWS_A_PAGE:
                return
            last = page[-1]["key"]

    def add(self, rows: Iterable[dict[str, Any]]) -> tuple[int, int]:
        """Insert rows like those of the methods `rows` of replies and of spending, which alone have an id; returns the
        number of replies read, and how many of them were new."""
        before, read = self.count(), 0
        page, paid = list[dict[str, Any]](), list[dict[str, Any]]()
        try:
            for row in rows:
                of_spending = "id" in row
                (paid if of_spending else page).append(row | {"recorded_at": self._moment(row["recorded_at"])})
                read += not of_spending
                if len(page) + len(paid) >= KEYS_A_QUERY:
                    self._commits.insert(page, paid)
                    page, paid = [], []
        finally:
            if page or paid:
                self._commits.insert(page, paid)
        return read, self.count() - before

    def drop(self, keys: Collection[str]) -> None:
        """Delete replies; the models are asked again when they are needed."""
        wanted = sorted(keys)

        def drop(connection: sa.Connection) -> None:
            for some in in_portions(wanted):
                connection.execute(sa.delete(_replies).where(_replies.c.key.in_(some)))

        self._database.write(drop)

    def move(self, keys: Mapping[str, str], identity: Identity) -> None:
        """Give replies another key, that of the same request to `identity`. `keys`: old -> new.

        A reply that is absent is passed over, and so is one whose new key is taken already.
        """
        query = sa.select(_replies.c.key, _replies.c.reply, _replies.c.checksum)
        free = ~sa.exists().where(_replies.alias("other").c.key == sa.bindparam("new"))
        change = sa.update(_replies).where(_replies.c.key == sa.bindparam("old"), free)
        change = change.values(
            key=sa.bindparam("new"), checksum=sa.bindparam("sum"), model=identity.model, revision=identity.revision
        )
        old = list(keys)

        def move(connection: sa.Connection) -> None:
            for some in in_portions(old):
                found = connection.execute(query.where(_replies.c.key.in_(some))).all()
                moved = [
                    {"old": row.key, "new": keys[row.key], "sum": checksum_of(keys[row.key], row.reply)}
                    for row in found
                    if checksum_of(row.key, row.reply) == row.checksum
                ]
                if moved:
                    connection.execute(change, moved)

        self._database.write(move)

    def hosts(self, identity: Identity) -> set[str]:
        """The hosts of all endpoints that gave replies of a model."""
        columns = _replies.c
        query = sa.select(columns.host).where(
            columns.backend == identity.backend,
            columns.model == identity.model,
            columns.revision == identity.revision,
            columns.alias == identity.alias,
            columns.host.is_not(None),
        )
        return {row.host for row in self._database.fetch(query.distinct())}

    def count(self) -> int:
        return int(self._database.fetch(sa.select(sa.func.count()).select_from(_replies))[0][0])

    def _moment(self, moment: datetime) -> str:
        """A time in the database's form: SQLite knows no time zones, so it gets UTC without one."""
        known = _in_utc(moment)
        return str(known.replace(tzinfo=None) if self._database.is_sqlite else known)


def checksum_of(key: str, reply: str) -> str:
    """The checksum that reveals a damaged row: sha256 over the key and the reply's JSON as it is stored."""
    return hashlib.sha256(f"{key}\n{reply}".encode()).hexdigest()


def storable(reply: Reply) -> Reply:
    """A reply that JSON and tables can hold: lone surrogates are replaced; NaN or infinity make it a failed one."""
    if reply.logprobs and not all(math.isfinite(value) for value in reply.logprobs.values()):
        problem = "the probabilities are not finite"
        return replace(reply, text="", finish_reason=None, logprobs=None, error=problem, final=True, reasoning=None)
    text = reply.text
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return reply if text == reply.text else replace(reply, text=text)


def _row(entry: Entry) -> dict[str, Any]:
    account, reply = entry.account, entry.reply
    stored = _JSON.encode({name: vars(reply)[name] for name in _STORED})
    return {
        "key": entry.key,
        **vars(account.identity),
        "dataset": account.dataset,
        "asker": account.asker,
        "reply": stored,
        "checksum": checksum_of(entry.key, stored),
        "n_prompt_tokens": reply.n_prompt_tokens,
        "n_tokens": reply.n_tokens,
        "host": account.host,
        "cost": account.price.of(reply.n_prompt_tokens, reply.n_tokens) if account.price else None,
    }


def _charge(entry: Entry) -> Charge | None:
    """What an answer cost; nothing where a request was refused for good. None where nobody answered."""
    bill = entry.reply.charged or (Bill(problem=entry.reply.error) if entry.lasts else None)
    return Charge(entry.account, entry.key, bill) if bill else None


def _spending(charges: Sequence[Charge]) -> list[dict[str, Any]]:
    """Rows of the spending table. Their names go up with time, so that new rows lie beside the last on the disk."""
    prefix = f"{time.time_ns():016x}{uuid.uuid4().hex[:16]}"
    return [
        {
            "dataset": charge.account.dataset,
            "id": charge.bill.id or f"{prefix}-{number:06d}",
            "key": charge.key,
            "backend": charge.account.identity.backend,
            "model": charge.account.identity.model,
            "asker": charge.account.asker,
            "n_prompt_tokens": charge.bill.n_prompt_tokens,
            "n_tokens": charge.bill.n_tokens,
            "cost": price.of(charge.bill.n_prompt_tokens, charge.bill.n_tokens) if price else None,
            "is_reckoned": charge.bill.is_reckoned,
            "problem": charge.bill.problem,
        }
        for number, charge in enumerate(charges)
        for price in [charge.account.price]
    ]


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)

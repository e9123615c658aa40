"""Replies kept before a hub model's revision was resolved to a commit, and a person's word on whose replies they are.

Such a reply's key holds no revision, or the name of a branch or tag. Only a person can know which commit that was.
"""

from __future__ import annotations

import re

import sqlalchemy as sa

from pairsmith.ledger.database import Database
from pairsmith.ledger.schema import adoptions, replies

_EXACT = re.compile(r"[0-9a-f]{40}|(?:gguf|files|folder)-.*")  # revisions that name the weights themselves


class Adoptions:
    """Which commit gave the replies that were kept under a branch, a tag or no revision."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, model: str, revision: str | None, commit: str) -> None:
        """The replies of `model` under `revision` are those of `commit`, and of no other."""
        name = revision or ""

        def note(connection: sa.Connection) -> None:
            connection.execute(sa.delete(adoptions).where(adoptions.c.model == model, adoptions.c.revision == name))
            connection.execute(sa.insert(adoptions).values(model=model, revision=name, commit_id=commit))

        self._database.write(note)

    def revisions(self, model: str, commit: str) -> list[str | None]:
        """The revisions under which replies of this commit may be kept."""
        query = sa.select(adoptions.c.revision).where(adoptions.c.model == model, adoptions.c.commit_id == commit)
        return sorted((row.revision or None for row in self._database.fetch(query)), key=str)

    def left(self, model: str, backends: list[str]) -> dict[str | None, int]:
        """Revision -> the number of a model's replies that are kept under it and that nobody has adopted."""
        query = sa.select(replies.c.revision, sa.func.count().label("count"))
        query = query.where(replies.c.backend.in_(backends), replies.c.model == model).group_by(replies.c.revision)
        adopted = sa.select(adoptions.c.revision).where(adoptions.c.model == model)
        known = {row.revision for row in self._database.fetch(adopted)}
        found = {row.revision: int(row.count) for row in self._database.fetch(query)}  # type: ignore[call-overload]
        open_ = {name: count for name, count in found.items() if not (name and _EXACT.fullmatch(name))}
        return {name: count for name, count in open_.items() if (name or "") not in known}

"""Merge the surveys of all shards into a result for each shard, on which its pairs depend.

Repeated texts are counted in a SQLite file in the store's scratch folder, not in memory. A shard's result is written
only if it has changed, and lists only texts of that shard. So whatever does not concern a shard leaves it fresh.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager

from pairsmith.errors import DamagedFile
from pairsmith.pairing.survey import Survey, SurveyResult
from pairsmith.storage.store import Store
from pairsmith.storage.tables import facts_name, survey_name


def merge(store: Store, shards: Iterable[str], repeated: int | None) -> None:
    """Write the merged result for each shard. `repeated`: a text that answers so many prompts or more is flagged."""
    names, whole = list(shards), Survey()
    with _counting(store) as texts:
        for shard in names:
            found = read_survey(store, shard)
            whole.add_sums(found)
            texts.add(found)
        slopes, some = whole.slopes(), repeated is not None and texts.keep(repeated)
        for shard in names:
            repeats = texts.of(read_survey(store, shard)) if some else frozenset()
            write_result(store, shard, SurveyResult(slopes, repeats))


def read_survey(store: Store, shard: str) -> Survey:
    """What a shard contributes. Raises DamagedFile where its survey is absent or damaged."""
    try:
        return Survey.from_json(store.known_json(survey_name(shard)))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DamagedFile(f"{store.url(survey_name(shard))}: absent or damaged; run again") from None


def read_result(store: Store, shard: str) -> SurveyResult:
    """The merged result for a shard. Raises DamagedFile where it is absent or damaged: without it, pairs are wrong."""
    found = _known_result(store, shard)
    if found is None:
        raise DamagedFile(f"{store.url(facts_name(shard))}: absent or damaged; run again")
    return found


def _known_result(store: Store, shard: str) -> SurveyResult | None:
    """The merged result for a shard; None if it is absent or damaged."""
    try:
        return SurveyResult.from_json(store.known_json(facts_name(shard)))
    except (ValueError, KeyError, TypeError):
        return None


def write_result(store: Store, shard: str, result: SurveyResult) -> None:
    if _known_result(store, shard) != result:
        store.write_json(facts_name(shard), result.to_json())


class _Texts:
    """Counts on disk how many prompts each text answers."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-65536"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("CREATE TABLE texts (id TEXT PRIMARY KEY, prompts INTEGER) WITHOUT ROWID")

    def add(self, survey: Survey) -> None:
        self._connection.execute("BEGIN")
        self._connection.executemany(
            "INSERT INTO texts VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET prompts = prompts + excluded.prompts",
            survey.texts.items(),
        )
        self._connection.execute("COMMIT")

    def keep(self, least: int) -> bool:
        """Drop texts that answer fewer than `least` prompts; returns whether any are left."""
        self._connection.execute("DELETE FROM texts WHERE prompts < ?", (least,))
        return bool(self._connection.execute("SELECT EXISTS (SELECT 1 FROM texts)").fetchone()[0])

    def of(self, survey: Survey) -> frozenset[str]:
        """The texts of a survey that were kept."""
        query = "SELECT value FROM json_each(?) WHERE value IN (SELECT id FROM texts)"
        return frozenset(row[0] for row in self._connection.execute(query, (json.dumps(list(survey.texts)),)))


@contextmanager
def _counting(store: Store) -> Iterator[_Texts]:
    with (
        store.files.scratch_folder() as scratch,
        closing(sqlite3.connect(scratch / "texts.sqlite", isolation_level=None)) as connection,
    ):
        yield _Texts(connection)

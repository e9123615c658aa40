"""What a person has had taken out of a data set: enough to refuse it when it comes again, and nothing of its text.

`forgotten.json` beside the tables holds salted hashes of the ids of prompts, and a note on each time: when, by whom,
by what kind of choice, and how much of each kind.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pairsmith.errors import DataError
from pairsmith.storage.schemas import Reason, Stage
from pairsmith.storage.store import Store

FILE = "forgotten.json"


class Forgotten:
    """The prompts that are not to come back. Raises DataError where the file cannot be read: they would come back."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._salt, self._hashes, self.notes = secrets.token_hex(16), set[str](), list[dict[str, Any]]()
        if store.exists(FILE):
            try:
                found = store.read_json(FILE)
                self._salt, self._hashes, self.notes = found["salt"], set(found["prompts"]), list(found["notes"])
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{store.url(FILE)}: cannot be read ({type(error).__name__}: {error})") from None

    def __contains__(self, prompt_id: object) -> bool:
        return bool(self._hashes) and self._hash(str(prompt_id)) in self._hashes

    def add(self, prompt_ids: Iterable[str]) -> None:
        """Refuse these prompts from now on."""
        self._hashes |= {self._hash(one) for one in prompt_ids}
        self._write()

    def note(self, what: Mapping[str, Any]) -> None:
        """Note what was taken out."""
        self.notes.append(dict(what))
        self._write()

    def refuse(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Rows as they are read, those of forgotten prompts replaced by a rejection."""
        for row in rows:
            if "reason" not in row and row["prompt_id"] in self:
                more = {"rows": row["rows"]} if "rows" in row else {}
                yield {"stage": Stage.LOAD, "reason": Reason.FORGOTTEN, "detail": "taken out by `forget`", **more}
            else:
                yield row

    def _hash(self, prompt_id: str) -> str:
        return hashlib.sha256(f"{self._salt} {prompt_id}".encode()).hexdigest()

    def _write(self) -> None:
        content = {"salt": self._salt, "prompts": sorted(self._hashes), "notes": self.notes}
        self._store.write_json(FILE, content)

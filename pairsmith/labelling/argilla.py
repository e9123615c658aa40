"""Records of Argilla 2, as `dataset.records.to_json` writes them and `from_json` reads them.

A record has the fields `prompt` (a chat), `a` and `b`, and answers to the questions `better` (a, b, tie or skip) and
`note`. Argilla knows its users by UUIDs: those here are made of names, and the names stand in the metadata.
Format: https://docs.argilla.io/latest/how_to_guides/import_export/
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from pairsmith.errors import DataError
from pairsmith.labelling.foreign import ForeignLabel, listed, part, verdict
from pairsmith.labelling.pairs import LabelPair

_NAMES = uuid.UUID("7a0f4d62-3a55-4f0e-9c53-6f0b3a4be9a1")


def user_id(who: str) -> str:
    """The UUID that stands for a person whom Argilla does not know."""
    return str(uuid.uuid5(_NAMES, who))


def exported(pairs: Iterable[LabelPair]) -> str:
    return json.dumps([_record(pair) for pair in pairs], ensure_ascii=False, indent=1)


def _record(pair: LabelPair) -> dict[str, Any]:
    gold = pair.gold
    responses = {
        "better": [{"value": vote.better, "user_id": user_id(vote.who)} for vote in gold.votes],
        "note": [{"value": vote.note, "user_id": user_id(vote.who)} for vote in gold.votes if vote.note],
    }
    metadata = {"drawn": gold.drawn, "people": [vote.who for vote in gold.votes]}
    return {
        "id": pair.key,
        "fields": {"prompt": gold.chat, "a": gold.a, "b": gold.b},
        "metadata": {name: value for name, value in metadata.items() if value},
        "suggestions": {},
        "responses": {name: given for name, given in responses.items() if given},
        "vectors": {},
        "_server_id": None,
    }


def imported(value: Any) -> Iterable[ForeignLabel]:
    """The labels of records, whoever gave them; a user whose name is not told is known by the UUID."""
    for number, record in enumerate(listed(value, "Argilla's records"), start=1):
        where = f"record {number}"
        metadata, responses = part(record, "metadata", where), part(record, "responses", where)
        key = record.get("id")
        if not isinstance(key, str):
            raise DataError(f"{where}: it has no id")
        people = metadata.get("people") or []
        names = {user_id(who): who for who in ([people] if isinstance(people, str) else people)}
        given = {question: dict(_answers(responses, question, where)) for question in ("better", "note")}
        for user, better in given["better"].items():
            note = given["note"].get(user) or ""
            drawn = str(metadata.get("drawn") or "imported")
            yield ForeignLabel(key, names.get(user, user), verdict(better, where), str(note), drawn=drawn)


def _answers(responses: Mapping[str, Any], question: str, where: str) -> Iterable[tuple[str, Any]]:
    for answer in listed(responses.get(question) or [], f"answers to {question}"):
        if not isinstance(answer, Mapping) or not isinstance(answer.get("user_id"), str):
            raise DataError(f"{where}: an answer to {question} has no user_id")
        yield answer["user_id"], answer.get("value")

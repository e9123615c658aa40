"""Tasks of Label Studio with their annotations, as its import and its export named JSON have them.

A task's data are `key`, `prompt` (a list of role and content), `a`, `b` and `drawn`. An annotation has a choice named
`better` (a, b or tie), and texts named `note` and `who`, by the interface of docs/labelling.md; one that was cancelled
is a skip. Annotations of a `Pairwise` tag are read too. Format: https://labelstud.io/guide/task_format
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pairsmith.errors import DataError
from pairsmith.labelling.foreign import ForeignLabel, listed, part, verdict
from pairsmith.labelling.pairs import LabelPair
from pairsmith.worth.gold import Vote

_SIDES = {"left": "a", "right": "b"}


def exported(pairs: Iterable[LabelPair]) -> str:
    return json.dumps([_task(pair) for pair in pairs], ensure_ascii=False, indent=1)


def _task(pair: LabelPair) -> dict[str, Any]:
    gold = pair.gold
    data = {"key": pair.key, "prompt": gold.chat, "a": gold.a, "b": gold.b, "drawn": gold.drawn}
    return {"data": data, "annotations": [_annotation(vote) for vote in gold.votes]}


def _annotation(vote: Vote) -> dict[str, Any]:
    skipped = vote.better == "skip"
    texts = {"note": vote.note, "who": vote.who}
    result = [] if skipped else [_result("better", "choices", {"choices": [vote.better]})]
    result += [_result(name, "textarea", {"text": [text]}) for name, text in texts.items() if text]
    return {"result": result, "was_cancelled": skipped, "created_at": vote.at}


def _result(name: str, kind: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return {"from_name": name, "to_name": "prompt", "type": kind, "value": value}


def imported(value: Any) -> Iterable[ForeignLabel]:
    """The labels of tasks. Who gave one: the text `who`, else the account's email or number."""
    for number, task in enumerate(listed(value, "Label Studio's tasks"), start=1):
        where = f"task {number}"
        data = part(task, "data", where)
        key = data.get("key")
        if not isinstance(key, str):
            raise DataError(f"{where}: data has no key; export as JSON, not as JSON-MIN or CSV")
        for annotation in listed(task.get("annotations") or [], "annotations"):
            if not isinstance(annotation, Mapping):
                raise DataError(f"{where}: an annotation is no object")
            yield _label(key, str(data.get("drawn") or "imported"), annotation, where)


def _label(key: str, drawn: str, annotation: Mapping[str, Any], where: str) -> ForeignLabel:
    found: dict[str, Any] = {}
    for one in listed(annotation.get("result") or [], "results"):
        value = part(one, "value", where)
        said = value.get("choices") or value.get("text") or value.get("selected")
        found[str(one.get("from_name"))] = said[0] if isinstance(said, list) and said else said
        if one.get("type") == "pairwise":
            found["better"] = _SIDES.get(str(said))
    better = "skip" if annotation.get("was_cancelled") else found.get("better")
    who = str(found.get("who") or _account(annotation.get("completed_by")))
    at = annotation.get("created_at")
    return ForeignLabel(key, who, verdict(better, where), str(found.get("note") or ""), at and str(at), drawn)


def _account(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value.get("email") or value.get("id")
    return str(value) if isinstance(value, str) else f"label-studio {value}" if value else "label-studio"

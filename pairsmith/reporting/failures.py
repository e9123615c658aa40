"""Why members and judges failed: the cause in an endpoint's first words, and whether running again may help."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from pairsmith.judging.readouts import NOT_APPLICABLE
from pairsmith.reporting.markdown import Table
from pairsmith.storage.schemas import Reason

Failures = Mapping[
    str, Mapping[str, float]
]  # who -> how often it was asked (OF), and each cause -> how often it failed
OF = ""
LONGEST = 160  # characters of a cause
_PASSES, _STAYS = "may pass: ", "stays: "  # begin a cause
_WORDS = re.compile(r'"(?:message|msg|detail|error|reason)"\s*:\s*"((?:[^"\\]|\\.)*)')
_NAMES_ONE = re.compile(r"\S*(?:https?://|@|/home/|/Users/)\S*|\b(?=\w*\d)[\w-]{9,}\b|(?<!status )\b\d{3,}\b")
_MARKUP = re.compile(r"<[^<>]{1,200}>")


def cause_of(error: str) -> str:
    """The cause that an error of a completion or rating tells, the same for all errors that differ in names alone.

    >>> cause_of('failed: refused: status 400: {"error": {"message": "no seed"}}')
    'stays: refused: status 400: no seed'
    """
    reason, _, rest = error.partition(": ")
    passes = reason == Reason.FAILED and not rest.startswith("refused: ")
    told = rest if reason == Reason.FAILED else error
    head, brace, body = told.partition("{")
    found = _WORDS.search(brace + body)
    words = f"{head}{_unescaped(found[1])}" if found else told
    plain = _NAMES_ONE.sub("…", " ".join(_MARKUP.sub(" ", words).split()))
    return f"{_PASSES if passes else _STAYS}{plain[:LONGEST]}"


def _unescaped(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:  # a text that was cut off within an escape
        return text


def counted(errors: Sequence[object]) -> Counter[str]:
    """How often one was asked, and each cause among the errors of its rows; a row without one has None or NaN."""
    told = (error for error in errors if isinstance(error, str))
    causes = (cause_of(error) for error in told if error not in (NOT_APPLICABLE, Reason.SUPERSEDED))
    return Counter({OF: len(errors)}) + Counter(causes)


def failure_table(failures: Failures) -> Table:
    """Per member and judge with failures: how many, the commonest cause, and whether running again may help."""
    table = []
    for who, counts in sorted(failures.items()):
        causes = {cause: int(count) for cause, count in counts.items() if cause != OF}
        if not causes:
            continue
        commonest = min(causes, key=lambda cause: (-causes[cause], cause))
        again = sum(count for cause, count in causes.items() if cause.startswith(_PASSES))
        failed = sum(causes.values())
        table.append(
            {
                "who": who,
                "failed": failed,
                "of": int(counts[OF]),
                "commonest cause": commonest.removeprefix(_PASSES).removeprefix(_STAYS),
                "run again": _advice(again, failed),
            }
        )
    return table


def causes_of(failures: Failures) -> list[str]:
    """The rows of a table of failures, each as a text."""
    told = "{who} failed {failed} of {of} times ({commonest cause}; running again {run again})"
    return [told.format_map(row) for row in failure_table(failures)]


def _advice(again: int, failed: int) -> str:
    if not again:
        return "will not help"
    return "may help" if again == failed else f"may help {again} of them"


def silent(table: Iterable[Mapping[str, object]]) -> list[str]:
    """Who in a table of failures gave nothing that can be used."""
    return [str(row["who"]) for row in table if row["failed"] == row["of"]]

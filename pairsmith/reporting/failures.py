"""Why members and judges failed: the cause in an endpoint's first words, and whether running again may help."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from pairsmith.config import Recipe
from pairsmith.judging.criteria_sifting import NO_CRITERIA
from pairsmith.judging.pairwise import ALONE
from pairsmith.judging.readouts import NOT_APPLICABLE
from pairsmith.reporting.markdown import Table
from pairsmith.reporting.reason_words import called, in_words
from pairsmith.storage.schemas import Reason

Failures = Mapping[
    str, Mapping[str, float]
]  # who -> how often it was asked (OF), and each cause -> how often it failed
OF = ""
LONGEST = 160  # characters of a cause
MOST = 3  # causes of one that are told, the commonest first
PASSES, STAYS = "may pass: ", "stays: "  # begin a cause
_WORDS = re.compile(r'"(?:message|msg|detail|error|reason)"\s*:\s*"((?:[^"\\]|\\.)*)')
_NAMES_ONE = re.compile(r"\S*(?:https?://|@|/home/|/Users/)\S*|\b(?=\w*\d)[\w-]{9,}\b|(?<!status )\b\d{3,}\b")
_AROUND = re.compile(r"not asked, the endpoint is down: |ConnectionError: (?!\w+: )")
_MARKUP = re.compile(r"<[^<>]{1,200}>")


def cause_of(error: str) -> str:
    """The cause that an error of a completion or rating tells, the same for all errors that differ in names alone.

    >>> cause_of('failed: refused: status 400: {"error": {"message": "no seed"}}')
    'stays: refused: status 400: no seed'
    """
    reason, _, rest = error.partition(": ")
    passes = reason == Reason.FAILED and not rest.startswith("refused: ")
    told = _AROUND.sub("", rest if reason == Reason.FAILED else error)
    head, brace, body = told.partition("{")
    found = _WORDS.search(brace + body)
    words = f"{head}{_unescaped(found[1])}" if found else told
    plain = _NAMES_ONE.sub("…", " ".join(_MARKUP.sub(" ", words).split()))
    return f"{PASSES if passes else STAYS}{plain[:LONGEST]}"


def _unescaped(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:  # a text that was cut off within an escape
        return text


def counted(errors: Sequence[object]) -> Counter[str]:
    """How often one was asked, and each cause among the errors of its rows; a row without one has None or NaN."""
    told = (error for error in errors if isinstance(error, str))
    others = (error for error in told if error not in (NOT_APPLICABLE, ALONE, Reason.SUPERSEDED))
    causes = (cause_of(error) for error in others if not error.startswith(NO_CRITERIA))  # those are the author's
    return Counter({OF: len(errors)}) + Counter(causes)


def failure_table(failures: Failures, recipe: Recipe | None = None) -> Table:
    """Per member, evolver and judge with failures: how many, the commonest causes, and whether running again may help.

    `recipe`: tells evolvers from members, and each one's endpoint by its host.
    """
    table = []
    for who, counts in sorted(failures.items()):
        causes = {cause: int(count) for cause, count in counts.items() if cause != OF}
        if not causes:
            continue
        name, host = _known(who, recipe)
        again = sum(count for cause, count in causes.items() if cause.startswith(PASSES))
        failed = sum(causes.values())
        table.append(
            {
                "who": name,
                "endpoint": host,
                "failed": failed,
                "of": int(counts[OF]),
                "commonest causes": _told(causes),
                "run again": _advice(again, failed),
            }
        )
    return table


def causes_of(failures: Failures, recipe: Recipe | None = None) -> list[str]:
    """The rows of a table of failures, each as a text."""
    return [as_text(row) for row in failure_table(failures, recipe)]


def as_text(row: Mapping[str, object]) -> str:
    """A row of a table of failures as a text."""
    place = f" at {row['endpoint']}" if row["endpoint"] else ""
    told = "{who}{place} failed {failed} of {of} times ({commonest causes}; running again {run again})"
    return told.format_map({**row, "place": place})


def _known(who: str, recipe: Recipe | None) -> tuple[str, str]:
    """A role and name as they are called, and the host of the endpoint; an evolver's answers count as a member's."""
    role, _, name = who.partition(" ")
    for spec in recipe.specs if recipe else ():
        if spec.name == name and spec.counted_as == role:
            is_evolver = recipe and recipe.evolution and spec is recipe.evolution.evolver
            host = urlsplit(spec.endpoint.base_url).netloc if spec.endpoint else ""
            return called(f"{'evolver' if is_evolver else role} {name}"), host
    return called(who), ""


def _told(causes: Mapping[str, int]) -> str:
    """The commonest causes, each with its count where there are several."""
    by_count = sorted(causes, key=lambda cause: (-causes[cause], cause))
    words = {cause: in_words(cause.removeprefix(PASSES).removeprefix(STAYS)) for cause in by_count[:MOST]}
    if len(causes) == 1:
        return words[by_count[0]]
    others = sum(causes[cause] for cause in by_count[MOST:])
    told = [f"{causes[cause]} × {text}" for cause, text in words.items()]
    return "; ".join([*told, *([f"{others} × other causes"] if others else [])])


def _advice(again: int, failed: int) -> str:
    if not again:
        return "will not help"
    return "may help" if again == failed else f"may help {again} of them"


def silent(table: Iterable[Mapping[str, object]]) -> list[str]:
    """Who in a table of failures gave nothing that can be used."""
    return [str(row["who"]) for row in table if row["failed"] == row["of"]]

"""Removes what models put around an answer: thoughts, fences, prose before and after, surplus commas, tables.

An answer is taken only if there is exactly one way to read it. All functions are pure: text in, plain values out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pairsmith.ids import no_doubles

# A string is matched as a whole, even one that never ends, so that no comma inside a text is changed.
_STRING_OR_COMMA = re.compile(r'("(?:[^"\\]|\\.)*+"?)|,(?=\s*[}\]])', re.DOTALL)
_FENCE = re.compile(r"(?:```|~~~)\w*")
# A thought before the answer, closed (whether or not it was opened in the reply) or never ended.
_THOUGHT = re.compile(
    r"\A.*</(?:think|thinking|reasoning)>|\A\s*<(?:think|thinking|reasoning)>.*\Z", re.DOTALL | re.IGNORECASE
)
_END_OF_THOUGHT = re.compile(r"</(?:think|thinking|reasoning)>", re.IGNORECASE)
_CELL_END = re.compile(r"(?<!\\)\|")


def without_thoughts(reply: str) -> str:
    """A reply without the thought that comes before its answer."""
    return _THOUGHT.sub("", reply)


def ends_a_thought(text: str) -> bool:
    """Whether a text contains something that would look like the end of a judge's thought if the judge quoted it."""
    return bool(_END_OF_THOUGHT.search(text))


def only_object(text: str) -> tuple[dict[str, Any], str]:
    """The only JSON object in a text, bare or in a fence, and the prose around it.

    A comma after the last entry and line breaks in strings are accepted. Raises ValueError (or RecursionError) that
    says why there is no object or more than one: none is chosen from several, nor from the remains of a broken one.

    >>> only_object('Here it is:\\n{"a": [1, 2,],}')
    ({'a': [1, 2]}, 'Here it is:\\n\\n')
    """
    start = text.find("{")
    if start < 0:
        raise ValueError("no JSON object")
    before, rest = text[:start], _STRING_OR_COMMA.sub(lambda found: found[1] or "", text[start:])
    value, end = json.JSONDecoder(object_pairs_hook=no_doubles, strict=False).raw_decode(rest)
    after = rest[end:]
    line, next_line = before.rpartition("\n")[2].strip(), after.partition("\n")[0].strip()
    if any(brace in part for brace in "{}" for part in (before, after)):
        raise ValueError("more than one JSON object")
    if next_line and not _FENCE.fullmatch(next_line):
        raise ValueError("more on the line where the JSON object ends")
    if line and not line.endswith((":", "：")) and not _FENCE.fullmatch(line):
        raise ValueError("more on the line where the JSON object begins")
    return value, f"{before}\n{after}"


def table_rows(lines: Sequence[str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    """The rows of markdown tables, each as the number of its line and {column's name in lower case: cell}.

    A row with more or fewer cells than the head, and a table with two columns of one name, are left out.
    """
    head: list[str] | None = None
    for number, line in enumerate(lines):
        if not line.lstrip(" >").startswith("|"):
            head = None
            continue
        cells = [cell.strip(" *_`").replace("\\|", "|") for cell in _CELL_END.split(line.strip(" >").strip("|"))]
        if head is None:
            head = [cell.lower() for cell in cells]
        elif len(cells) == len(head) == len(set(head)):
            yield number, dict(zip(head, cells, strict=True))

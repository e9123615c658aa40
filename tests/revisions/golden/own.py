"""A judge's prompt, a check, an aggregation and a strategy, as users write them, for the golden tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pairsmith.judging.own_prompt import JudgeSheet
from pairsmith.judging.readouts import Read


class prompt:
    """Asks for numbers in the order of the texts."""

    @staticmethod
    def messages(sheet: JudgeSheet) -> list[dict[str, str]]:
        texts = "\n".join(f"<{text.mark}> {text.text}" for text in sheet.texts)
        return [{"role": "user", "content": f"OWN {sheet.instructions}\n{sheet.prompt}\n{sheet.reference}\n{texts}"}]

    @staticmethod
    def read(reply: str, sheet: JudgeSheet) -> Mapping[str, Read]:
        marks = [text.mark for text in sheet.texts]
        found = {mark: _read(value) for mark, value in zip(marks, reply.split(), strict=False)}
        return {**found, "abc123": Read(1, 1.0)} if "stray" in reply else found


def _read(value: str) -> Any:
    odd = {"x": None, "na": Read(error="not applicable"), "half": Read(None, 2.5), "big": Read(9, 9.0), "text": "4"}
    return odd[value] if value in odd else Read(int(value), float(value), "because")


def longer(messages: Sequence[Mapping[str, str]], text: str, reference: str | None) -> Any:
    return "long" if len(text) > 90 else len(text) / 70


def least(scores: Sequence[float], weights: Sequence[float]) -> float:
    return min(scores)


def by_length(candidates: Sequence[Any], pairing: Any) -> Iterator[tuple[Any, Any]]:
    ranked = sorted(candidates, key=lambda one: (len(one.row["text"]), one.id))
    yield from zip(ranked[1:], ranked, strict=False)

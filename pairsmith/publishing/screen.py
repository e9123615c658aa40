"""The screen: what secrets and personal data stand in the texts of some prompts, and those texts with markers instead.

Texts of a prompt are looked at together: what was found in one is taken out of all, wherever it stands, so that prompt,
chosen and rejected keep what they share. What was found is told by its kind and place, never by its text.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pandas as pd

from pairsmith.config.screening import FINDINGS, Finding, Screen
from pairsmith.ids import canonical_json, text_id
from pairsmith.publishing.findings import MARKERS, Find, Found, finder
from pairsmith.publishing.kept_columns import KEPT
from pairsmith.reporting.summary import ANY, PAIRS, SCREENED
from pairsmith.reporting.summary_tables import DROPPED, FOUND_IN

Kinds = Mapping[str, frozenset[Finding]]  # id of a prompt or completion -> what its texts hold
ROUNDS = 20  # of looking at a text again: two or three are enough for all that people write
_MARKER = re.compile("|".join(map(re.escape, MARKERS.values())))


@dataclass(frozen=True)
class Screened:
    """The tables of some prompts as they are published, and what was found in them as they came.

    `masked`: the completions with markers, whatever the recipe asks for. `texts`: text -> the same with markers, for
    completions of which a text had findings. `barred`: prompts and completions to be dropped, each with the reason.
    """

    prompts: pd.DataFrame
    completions: pd.DataFrame
    ratings: pd.DataFrame
    masked: pd.DataFrame
    is_on: bool = False
    texts: Mapping[str, str] = field(default_factory=dict)
    found: Mapping[str, Kinds] = field(default_factory=dict)  # prompt, answer, rationale, kept column -> by id
    barred: Mapping[str, str] = field(default_factory=dict)

    def repeats(self, repeated: frozenset[str]) -> frozenset[str]:
        """Ids of repeated texts, and those of the same texts with markers."""
        return repeated | {text_id(masked) for text, masked in self.texts.items() if text_id(text) in repeated}

    def counts(self, pairs: pd.DataFrame) -> Counter[tuple[str, str]]:
        """How many pairs hold a kind of finding, in all and by place; and how many prompts and answers were dropped."""
        counts: Counter[tuple[str, str]] = Counter()
        if not self.is_on:
            return counts
        counts[ANY, SCREENED] = len(pairs)
        if not self.found:
            return counts
        in_prompt, in_answer, in_rationale, in_kept = (self.found.get(place, {}) for place in _OF_PLACE)
        none: frozenset[Finding] = frozenset()
        sides = zip(pairs["prompt_id"], pairs["chosen_id"], pairs["rejected_id"], strict=True)
        for prompt, chosen, rejected in sides:
            rationales = in_rationale.get(chosen, none) | in_rationale.get(rejected, none)
            held = (in_prompt.get(prompt, none), in_answer.get(chosen, none), in_answer.get(rejected, none), rationales)
            counts.update(_by_place((*held, in_kept.get(prompt, none))))
        if self.barred:
            for where, dropped in (((in_prompt, in_kept), DROPPED[0]), ((in_answer, in_rationale), DROPPED[1])):
                for name in {*where[0], *where[1]}:
                    counts.update((kind, dropped) for kind in where[0].get(name, none) | where[1].get(name, none))
        return counts


_OF_PLACE = ("prompt", "answer", "rationale", "kept column")


def _by_place(held: Iterable[frozenset[Finding]]) -> Iterator[tuple[str, str]]:
    whole: set[Finding] = set()
    for place, kinds in zip(FOUND_IN, held, strict=True):
        whole |= kinds
        yield from ((kind, place) for kind in kinds)
    yield from ((kind, PAIRS) for kind in whole)
    if whole:
        yield ANY, PAIRS


def screened(
    settings: Screen | None, prompts: pd.DataFrame, completions: pd.DataFrame, ratings: pd.DataFrame
) -> Screened:
    """Look at all texts of some prompts that a published row may hold. Without a finding, tables stay as they are."""
    if settings is None:
        return Screened(prompts, completions, ratings, completions)
    find = cache(finder(settings))
    texts, found = _texts(prompts, completions, ratings), dict[str, Found]()
    for prompt, ones in texts.items():
        if values := _found_in(ones, find):
            found[prompt] = values
    if not found:
        return Screened(prompts, completions, ratings, completions, is_on=True)
    masks = {prompt: masking(texts[prompt], find) for prompt in found}
    kinds = _kinds(prompts, completions, ratings, found)
    masked, replaced = _masked_completions(completions, masks)
    barred = _reasons(kinds) if settings.action == "drop" else {}
    tables = prompts, completions, ratings
    if settings.action == "mask":
        tables = _masked_prompts(prompts, masks), masked, _masked_ratings(ratings, masks)
    return Screened(*tables, masked, True, replaced, kinds, barred)


def masking(texts: Iterable[str], find: Find) -> Callable[[str], str]:
    """What puts a marker in place of all that is found in some texts, in any of them; other texts stay as they are.

    It looks again until nothing is found beside markers, so masking twice is masking once.
    """
    masked = {text: text for text in texts}
    for _ in range(ROUNDS):
        values = _found_in(masked.values(), find)
        if not values:
            break
        longest_first = sorted(values, key=len, reverse=True)
        masked = {text: _marked(now, values, longest_first) for text, now in masked.items()}
    return lambda text: masked.get(text, text)


def as_shown(settings: Screen | None, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Published rows as a page shows them: with markers also where the recipe leaves findings in the data."""
    if settings is None or settings.action != "count":
        return [*map(dict, rows)]
    return [masked_row(settings, row) for row in rows]


def masked_row(settings: Screen, row: Mapping[str, Any]) -> dict[str, Any]:
    """A published row with markers in place of all that is found in its texts."""
    find = finder(settings)
    held = {name: value for name, value in row.items() if name not in _NO_TEXTS}
    mask = masking(_strings(held), find)
    return {**row, **{name: _mapped(value, mask) for name, value in held.items()}}


_NO_TEXTS = frozenset(
    [f"{side}_{what}" for side in ("chosen", "rejected") for what in ("member", "model", "id", "score")]
    + ["prompt_id", "source", "strategy"]
)


def _marked(text: str, values: Found, in_order: Iterable[str]) -> str:
    for value in in_order:
        text = text.replace(value, MARKERS[values[value]])
    return text


def _found_in(texts: Iterable[str], find: Find) -> Found:
    """What is found in some texts, but for what a marker holds or is made of."""
    return {
        value: kind
        for text in texts
        for value, kind in find(text).items()
        if _MARKER.sub("", value).strip() and not any(value in marker for marker in MARKERS.values())
    }


def _texts(prompts: pd.DataFrame, completions: pd.DataFrame, ratings: pd.DataFrame) -> dict[str, set[str]]:
    """The texts of each prompt: of its chat, what its sources keep, its completions and their rationales."""
    texts: dict[str, set[str]] = defaultdict(set)
    for prompt, held, kept in _prompt_texts(prompts):
        texts[prompt].update(held, kept)
    sound = completions[completions["error"].isna()]
    for prompt, text in zip(sound["prompt_id"], sound["text"], strict=True):
        texts[prompt].add(text)
    reasoned = ratings[ratings["rationale"].notna()]
    for prompt, text in zip(reasoned["prompt_id"], reasoned["rationale"], strict=True):
        texts[prompt].add(text)
    return texts


def _prompt_texts(prompts: pd.DataFrame) -> Iterator[tuple[str, list[str], list[str]]]:
    """Of each prompt its id, the texts of its chat, and those that its sources keep."""
    columns = (prompts[name] for name in ("prompt_id", "messages", "system_prompt", "extras"))
    for prompt, messages, system, extras in zip(*columns, strict=True):
        held = [message["content"] for message in json.loads(messages)]
        held += [system] if isinstance(system, str) else []
        kept = json.loads(extras).get(KEPT) if isinstance(extras, str) and f'"{KEPT}"' in extras else None
        yield prompt, held, [*_strings(kept)]


def _kinds(
    prompts: pd.DataFrame, completions: pd.DataFrame, ratings: pd.DataFrame, found: Mapping[str, Found]
) -> Mapping[str, Kinds]:
    """Which kinds of finding stand in the texts of each prompt and completion, by place."""
    kinds: dict[str, dict[str, frozenset[Finding]]] = {place: {} for place in _OF_PLACE}

    def note(place: str, name: str, prompt: str, texts: Iterable[str]) -> None:
        held = {kind for text in texts for value, kind in found[prompt].items() if value in text}
        if held:
            kinds[place][name] = kinds[place].get(name, frozenset()) | held

    for prompt, held, kept in _prompt_texts(prompts[prompts["prompt_id"].isin(found.keys())]):
        note("prompt", prompt, prompt, held)
        note("kept column", prompt, prompt, kept)
    for place, table, column in (("answer", completions, "text"), ("rationale", ratings, "rationale")):
        some = table[table["prompt_id"].isin(found.keys()) & table[column].notna()]
        for name, prompt, text in zip(some["completion_id"], some["prompt_id"], some[column], strict=True):
            note(place, name, prompt, [text])
    return kinds


def _reasons(kinds: Mapping[str, Kinds]) -> dict[str, str]:
    """Why each prompt and completion with a finding is dropped: the kinds, and where."""
    told: dict[str, list[str]] = defaultdict(list)
    for place, by_id in kinds.items():
        for name, held in by_id.items():
            told[name].append(f"{', '.join(kind for kind in FINDINGS if kind in held)} in the {place}")
    return {name: "; ".join(parts) for name, parts in told.items()}


Masks = Mapping[str, Callable[[str], str]]


def _masked_completions(completions: pd.DataFrame, masks: Masks) -> tuple[pd.DataFrame, dict[str, str]]:
    """The completions with markers, and each text that changed with what it became."""
    table = _changed(completions, "text", lambda prompt, text: masks[prompt](text) if prompt in masks else text)
    changed = (table["text"] != completions["text"]).to_numpy()
    return table, dict(zip(completions["text"][changed], table["text"][changed], strict=True))


def _masked_ratings(ratings: pd.DataFrame, masks: Masks) -> pd.DataFrame:
    return _changed(ratings, "rationale", lambda prompt, text: masks[prompt](text) if prompt in masks else text)


def _masked_prompts(prompts: pd.DataFrame, masks: Masks) -> pd.DataFrame:
    def chat(prompt: str, text: str) -> str:
        if prompt not in masks:
            return text
        messages = [{**one, "content": masks[prompt](one["content"])} for one in json.loads(text)]
        return canonical_json(messages)

    def extras(prompt: str, text: str) -> str:
        held = json.loads(text) if prompt in masks else {}
        return canonical_json({**held, KEPT: _mapped(held[KEPT], masks[prompt])}) if KEPT in held else text

    table = _changed(prompts, "messages", chat)
    table = _changed(table, "system_prompt", lambda prompt, text: masks[prompt](text) if prompt in masks else text)
    return _changed(table, "extras", extras)


def _changed(table: pd.DataFrame, column: str, change: Callable[[str, str], str]) -> pd.DataFrame:
    """A table with a column of texts changed by prompt and text; nulls stay."""
    both = zip(table["prompt_id"], table[column], strict=True)
    values = [change(prompt, text) if isinstance(text, str) else text for prompt, text in both]
    return table.assign(**{column: pd.Series(values, index=table.index, dtype=table[column].dtype)})


def _strings(value: Any) -> Iterator[str]:
    """The texts in a value as JSON has it; names of fields are none."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _strings(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _strings(one)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """A value as JSON has it, with each text changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _mapped(one, change) for name, one in value.items()}
    return [_mapped(one, change) for one in value] if isinstance(value, list | tuple) else value

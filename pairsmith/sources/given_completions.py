"""Completions and ratings that the sources bring: read from rows into prompts, then made rows of the tables.

No model is asked. A prompt carries its completions in its extras, as `{"completions": [{member, model, text, error,
ratings}]}`, where `ratings` has a list of values for each aspect. Two completions with the same label and text become
one, with the ratings of both. The list is sorted, so the order of rows changes nothing. Whether a value is on its scale
is checked later, when rows of ratings are made, by the rules for a judge's reply.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from pairsmith.config import Given, Judge, Member, Rating, Written
from pairsmith.errors import DataError
from pairsmith.ids import canonical_json, short_id
from pairsmith.judging.asking import may_be_na, scale
from pairsmith.judging.pairwise import GIVEN
from pairsmith.judging.readout_values import read_given
from pairsmith.judging.readouts import Read, Scale, Sheet
from pairsmith.sources.chats import Turns, as_data, is_chat, is_transcript, last_answer
from pairsmith.sources.given_votes import key_of, plain, united_votes, verdicts_of, with_verdicts, with_votes
from pairsmith.sources.layout_readers import Answers
from pairsmith.sources.row_fields import Refused, lookup
from pairsmith.sources.whole_chats import repeats
from pairsmith.storage.row_types import CompletionRow, RatingRow, rows_as, unrated
from pairsmith.storage.schemas import Reason, frame, rows

LONGEST_LABEL = 200  # characters
_NONE, _NOTHING = Answers(), Turns(None, [])
_THUMBS = {
    True: True, "true": True, "up": True, "thumbs_up": True, "thumbs up": True, "thumbsup": True, "yes": True,
    "positive": True, "like": True, "liked": True, "👍": True,
    False: False, "false": False, "down": False, "thumbs_down": False, "thumbs down": False, "thumbsdown": False,
    "no": False, "negative": False, "dislike": False, "disliked": False, "👎": False,
}  # fmt: skip
_NUMBERS_OF_THUMBS: dict[float | None, bool] = {1.0: True, 0.0: False, -1.0: False}
Item = dict[str, Any]  # one completion as a prompt carries it; fields that are null are left out


def read_completions(
    row: Mapping[str, Any], given: Given, answers: Answers = _NONE, asked: Turns = _NOTHING
) -> list[Item]:
    """The completions that a row brings. If one cannot be used, its `error` says why.

    `answers`: those of the row's layout. `asked`: its prompt, which a completion that is a chat must repeat.
    Raises Refused if the list of completions is no list, if the row should be a completion and is none, or if a
    completion is a chat about something else.
    """
    if given.columns:
        items = [_item(row, written, asked, label) for label, written in given.by_label.items()]
        return united(with_votes(list(with_verdicts(_of_this_prompt(items), row, given)), row, given))
    if given.of_layout:
        where = ", ".join(answers.columns) or "the chat"
        made = [_made(row, given, label, *_text(value, where, asked)) for label, value in answers.texts]
        return united(_of_this_prompt(made))
    if given.items is None:
        item = _item(row, given, asked)
        reason, _, detail = item.get("error", "").partition(": ")
        if detail:
            raise Refused(Reason(reason), detail)
        return united([item])
    found = as_data(lookup(row, given.items))
    if not isinstance(found, list | tuple):
        kind = "is absent or null" if found is None else f"holds {type(found).__name__}, not a list"
        reason = Reason.MISSING if found is None else Reason.WRONG_TYPE
        raise Refused(reason, f"completions: column {given.items} {kind}")
    return united(_item(one, given, asked) for one in found)


def _of_this_prompt(items: Sequence[Item]) -> Sequence[Item]:
    """The completions of a row. Raises Refused where one is a chat about something else."""
    for item in items:
        reason, _, detail = item.get("error", "").partition(": ")
        if reason == Reason.BAD_CHAT:
            raise Refused(Reason.BAD_CHAT, f"completions: {detail}")
    return items


def united(items: Iterable[Item]) -> list[Item]:
    """Merge items that have the same label and text, with the ratings of all; sorted by their content."""
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[canonical_json([item.get(name) for name in ("member", "text", "error")])].append(item)
    return [_merged(group) for _, group in sorted(groups.items())]


def completions_of(prompts: pd.DataFrame, member: Member) -> pd.DataFrame:
    """The given completions of all prompts, as a table. Those without a label get the name of `member`."""
    return frame("completions", [row for prompt in rows(prompts) for row in _completions(prompt, member)])


def ratings_of(
    prompts: pd.DataFrame, completions: pd.DataFrame, rating: Rating, judge: Judge, member: Member
) -> pd.DataFrame:
    """The ratings that came with given completions, as a table of ratings by `judge`; the votes, where it is pairwise.
    Unusable ones are null with the reason.

    A completion without a given rating gets a row, with null, only in aspects that no other judge rates: none that is
    asked, and none that brings a rating of this completion.
    """
    texts: dict[str, list[CompletionRow]] = defaultdict(list)
    for row in rows_as(CompletionRow, completions):
        if row["error"] is None:
            texts[row["prompt_id"]].append(row)
    asked = {aspect for one in rating.judges if not one.is_given for aspect in rating.aspects_of(one)}
    others = [one for one in rating.judges if one.is_given and one != judge]
    all_prompts = rows(prompts)
    for aspect in rating.aspects_of(judge):
        if not judge.is_pairwise:
            every = (_brought(judge, aspect, item) for row in all_prompts for item in carried(row))
            _no_thumbs((one["value"] for said in every for one in said), aspect, _sheet(aspect, rating).scale)
    made: list[RatingRow] = []
    for prompt in all_prompts:
        items = {_id(prompt["prompt_id"], item, member): item for item in carried(prompt)}
        ids = {key_of(item): name for name, item in items.items() if "error" not in item}
        for row in texts[prompt["prompt_id"]]:
            item = items.get(row["completion_id"], {})
            for aspect in rating.aspects_of(judge):
                said = _brought(judge, aspect, item)
                if others:
                    said = [one for one in said if one["value"] is not None]
                brought = [_brought(one, aspect, item) for one in others if aspect in rating.aspects_of(one)]
                elsewhere = aspect in asked or any(one["value"] is not None for found in brought for one in found)
                if elsewhere and not said:
                    continue
                common = unrated(row, judge.name, aspect, GIVEN)
                if judge.is_pairwise:
                    made += verdicts_of(common, said, ids)
                else:
                    made.append({**common, **_rating(said, _sheet(aspect, rating))})  # type: ignore[typeddict-item]
    return frame("ratings", made)


def _brought(judge: Judge, aspect: str, item: Item) -> list[dict[str, Any]]:
    """What a completion came with for a given judge in an aspect: ratings, or votes for one that is pairwise."""
    kind: dict[str, list[dict[str, Any]]] = item.get("votes" if judge.is_pairwise else "ratings", {})
    return kind.get(judge.brings.get(aspect, aspect), [])


def _item(row: Any, written: Written, asked: Turns, label: str | None = None) -> Item:
    """The completion in a row, or in an item of its list, read from the places that `written` names."""
    fields = row if isinstance(row, Mapping) else {}
    if written.text is None:
        text, error = _text(row, "the list's item", asked)
    elif isinstance(row, Mapping) or row is None:
        text, error = _text(lookup(fields, written.text), f"column {written.text}", asked)
    else:
        text, error = "", f"{Reason.WRONG_TYPE}: the list's item is {type(row).__name__}, not an object with fields"
    return _made(fields, written, label, text, error)


def _made(fields: Mapping[str, Any], written: Written, label: str | None, text: str, error: str | None) -> Item:
    """A completion of this text, or with this error, whose other fields stand where `written` says."""
    if written.member and (label is None or not isinstance(written, Given)):
        label, wrong = _label(lookup(fields, written.member), written.member)
        error = error or wrong
    model, _ = _label(lookup(fields, written.model), written.model) if written.model else (None, None)
    ratings = {aspect: [_said(fields, written, aspect)] for aspect in written.rated} if not error else {}
    item = {"member": label, "model": model, "text": text, "error": error, "ratings": ratings}
    return {name: value for name, value in item.items() if value is not None and value != {}}


def _text(value: Any, where: str, asked: Turns) -> tuple[str, str | None]:
    """A completion's text, and what is wrong with it, if anything."""
    if value is None:
        return "", f"{Reason.MISSING}: {where} is absent or null"
    if isinstance(value, list | tuple | Mapping) or is_chat(value) or is_transcript(value):
        try:
            found = last_answer(value)
        except Refused as refused:
            return "", f"{Reason.WRONG_TYPE}: {where}: {refused.detail}"
        if found and (not found[0] or repeats(found[0], asked)):
            value, where = found[1], f"the assistant's last message in {where}"
        elif found and not isinstance(value, str):
            problem = "a chat whose turns before its last answer are not the row's prompt"
            return "", f"{Reason.BAD_CHAT}: {where} holds {problem}"
        elif isinstance(value, list | tuple):
            return "", f"{Reason.WRONG_TYPE}: {where} holds a list without a message of the assistant"
    if not isinstance(value, str):
        return "", f"{Reason.WRONG_TYPE}: {where} holds {type(value).__name__}, not text"
    return (value, None) if value.strip() else ("", str(Reason.EMPTY))


def _label(value: Any, where: str | None) -> tuple[str | None, str | None]:
    """A completion's label, and what is wrong with it, if anything. A whole number is a label too."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value is None or value == "":
        return None, f"{Reason.MISSING}: the label in column {where} is absent or null"
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_LABEL:
        problem = "blank or longer than a name" if isinstance(value, str) else type(value).__name__
        return None, f"{Reason.WRONG_TYPE}: the label in column {where} is {problem}"
    return value, None


def _said(fields: Mapping[str, Any], written: Written, aspect: str) -> dict[str, Any]:
    """A row's rating in one aspect: its value in JSON, not yet checked, and its rationale if there is one."""
    rationale = lookup(fields, written.rationales[aspect]) if aspect in written.rationales else None
    if rationale is not None and not isinstance(rationale, str):
        rationale = json.dumps(rationale, ensure_ascii=False, default=str)
    value = plain(lookup(fields, written.rated[aspect]))
    found = {"value": _as_thumb(value) if aspect in written.thumbs else value}
    found |= {"rationale": rationale} if rationale and rationale.strip() else {}
    return found | ({"fractions": True} if aspect in written.scores else {})


def _as_thumb(value: Any) -> Any:
    """True or false for a thumb that is written as a number or a word; other values as text that holds no rating."""
    if value is None or _thumb_word(value) in _THUMBS:
        return value
    return _NUMBERS_OF_THUMBS.get(_as_number(value), f"no thumb: {value}")


def _as_number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool | list | dict) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _merged(group: Sequence[Item]) -> Item:
    """One completion from several with the same label and text."""
    ratings: dict[str, dict[str, Any]] = defaultdict(dict)
    for item in group:
        for aspect, said in item.get("ratings", {}).items():
            ratings[aspect].update({canonical_json(one): one for one in said})
    combined = {aspect: [one for _, one in sorted(said.items())] for aspect, said in sorted(ratings.items())}
    models = sorted({item["model"] for item in group if "model" in item})
    merged = {name: value for name, value in group[0].items() if name not in ("model", "ratings", "votes")}
    found = {"model": models[0] if models else None, "ratings": combined, "votes": united_votes(group)}
    return merged | {name: value for name, value in found.items() if value}


def carried(prompt: Mapping[str, Any]) -> list[Item]:
    """The completions that a row of the prompts table carries."""
    return list(json.loads(prompt["extras"] or "{}").get("completions", []))


def _id(prompt_id: str, item: Item, member: Member) -> str:
    """Identity of a given completion. It differs from that of the same text if a member of that name had written it."""
    return short_id("given", prompt_id, item.get("member", member.name), item["text"], item.get("error", ""))


def _completions(prompt: Mapping[str, Any], member: Member) -> Iterable[dict[str, Any]]:
    samples: dict[str, int] = defaultdict(int)
    for item in carried(prompt):
        label = item.get("member", member.name)
        yield {
            "completion_id": _id(prompt["prompt_id"], item, member),
            "prompt_id": prompt["prompt_id"],
            "member": label,
            "model": item.get("model", label),
            "text": item["text"],
            "n_tokens": 0,
            "sample": samples[label],
            "seed": 0,
            "evolution": 0,
            "request": "",
            "error": item.get("error"),
        }
        samples[label] += 1


def _sheet(aspect: str, rating: Rating) -> Sheet:
    rubric = rating.rubrics.get(aspect)
    return Sheet((), scale(aspect, rubric), may_be_na(aspect, rubric))


def _rating(said: Sequence[dict[str, Any]], sheet: Sheet) -> dict[str, Any]:
    """The columns of a row that ratings decide."""
    reply = canonical_json([one["value"] for one in said]) if said else ""
    return {**asdict(_read(said, sheet)), "reply": reply}


def _read(said: Sequence[dict[str, Any]], sheet: Sheet) -> Read:
    """One rating from all that were given to a text in an aspect; null if they contradict each other."""
    rationale = "\n\n".join(dict.fromkeys(one["rationale"].strip() for one in said if "rationale" in one)) or None
    values = [(_thumb(one["value"], sheet.scale), one.get("fractions", False)) for one in said]
    reads = {read_given(value, sheet, fractions) for value, fractions in values if value is not None}
    if len(reads) > 1:
        return Read(rationale=rationale, error="given ratings that contradict each other")
    found = reads.pop() if reads else read_given(None, sheet)
    return Read(found.rating, found.score, rationale, found.error)


def _thumb(value: Any, scale: Scale) -> Any:
    """The end of the scale for a rating that is true or false; any other value as it is."""
    key = _thumb_word(value)
    return value if key not in _THUMBS else scale.high if _THUMBS[key] else scale.low


def _thumb_word(value: Any) -> bool | str:
    return value if isinstance(value, bool) else value.strip().lower() if isinstance(value, str) else ""


def _no_thumbs(values: Iterable[Any], aspect: str, scale: Scale) -> None:
    """Raise DataError for ratings that are all 0 (or -1) and 1 on a scale on which 1 is the lowest."""
    numbers = [_as_number(value) for value in values if value is not None and value != ""]
    if scale.low == 1 and len(numbers) > 1 and set(numbers) - {1.0} and set(numbers) <= set(_NUMBERS_OF_THUMBS):
        problem = f"the given ratings of {aspect} are all 1, 0 or -1"
        raise DataError(
            f"{problem}, and its scale begins at 1, so that 1 would be the lowest; if 1 means good, name their column "
            f"in thumbs instead of ratings: completions: {{thumbs: {{{aspect}: ...}}}}; else give {aspect} a rubric "
            "whose scale begins at 0"
        )

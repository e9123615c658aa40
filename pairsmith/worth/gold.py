"""Gold: pairs of answers to one prompt, and who said of them which is better.

A gold file is JSON Lines, one pair a row (docs/calibration.md); `gold_rows` says which other rows are read. The id of a
pair comes from its prompt and its two texts whatever their order, so rows about the same pair become one, with the
votes of all. Which of the two texts is `a` also comes from their content: no side tells which is better.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from pairsmith.errors import DataError
from pairsmith.generation.pool import with_system
from pairsmith.ids import fingerprint, prompt_id, short_id, text_id
from pairsmith.sources.chats import Message
from pairsmith.storage.disk import replace_file
from pairsmith.storage.schemas import Reason

Better = Literal["a", "b", "tie", "skip"]  # skip: a person was asked and did not decide
VERDICTS: tuple[Better, ...] = get_args(Better)
NOBODY = "gold"  # who voted, where a row does not say
OTHER: dict[Better, Better] = {"a": "b", "b": "a", "tie": "tie", "skip": "skip"}


@dataclass(frozen=True)
class Vote:
    """What one person said of a pair. `note`: a remark; `at`: when, as an ISO 8601 time."""

    better: Better
    who: str = NOBODY
    note: str | None = None
    at: str | None = None


@dataclass(frozen=True)
class GoldPair:
    """Two answers to a prompt, and the votes about them, at most one of each person. Made by `gold_pair`.

    `drawn`: why this pair was shown to people, such as random or near tie.
    """

    messages: tuple[Message, ...]
    system_prompt: str | None
    a: str
    b: str
    votes: tuple[Vote, ...] = ()
    reference: str | None = None
    drawn: str | None = None

    @property
    def prompt_id(self) -> str:
        """The id that the prompt also has in a data set."""
        return prompt_id(self.messages, self.system_prompt)

    @property
    def chat(self) -> list[Message]:
        """The prompt, its system prompt first where there is one."""
        return with_system(self.messages, self.system_prompt)

    @property
    def pair_id(self) -> str:
        return short_id("gold", self.prompt_id, text_id(self.a), text_id(self.b))

    @property
    def better(self) -> Better:
        """What most of those said who decided; tie where no answer has more votes than each other verdict.

        skip where nobody decided.
        """
        counts = Counter(vote.better for vote in self.votes if vote.better != "skip")
        if not counts:
            return "skip"
        (first, most), *others = counts.most_common()
        return "tie" if others and others[0][1] == most else first

    @property
    def agreement(self) -> float | None:
        """Of those who decided, the share whose verdict is `better`; None where nobody decided."""
        decided: list[Better] = [vote.better for vote in self.votes if vote.better != "skip"]
        return decided.count(self.better) / len(decided) if decided else None


@dataclass(frozen=True)
class Rejected:
    """A row that is no gold: its place as file:line, the reason, and what is wrong with it."""

    place: str
    reason: Reason
    detail: str


@dataclass
class Gold:
    """Pairs by their ids, sorted. `rows`: read in all; `repeated`: votes beyond a person's
    first about a pair."""

    name: str
    pairs: tuple[GoldPair, ...] = ()
    rejected: list[Rejected] = field(default_factory=list)
    rows: int = 0
    repeated: int = 0

    @property
    def decided(self) -> tuple[GoldPair, ...]:
        """The pairs of which one answer is better."""
        return tuple(pair for pair in self.pairs if pair.better in ("a", "b"))

    @property
    def digest(self) -> str:
        """Hash of what the pairs say: their ids and which answer is better, not who said so."""
        return fingerprint("gold", [[pair.pair_id, pair.better] for pair in self.pairs])


def gold_pair(
    messages: Sequence[Message],
    a: str,
    b: str,
    votes: Iterable[Vote] = (),
    *,
    system_prompt: str | None = None,
    reference: str | None = None,
    drawn: str | None = None,
) -> GoldPair:
    """A pair with its texts in the order that their content gives; votes change with them. Raises DataError for two
    texts that are the same."""
    if text_id(a) == text_id(b):
        raise DataError("both answers are the same text")
    if text_id(a) > text_id(b):
        a, b, votes = b, a, [replace(vote, better=OTHER[vote.better]) for vote in votes]
    return GoldPair(tuple(messages), system_prompt, a, b, tuple(votes), reference, drawn)


def united(pairs: Iterable[GoldPair]) -> tuple[tuple[GoldPair, ...], int]:
    """One pair for each id, sorted by id, with one vote of each person; and how many votes went into others.

    Of several votes of one person about a pair those with the latest `at` count. Where these differ they are a tie, so
    that the order of rows changes nothing.
    """
    found: dict[str, GoldPair] = {}
    votes: dict[str, dict[str, list[Vote]]] = defaultdict(lambda: defaultdict(list))
    for pair in pairs:
        first = found.setdefault(pair.pair_id, pair)
        reference, drawn = _least(first.reference, pair.reference), _least(first.drawn, pair.drawn)
        found[pair.pair_id] = replace(first, reference=reference, drawn=drawn)
        for vote in pair.votes:
            votes[pair.pair_id][vote.who].append(vote)
    made = tuple(
        replace(pair, votes=tuple(_one_vote(given) for _, given in sorted(votes[name].items())))
        for name, pair in sorted(found.items())
    )
    return made, sum(len(given) - 1 for people in votes.values() for given in people.values())


def _least(*texts: str | None) -> str | None:
    """The first of some texts in their own order, so that it is the same whichever comes first."""
    return min((text for text in texts if text), default=None)


def _one_vote(given: Sequence[Vote]) -> Vote:
    """What several votes of one person come to."""
    latest = max(vote.at or "" for vote in given)
    counted = sorted(
        (vote for vote in given if (vote.at or "") == latest), key=lambda vote: (vote.better, vote.note or "")
    )
    decided = {vote.better for vote in counted if vote.better != "skip"}
    better: Better = "tie" if len(decided) > 1 else next(iter(decided), "skip")
    notes = list(dict.fromkeys(vote.note for vote in counted if vote.note))
    return replace(counted[0], better=better, note="; ".join(notes) or None)


def as_row(pair: GoldPair) -> dict[str, Any]:
    """A pair as a row of a gold file; fields without a value are left out."""
    row = {
        "id": pair.pair_id,
        "messages": list(pair.messages),
        "system": pair.system_prompt,
        "a": pair.a,
        "b": pair.b,
        "better": pair.better if pair.votes else None,
        "votes": [_filled(vars(vote)) for vote in pair.votes],
        "reference": pair.reference,
        "drawn": pair.drawn,
    }
    return _filled(row)


def _filled(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def as_line(pair: GoldPair) -> bytes:
    """A pair as a line of a gold file."""
    return (json.dumps(as_row(pair), ensure_ascii=False) + "\n").encode("utf-8")


def write_gold(path: Path, pairs: Iterable[GoldPair]) -> None:
    """Write a gold file whole or not at all, in the place of any that was there: a line a pair, sorted by id."""
    replace_file(path, b"".join(map(as_line, united(pairs)[0])))

"""The pairs of a version as people are asked about them, and as its judges decide about them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pairsmith.ids import short_id
from pairsmith.judging.asking import CRITIQUE
from pairsmith.labelling.drawing import Candidate, Drawn, drawn
from pairsmith.labelling.journal import Label
from pairsmith.pairing.agreeing import higher
from pairsmith.storage.addresses import addressed
from pairsmith.storage.datafiles import MARGIN, File, at, column_batches, data_files
from pairsmith.worth.gold import OTHER, Better, GoldPair, gold_pair

_DECIDED_BY = ("chosen_id", "rejected_id", MARGIN, "chosen_ratings", "rejected_ratings")
_SHOWN = ("prompt", "chosen", "rejected", "chosen_id", "rejected_id", "chosen_ratings", "rejected_ratings")
Ratings = Sequence[Mapping[str, Any]]
_BETTER: Mapping[int, Better] = {1: "a", -1: "b", 0: "tie"}


@dataclass(frozen=True)
class LabelPair:
    """A pair that people are asked about; `key` is its id here, and `gold.drawn` says why it was drawn.

    `chosen`: the answer that the data set prefers; `judges`: which answer each judge scores higher.
    """

    key: str
    gold: GoldPair
    chosen: Better
    judges: Mapping[str, Better]


@dataclass(frozen=True)
class Draw:
    """The pairs that `count` and `seed` draw from a version, by their keys."""

    version: str
    count: int
    seed: int
    pairs: Mapping[str, LabelPair]


@dataclass(frozen=True)
class VersionPairs:
    """All pairs of a version; only what drawing needs of them is in memory."""

    version: str
    files: Sequence[File]

    @cached_property
    def candidates(self) -> Sequence[Candidate]:
        return tuple(candidates(self.files))

    def draw(self, count: int, seed: int) -> Draw:
        marks = drawn(self.candidates, count, seed)
        return Draw(self.version, count, seed, {pair.key: pair for pair in pairs_at(self.files, marks)})

    def labelled(self, labels: Iterable[Label]) -> dict[str, LabelPair]:
        """The pairs of this version that have a label, by their keys, each with the reason why it was drawn.

        A pair of the random sample counts as random also where it was first drawn for another reason, by a smaller
        number: the sample is then a random one of the data set.
        """
        labels = [*labels]
        reasons: dict[str, str] = {}
        for label in labels:
            reasons[label.pair] = "random" if reasons.get(label.pair) == "random" else label.drawn
        asked: dict[int, int] = {}
        for label in labels:
            if label.version == self.version:
                asked[label.seed] = max(label.asked, asked.get(label.seed, 0))
        sample = {
            row
            for seed, count in asked.items()
            for row, why in drawn(self.candidates, count, seed).items()
            if why == "random"
        }
        marks = {
            one.row: "random" if one.row in sample else reasons[one.key]
            for one in self.candidates
            if one.key in reasons
        }
        return {pair.key: pair for pair in pairs_at(self.files, marks)}


def pairs_in(place: str) -> VersionPairs:
    """The pairs of a version, or of the latest of a data set, by address. Raises DataError where there is none."""
    store, version = addressed(place)
    return VersionPairs(version.name, data_files(store, version))


def candidates(files: Sequence[File]) -> Iterator[Candidate]:
    """What drawing needs to know of all pairs of a version; prompts and answers are not read."""
    row = 0
    for columns in column_batches(files, _DECIDED_BY):
        for chosen, rejected, margin, *ratings in zip(*(column.to_pylist() for column in columns), strict=True):
            votes = list(verdicts(*ratings).values())
            dissent = min(votes.count("a"), votes.count("b")) / len(votes) if votes else 0.0
            yield Candidate(row, key_of(chosen, rejected), margin, dissent)
            row += 1


def key_of(one_id: str, other_id: str) -> str:
    """A pair's id here: of its two answers' ids, whichever of them was chosen."""
    return short_id("label", *sorted((one_id, other_id)))


def pairs_at(files: Sequence[File], marks: Mapping[int, Drawn | str]) -> Iterator[LabelPair]:
    """The pairs at some rows, each with the reason why it was drawn."""
    columns = {name: at(files, name, list(marks)) for name in _SHOWN}
    for row, mark in marks.items():
        yield pair_of({name: values[row] for name, values in columns.items()}, mark)


def pair_of(row: Mapping[str, Any], mark: str) -> LabelPair:
    """A published row as a pair that people are asked about."""
    chosen, rejected = (row[side][-1]["content"] for side in ("chosen", "rejected"))
    messages, system = row["prompt"], None
    if len(messages) > 1 and messages[0]["role"] == "system":
        system, messages = messages[0]["content"], messages[1:]
    gold = gold_pair(messages, chosen, rejected, system_prompt=system, drawn=mark)
    is_first = gold.a == chosen
    found = verdicts(row["chosen_ratings"], row["rejected_ratings"])
    judges = {judge: better if is_first else OTHER[better] for judge, better in found.items()}
    return LabelPair(key_of(row["chosen_id"], row["rejected_id"]), gold, "a" if is_first else "b", judges)


def verdicts(a: Ratings, b: Ratings) -> dict[str, Better]:
    """Which of two answers each judge scores higher, over the aspects in which it scored both."""
    gaps: dict[str, list[float]] = defaultdict(list)
    of_a, of_b = _scores(a), _scores(b)
    for judge, aspect in sorted(of_a.keys() & of_b.keys()):
        gaps[judge].append(of_a[judge, aspect] - of_b[judge, aspect])
    sums = {judge: sum(found) for judge, found in gaps.items()}
    return {judge: _BETTER[higher(gap, 0)] for judge, gap in sums.items()}


def _scores(ratings: Ratings) -> dict[tuple[str, str], float]:
    """The mean score of each judge and aspect; critiques are left out, as they are in pairing."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for one in ratings:
        if one["score"] is not None and one["aspect"] != CRITIQUE:
            found[one["judge"], one["aspect"]].append(one["score"])
    return {place: sum(scores) / len(scores) for place, scores in found.items()}

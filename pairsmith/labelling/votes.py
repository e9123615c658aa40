"""Labels as votes about pairs, and the gold file that holds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from pairsmith.errors import DataError
from pairsmith.labelling.journal import Label
from pairsmith.labelling.pairs import LabelPair
from pairsmith.worth.gold import GoldPair, Vote, united, write_gold
from pairsmith.worth.gold_rows import read_gold

People = Mapping[str, Mapping[str, Label]]  # person -> pair -> label


def all_labels(people: People) -> list[Label]:
    return [label for labels in people.values() for label in labels.values()]


def voted(pairs: Iterable[LabelPair], people: People) -> list[LabelPair]:
    """The pairs with what people say of them now."""
    return [replace(pair, gold=replace(pair.gold, votes=_votes(pair.key, people))) for pair in pairs]


def _votes(key: str, people: People) -> tuple[Vote, ...]:
    labels = [labels[key] for _, labels in sorted(people.items()) if key in labels]
    return tuple(Vote(one.better, one.who, one.note or None, one.at) for one in labels if one.better)


def into_gold(path: Path, pairs: Iterable[LabelPair], people: Iterable[str]) -> int:
    """Write what `people` say of `pairs` into a gold file, and return how many pairs it holds then.

    What the file says already stays, but for the votes of these people about these pairs. Raises DataError where it
    holds rows that are no gold, and changes nothing then.
    """
    ours, names = [pair.gold for pair in pairs], set(people)
    known = {gold.pair_id for gold in ours}
    kept = [_without(gold, names) if gold.pair_id in known else gold for gold in _in_file(path)]
    whole = [gold for gold in united([*kept, *ours])[0] if gold.votes]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_gold(path, whole)
    return len(whole)


def _in_file(path: Path) -> Iterable[GoldPair]:
    if not path.exists() or not path.stat().st_size:
        return ()
    gold = read_gold(str(path))
    if gold.rejected:
        first = gold.rejected[0]
        raise DataError(f"{first.place}: {first.detail}; mend the row, or name another file with --out")
    return gold.pairs


def _without(gold: GoldPair, people: set[str]) -> GoldPair:
    return replace(gold, votes=tuple(vote for vote in gold.votes if vote.who not in people))

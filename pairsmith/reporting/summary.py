"""The counts of a run: prompts by stage, reasons, scores by member and aspect, wins, margins and lengths.

Counts are kept per shard and added up; distributions are counts by step, so their memory does not grow with the data.
`summary_tables` and `charts` show them.
"""

from __future__ import annotations

import heapq
import math
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypedDict

import pandas as pd

from pairsmith.config import Pairing
from pairsmith.config.selecting import SIGNAL
from pairsmith.ids import draw
from pairsmith.judging.asking import REWARD
from pairsmith.judging.guard import Flag
from pairsmith.reporting import charts
from pairsmith.reporting.failures import counted
from pairsmith.storage.schemas import Reason
from pairsmith.storage.tables import ShardTables

CUT = f"{Reason.TRUNCATED}: cut off at max_tokens"  # why a completion that was cut gave nothing
DIGITS = re.compile("[0-9]+")
EXAMPLES = 2  # that a report shows, for each kind of flag
ANY = ""  # stands for all kinds of finding together
PAIRS, SCREENED = "pairs", "screened"  # places of findings: pairs with one, and all pairs that were looked at
_STEPS = ("scores", "wins", "histograms", "flags", "found")  # counters with tuples as keys, which JSON does not allow


class FlaggedText(TypedDict):
    """A text that the guard flagged, as a report shows it: the kind of flag, and an excerpt of the text around it."""

    kind: str
    completion_id: str
    member: str
    excerpt: str


@dataclass
class Summary:
    """Counts of a run. Of prompts, loaded = paired + rejected; of rows, read = loaded + rejected at load."""

    rows_read: int = 0
    loaded: int = 0
    completed: int = 0
    evolved: int = 0
    rated: int = 0
    paired: int = 0
    pairs: int = 0
    load_reasons: Counter[str] = field(default_factory=Counter)
    prompt_reasons: Counter[str] = field(default_factory=Counter)
    completion_reasons: Counter[str] = field(default_factory=Counter)
    members: dict[str, dict[str, float]] = field(default_factory=dict)
    aspects: dict[str, dict[str, float]] = field(default_factory=dict)
    wins: Counter[tuple[str, str]] = field(default_factory=Counter)
    chosen_chars: int = 0
    rejected_chars: int = 0
    longer: int = 0  # pairs whose chosen text is the longer one
    shorter: int = 0
    margins: float = 0.0
    n_margins: int = 0
    scores: Counter[tuple[str, str, int]] = field(default_factory=Counter)  # member, aspect, score as a whole number
    # margin, length of chosen or rejected, or "aspect by judge" for a reward model's scores; step
    histograms: Counter[tuple[str, int]] = field(default_factory=Counter)
    flags: Counter[tuple[str, str]] = field(default_factory=Counter)  # the guard's kind; completions, chosen, rejected
    examples: list[FlaggedText] = field(default_factory=list)
    found: Counter[tuple[str, str]] = field(default_factory=Counter)  # the screen's kind; place: see `summary_tables`
    slopes: dict[str, float] = field(default_factory=dict)  # from length control; of the whole data set
    failures: dict[str, dict[str, float]] = field(default_factory=dict)  # see `failures.Failures`
    # signal -> `asked`: the prompts that its share comes to; `prompts` that it got; those `paired`; `pairs`
    signals: dict[str, dict[str, float]] = field(default_factory=dict)
    criteria: Counter[str] = field(default_factory=Counter)  # those that count (ANY), and why others do not

    def add(
        self,
        tables: ShardTables,
        flags: Mapping[str, Sequence[Flag]] | None = None,
        pairing: Pairing | None = None,
    ) -> None:
        """Add a shard. `flags`: completion_id -> what the guard found in it; `pairing`: which signals there are."""
        completions, pairs = tables.completions, tables.pairs
        if pairing and pairing.signals:
            _count_signals(self.signals, tables, pairing)
        self._add_flags(tables, flags or {})
        sound = completions[completions["error"].isna()]
        self.loaded += len(tables.prompts)
        self.completed += sound.loc[sound["evolution"] == 0, "prompt_id"].nunique()
        self.evolved += sound.loc[sound["evolution"] > 0, "prompt_id"].nunique()
        self.paired += pairs["prompt_id"].nunique()
        self.pairs += len(pairs)
        whole = tables.rejections["completion_id"].isna()
        self.prompt_reasons.update(tables.rejections.loc[whole, "reason"])
        self.completion_reasons.update(tables.rejections.loc[~whole, "reason"])
        self._add_pairs(pairs, dict(zip(completions["completion_id"], completions["text"].str.len(), strict=True)))
        cut = set(tables.rejections.loc[tables.rejections["reason"] == Reason.TRUNCATED, "completion_id"])
        for name, group in completions.groupby("member", sort=True):
            _tally(self.members, str(name), "completions", len(group))
            failed = group["error"].notna() & (group["error"] != Reason.SUPERSEDED)
            _tally(self.members, str(name), "failed", int(failed.sum()))
            _tally(self.members, str(name), "tokens", int(group["n_tokens"].sum()))
            self._add_failures(f"member {name}", group["error"].where(~group["completion_id"].isin(cut), CUT))
        _count_criteria(self, tables.criteria)
        self._add_ratings(tables.ratings, dict(zip(completions["completion_id"], completions["member"], strict=True)))

    def _add_flags(self, tables: ShardTables, flags: Mapping[str, Sequence[Flag]]) -> None:
        member_of = dict(zip(tables.completions["completion_id"], tables.completions["member"], strict=True))
        places = [(name, "completions") for name in flags]
        places += [(name, side) for side in ("chosen", "rejected") for name in set(tables.pairs[f"{side}_id"])]
        for name, place in places:
            self.flags.update((flag.kind, place) for flag in flags.get(name, ()))
        self.examples = _few_of_each_kind(
            {"kind": flag.kind, "completion_id": name, "member": member_of[name], "excerpt": flag.excerpt}
            for name, found in flags.items()
            for flag in found
        )

    def _add_pairs(self, pairs: pd.DataFrame, size_of: Mapping[str, int]) -> None:
        self.wins.update(zip(pairs["chosen_member"], pairs["rejected_member"], strict=True))
        chosen, rejected = ([int(size_of[name]) for name in pairs[f"{side}_id"]] for side in ("chosen", "rejected"))
        self.chosen_chars += sum(chosen)
        self.rejected_chars += sum(rejected)
        self.longer += sum(one > other for one, other in zip(chosen, rejected, strict=True))
        self.shorter += sum(one < other for one, other in zip(chosen, rejected, strict=True))
        margins = pairs["margin"].dropna()
        self.margins += float(margins.sum())
        self.n_margins += len(margins)
        self.histograms.update(("margin", charts.margin_step(margin)) for margin in margins)
        self.histograms.update(("chosen", charts.length_step(size)) for size in chosen)
        self.histograms.update(("rejected", charts.length_step(size)) for size in rejected)

    def _add_failures(self, who: str, errors: pd.Series[Any]) -> None:
        for cause, count in counted(errors.to_list()).items():
            _tally(self.failures, who, cause, count)

    def _add_ratings(self, ratings: pd.DataFrame, member_of: Mapping[str, str]) -> None:
        self.rated += ratings.loc[ratings["score"].notna(), "prompt_id"].nunique()
        members = ratings["completion_id"].map(member_of)
        for who, rows in ratings.groupby("judge", sort=True):
            self._add_failures(f"judge {who}", rows["error"])
        for (judge, aspect, member), group in ratings.groupby(["judge", "aspect", members], sort=True):
            name = f"{aspect} by {judge}"
            _tally(self.aspects, name, "ratings", len(group))
            _tally(self.aspects, name, "null", int(group["score"].isna().sum()))
            _tally(self.aspects, name, "sum", float(group["score"].sum()))
            reward, scores = bool((group["protocol"] == REWARD).all()), group["score"].dropna()
            column = name if reward else aspect  # a reward has a scale of its own, so it stands by itself
            _tally(self.members, str(member), f"sum {column}", float(scores.sum()))
            _tally(self.members, str(member), f"n {column}", len(scores))
            if reward:
                self.histograms.update((name, charts.reward_step(score)) for score in scores)
            else:
                self.scores.update((str(member), str(aspect), math.floor(score + 0.5)) for score in scores)
        for (judge, aspect), group in ratings[ratings["score"].notna()].groupby(["judge", "aspect"], sort=True):
            asked = list(zip(group["prompt_id"], group["order"], strict=True))
            tied = _equal_twos(zip(asked, group["score"].round(9), strict=True))
            _tally(self.aspects, f"{aspect} by {judge}", "tied", tied)
            _tally(self.aspects, f"{aspect} by {judge}", "compared", _equal_twos(asked))

    def merge(self, other: Summary) -> None:
        """Add another's counts to these."""
        for part in fields(self):
            mine, its = getattr(self, part.name), getattr(other, part.name)
            if part.name == "examples":
                self.examples = _few_of_each_kind(mine + its)
            elif part.name == "slopes" or isinstance(mine, Counter):
                mine.update(its)
            elif isinstance(mine, dict):
                for name, counts in its.items():
                    for key, value in counts.items():
                        _tally(mine, name, key, value)
            else:
                setattr(self, part.name, mine + its)

    def to_json(self) -> dict[str, Any]:
        steps = {name: [[*key, n] for key, n in getattr(self, name).items()] for name in _STEPS}
        counts = vars(self) | steps
        absent = {name for name in ("found", "signals", "criteria") if not getattr(self, name)}
        return {name: value for name, value in counts.items() if name not in absent}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Summary:
        counted = {part.name: Counter(value[part.name]) for part in fields(cls) if part.name.endswith("_reasons")}
        stepped = {name: Counter({tuple(key): count for *key, count in value.get(name, ())}) for name in _STEPS}
        return cls(**value | counted | stepped | {"criteria": Counter(value.get("criteria", {}))})


def _count_criteria(summary: Summary, criteria: pd.DataFrame) -> None:
    """Add a shard to `Summary.criteria`, and to its failures the prompts for which an author wrote nothing of use."""
    errors = criteria.loc[criteria["item"] > 0, "error"].fillna(ANY)
    summary.criteria.update(DIGITS.sub("n", error.partition(":")[0]) for error in errors)
    first = criteria[(criteria["request"] != "") & (criteria["item"] <= 1)]
    for who, group in first.groupby("author", sort=True):
        failed = counted(group["error"].where(group["item"] == 0, None).to_list())
        for cause, count in failed.items():
            _tally(summary.failures, f"author {who}", cause, count)


def _count_signals(counts: dict[str, dict[str, float]], tables: ShardTables, pairing: Pairing) -> None:
    """Add a shard to `Summary.signals`."""
    for name, source in zip(tables.prompts["prompt_id"], tables.prompts["source"], strict=True):
        possible = pairing.signals_for(source)
        for signal in possible:
            _tally(counts, signal.name, "asked", signal.share / sum(one.share for one in possible))
        if found := pairing.signal_of(name, source):
            _tally(counts, found.name, "prompts", 1)
    for of, group in tables.pairs.groupby(SIGNAL) if len(tables.pairs) else ():
        _tally(counts, str(of), "paired", group["prompt_id"].nunique())
        _tally(counts, str(of), "pairs", len(group))


def _tally(table: dict[str, dict[str, float]], name: str, key: str, value: float) -> None:
    counts = table.setdefault(name, {})
    counts[key] = counts.get(key, 0) + value


def _few_of_each_kind(examples: Iterable[FlaggedText]) -> list[FlaggedText]:
    """Some examples of each kind, drawn by their ids, so that the order of shards does not matter."""
    found: dict[str, list[FlaggedText]] = {}
    for one in examples:
        found.setdefault(one["kind"], []).append(one)
    by_draw = {kind: heapq.nsmallest(EXAMPLES, ones, key=_draw) for kind, ones in sorted(found.items())}
    return [one for ones in by_draw.values() for one in ones]


def _draw(example: FlaggedText) -> float:
    return draw("example", example["completion_id"])


def _equal_twos(found: Iterable[Hashable]) -> int:
    """The number of pairs of equal items."""
    return sum(math.comb(count, 2) for count in Counter(found).values())

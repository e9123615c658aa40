"""The numbers and pictures a person looks at: the funnel, reasons, scores by member, and a page of pairs.

Counts are kept per shard and added up; distributions are counts by step, so their memory does not grow with the data.
Everything that comes from prompts, completions or rationales is escaped where it is shown.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import pandas as pd

from pairsmith.ids import draw
from pairsmith.judging.guard import KINDS, Flag
from pairsmith.judging.rating import REWARD
from pairsmith.pairing.candidates import TOTAL
from pairsmith.reporting import charts
from pairsmith.reporting.markdown import public_name
from pairsmith.storage.schemas import Reason
from pairsmith.storage.tables import ShardTables

EXAMPLES = 2  # of each kind of flag, that a report shows
_STEPS = ("scores", "wins", "histograms", "flags")  # counts by several names or numbers, which JSON cannot have as keys
_PAID = {"prompt tokens": "n_prompt_tokens", "completion tokens": "n_tokens", "cost": "cost"}


@dataclass
class Summary:
    """Counts of a run. Prompts: loaded = paired + rejected; rows: read = loaded + rejected at load."""

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
    # margin, chosen or rejected length, "... by judge" for rewards; step
    histograms: Counter[tuple[str, int]] = field(default_factory=Counter)  # margin, chosen or rejected length; step
    flags: Counter[tuple[str, str]] = field(default_factory=Counter)  # the guard's kind; completions, chosen, rejected
    examples: list[dict[str, Any]] = field(default_factory=list)  # kind, completion_id, member, excerpt
    slopes: dict[str, float] = field(default_factory=dict)  # of length control; of the whole data set

    def add(self, tables: ShardTables, flags: Mapping[str, Sequence[Flag]] | None = None) -> None:
        """Count a shard. `flags`: completion_id -> what the guard found in it."""
        completions, pairs = tables.completions, tables.pairs
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
        for name, group in completions.groupby("member", sort=True):
            _tally(self.members, str(name), "completions", len(group))
            failed = group["error"].notna() & (group["error"] != Reason.SUPERSEDED)
            _tally(self.members, str(name), "failed", int(failed.sum()))
            _tally(self.members, str(name), "tokens", int(group["n_tokens"].sum()))
        self._add_ratings(tables.ratings, dict(zip(completions["completion_id"], completions["member"], strict=True)))

    def _add_flags(self, tables: ShardTables, flags: Mapping[str, Sequence[Flag]]) -> None:
        member_of = dict(zip(tables.completions["completion_id"], tables.completions["member"], strict=True))
        places = [(name, "completions") for name in flags]
        places += [(name, side) for side in ("chosen", "rejected") for name in set(tables.pairs[f"{side}_id"])]
        for name, place in places:
            self.flags.update((flag.kind, place) for flag in flags.get(name, ()))
        self.examples = _few(
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

    def _add_ratings(self, ratings: pd.DataFrame, member_of: Mapping[str, str]) -> None:
        self.rated += ratings.loc[ratings["score"].notna(), "prompt_id"].nunique()
        members = ratings["completion_id"].map(member_of)
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
            tied = _couples(zip(asked, group["score"].round(9), strict=True))
            _tally(self.aspects, f"{aspect} by {judge}", "tied", tied)
            _tally(self.aspects, f"{aspect} by {judge}", "compared", _couples(asked))

    def merge(self, other: Summary) -> None:
        """Add another's counts to these."""
        for part in fields(self):
            mine, its = getattr(self, part.name), getattr(other, part.name)
            if part.name == "examples":
                self.examples = _few(mine + its)
            elif part.name == "slopes" or isinstance(mine, Counter):
                mine.update(its)
            elif isinstance(mine, dict):
                for name, counts in its.items():
                    for key, value in counts.items():
                        _tally(mine, name, key, value)
            else:
                setattr(self, part.name, mine + its)

    def to_json(self) -> dict[str, Any]:
        return vars(self) | {name: [[*key, n] for key, n in getattr(self, name).items()] for name in _STEPS}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Summary:
        counted = {part.name: Counter(value[part.name]) for part in fields(cls) if part.name.endswith("_reasons")}
        stepped = {name: Counter({tuple(key): count for *key, count in value[name]}) for name in _STEPS}
        return cls(**value | counted | stepped)

    def lost(self) -> list[dict[str, Any]]:
        """The funnel with the reasons for which rows and prompts went no further."""
        reasons = {"loaded": self.load_reasons, "paired": self.prompt_reasons}
        return [
            {"stage": stage, "prompts": count, "left": told(reasons.get(stage, Counter()))}
            for stage, count in self.funnel()
        ]

    def passed_over(self) -> str:
        """Why completions and pairs were passed over, with counts; empty where none was."""
        return told(self.completion_reasons)

    def funnel(self) -> list[tuple[str, int]]:
        """Stage -> prompts that came through it, in the order of the stages."""
        stages = [("rows read", self.rows_read), ("loaded", self.loaded), ("completed", self.completed)]
        stages += [("evolved", self.evolved)] if self.evolved else []
        stages += [("rated", self.rated)] if self.aspects else []
        return [*stages, ("paired", self.paired)]

    def member_table(self) -> list[dict[str, Any]]:
        """Per member: completions, failures, mean tokens, mean score by aspect, times chosen and rejected."""
        table = []
        for name, counts in sorted(self.members.items()):
            aspects = sorted(key.removeprefix("n ") for key in counts if key.startswith("n "))
            table.append(
                {
                    "member": name,
                    "completions": int(counts["completions"]),
                    "failed": int(counts["failed"]),
                    "tokens each": round(counts["tokens"] / counts["completions"], 1),
                    **{a: _ratio(counts[f"sum {a}"], counts[f"n {a}"]) for a in aspects},
                    "chosen": sum(n for (chosen, _), n in self.wins.items() if chosen == name),
                    "rejected": sum(n for (_, rejected), n in self.wins.items() if rejected == name),
                }
            )
        return table

    def aspect_table(self) -> list[dict[str, Any]]:
        return [
            {
                "aspect": name,
                "ratings": int(counts["ratings"]),
                "null": int(counts["null"]),
                "null share": _ratio(counts["null"], counts["ratings"]),
                "tied share": _ratio(counts.get("tied", 0), counts.get("compared", 0)),
                "mean": _ratio(counts["sum"], counts["ratings"] - counts["null"]),
            }
            for name, counts in sorted(self.aspects.items())
        ]

    def guard_table(self) -> list[dict[str, Any]]:
        """Per kind of flag: completions that have it, and how many of them are chosen or rejected in a pair."""
        places = ("completions", "chosen", "rejected")
        table = [{"flag": kind, **{place: self.flags[kind, place] for place in places}} for kind in KINDS]
        return [row for row in table if row["completions"]]

    def slope_table(self) -> list[dict[str, Any]]:
        """What length is worth: points for twice the characters, and for a unit of their log, which is taken off."""
        return [
            {
                "score": name or "in all",
                "points for twice the length": f"{slope * math.log(2):.4f}",
                "slope": f"{slope:.4f}",
            }
            for name, slope in sorted(self.slopes.items(), key=lambda item: (item[0] != TOTAL, item[0]))
        ]

    def pair_table(self) -> list[dict[str, Any]]:
        return [
            {
                "pairs": self.pairs,
                "mean margin": _ratio(self.margins, self.n_margins),
                "chosen characters": _ratio(self.chosen_chars, self.pairs),
                "rejected characters": _ratio(self.rejected_chars, self.pairs),
            }
        ]


def usage_table(paid: Iterable[Mapping[str, Any]], models: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What a data set paid for in all its runs, by member, evolver and judge, then in all.

    `paid`: from `Ledger.paid`; `models`: role, name and model of those in the recipe, which come first and in its
    order, also where they asked nothing. Others asked by an earlier form of the recipe. Costs are null without a price.
    """
    found = {(row["asker"] or "", row["model"]): row for row in paid}
    known = [(f"{spec['role']} {spec['name']}", str(spec["model"])) for spec in models]
    earlier = sorted(set(found) - set(known))
    total = {name: _sum(row[name] for row in found.values()) for name in ("calls", *_PAID.values())}
    lines = [*((*key, "", found.get(key, {})) for key in known), *((*key, "no", found[key]) for key in earlier)]
    table = []
    for asker, model, gone, row in [*lines, ("all", "", "", total)] if found else []:
        counts = {name: row.get(key) for name, key in _PAID.items()}
        counts["cost"] = None if counts["cost"] is None else round(counts["cost"], 6)
        table.append(
            {"asked by": asker or "not noted", "model": public_name(model), "calls": row.get("calls", 0), **counts}
        )
        table[-1] |= {"in the recipe": gone} if earlier else {}
    return table


def told(reasons: Mapping[str, int]) -> str:
    """Reasons with their counts, as a person reads them."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))


def _tally(table: dict[str, dict[str, float]], name: str, key: str, value: float) -> None:
    counts = table.setdefault(name, {})
    counts[key] = counts.get(key, 0) + value


def _ratio(total: float, count: float) -> float | None:
    return round(total / count, 2) if count else None


def _few(examples: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Some examples of each kind, drawn by their ids: the same whatever the order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in examples:
        found.setdefault(one["kind"], []).append(one)
    by_lot = {kind: heapq.nsmallest(EXAMPLES, ones, key=_lot) for kind, ones in sorted(found.items())}
    return [one for ones in by_lot.values() for one in ones]


def _lot(example: dict[str, Any]) -> float:
    return draw("example", example["completion_id"])


def _sum(values: Iterable[float | None]) -> float | None:
    """The sum of what is known; null where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _couples(found: Iterable[Hashable]) -> int:
    """How many twos of equals there are."""
    return sum(math.comb(count, 2) for count in Counter(found).values())

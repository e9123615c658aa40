"""The numbers and pictures a person looks at: the funnel, reasons, scores by member, and a page of pairs.

Counts are kept per shard and added up, so their memory does not grow with the data.
Everything that comes from prompts, completions or rationales is escaped where it is shown.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import pandas as pd

from pairsmith.config import Recipe
from pairsmith.schemas import Reason
from pairsmith.tables import ShardTables
from pairsmith.templating import render

_MARKUP = re.compile(r"[\\`*_\[\]<>&|~!]")
_BEGINNINGS = re.compile(r"^(\d*)([#+\-=>:.)])")  # of headings, lists, quotes, rules


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
    margins: float = 0.0
    n_margins: int = 0

    def add(self, tables: ShardTables) -> None:
        completions, pairs = tables.completions, tables.pairs
        sound = completions[completions["error"].isna()]
        self.loaded += len(tables.prompts)
        self.completed += sound.loc[sound["evolution"] == 0, "prompt_id"].nunique()
        self.evolved += sound.loc[sound["evolution"] > 0, "prompt_id"].nunique()
        self.paired += pairs["prompt_id"].nunique()
        self.pairs += len(pairs)
        whole = tables.rejections["completion_id"].isna()
        self.prompt_reasons.update(tables.rejections.loc[whole, "reason"])
        self.completion_reasons.update(tables.rejections.loc[~whole, "reason"])
        self.wins.update(zip(pairs["chosen_member"], pairs["rejected_member"], strict=True))
        texts = dict(zip(completions["completion_id"], completions["text"].str.len(), strict=True))
        self.chosen_chars += sum(int(texts[name]) for name in pairs["chosen_id"])
        self.rejected_chars += sum(int(texts[name]) for name in pairs["rejected_id"])
        self.margins += float(pairs["margin"].sum())
        self.n_margins += int(pairs["margin"].notna().sum())
        for name, group in completions.groupby("member", sort=True):
            _tally(self.members, str(name), "completions", len(group))
            failed = group["error"].notna() & (group["error"] != Reason.SUPERSEDED)
            _tally(self.members, str(name), "failed", int(failed.sum()))
            _tally(self.members, str(name), "tokens", int(group["n_tokens"].sum()))
        self._add_ratings(tables.ratings, dict(zip(completions["completion_id"], completions["member"], strict=True)))

    def _add_ratings(self, ratings: pd.DataFrame, member_of: Mapping[str, str]) -> None:
        self.rated += ratings.loc[ratings["score"].notna(), "prompt_id"].nunique()
        members = ratings["completion_id"].map(member_of)
        for (judge, aspect, member), group in ratings.groupby(["judge", "aspect", members], sort=True):
            name = f"{aspect} by {judge}"
            _tally(self.aspects, name, "ratings", len(group))
            _tally(self.aspects, name, "null", int(group["score"].isna().sum()))
            _tally(self.aspects, name, "sum", float(group["score"].sum()))
            _tally(self.members, str(member), f"sum {aspect}", float(group["score"].sum()))
            _tally(self.members, str(member), f"n {aspect}", int(group["score"].notna().sum()))

    def merge(self, other: Summary) -> None:
        """Add another's counts to these."""
        for part in fields(self):
            mine, its = getattr(self, part.name), getattr(other, part.name)
            if isinstance(mine, Counter):
                mine.update(its)
            elif isinstance(mine, dict):
                for name, counts in its.items():
                    for key, value in counts.items():
                        _tally(mine, name, key, value)
            else:
                setattr(self, part.name, mine + its)

    def to_json(self) -> dict[str, Any]:
        return vars(self) | {"wins": [[*names, count] for names, count in self.wins.items()]}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Summary:
        counted = {part.name: Counter(value[part.name]) for part in fields(cls) if part.name.endswith("_reasons")}
        wins = Counter({(chosen, rejected): count for chosen, rejected, count in value["wins"]})
        return cls(**value | counted | {"wins": wins})

    def lost(self) -> list[dict[str, Any]]:
        """The funnel with the reasons for which rows and prompts went no further."""
        reasons = {"loaded": self.load_reasons, "paired": self.prompt_reasons}
        return [
            {"stage": stage, "prompts": count, "left": told(reasons.get(stage, Counter()))}
            for stage, count in self.funnel()
        ]

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
                "mean": _ratio(counts["sum"], counts["ratings"] - counts["null"]),
            }
            for name, counts in sorted(self.aspects.items())
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


def render_report(recipe: Recipe, summary: Summary, shown: list[dict[str, Any]], refused: list[str]) -> str:
    """The report as one self-contained HTML page: no script, no network."""
    return render("report.html.jinja", recipe=recipe, summary=summary, shown=shown, refused=refused, told=told)


def render_markdown(recipe: Recipe, summary: Summary) -> str:
    """The funnel, reasons and tables as markdown, for cards and Prefect artifacts. Holds no text from the data."""
    return render("summary.md.jinja", recipe=recipe, summary=summary, table=markdown_table, told=told)


def told(reasons: Mapping[str, int]) -> str:
    """Reasons with their counts, as a person reads them."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))


def markdown_table(table: list[dict[str, Any]]) -> str:
    """A markdown table; cells are names and numbers of a recipe, with markdown's own characters escaped."""
    columns = list(dict.fromkeys(column for row in table for column in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(column)) for column in columns) + " |" for row in table]
    return "\n".join(lines)


def markdown_text(value: Any) -> str:
    """Text for a line of markdown, of which nothing is read as markup."""
    text = _MARKUP.sub(r"\\\g<0>", " ".join(str(value).split()))
    return _BEGINNINGS.sub(r"\1\\\2", text)


def _cell(value: Any) -> str:
    return "" if value is None else markdown_text(value)


def _tally(table: dict[str, dict[str, float]], name: str, key: str, value: float) -> None:
    counts = table.setdefault(name, {})
    counts[key] = counts.get(key, 0) + value


def _ratio(total: float, count: float) -> float | None:
    return round(total / count, 2) if count else None

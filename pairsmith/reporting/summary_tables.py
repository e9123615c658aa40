"""The counts of a run as tables for people: the funnel, reasons, members, aspects, flags and pairs.

Pure functions of a `Summary`, and the table of costs, which comes from the ledger.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from pairsmith.config import Recipe
from pairsmith.config.screening import FINDINGS
from pairsmith.judging.guard import KINDS
from pairsmith.pairing.candidates import TOTAL
from pairsmith.reporting.markdown import Table, public_name
from pairsmith.reporting.ratios import rounded_ratio, signed
from pairsmith.reporting.reason_words import called, reasons_text
from pairsmith.reporting.summary import ANY, PAIRS, Summary

# Where the screen finds something: fields of pairs, and prompts and answers that it dropped.
FOUND_IN = ("prompt", "chosen", "rejected", "rationale", "kept column")
DROPPED = ("dropped prompts", "dropped answers")
_PAID = {"prompt tokens": "n_prompt_tokens", "completion tokens": "n_tokens", "cost": "cost"}


def funnel(summary: Summary) -> list[tuple[str, int]]:
    """Stages in their order, each with the number of prompts that passed it."""
    stages = [("rows read", summary.rows_read), ("loaded", summary.loaded), ("completed", summary.completed)]
    stages += [("evolved", summary.evolved)] if summary.evolved else []
    stages += [("rated", summary.rated)] if summary.aspects else []
    return [*stages, ("paired", summary.paired)]


def funnel_table(summary: Summary) -> Table:
    """The funnel with the reasons why rows and prompts were rejected."""
    reasons = {"loaded": summary.load_reasons, "paired": summary.prompt_reasons}
    return [
        {"stage": stage, "prompts": count, "left out": reasons_text(reasons.get(stage, {}))}
        for stage, count in funnel(summary)
    ]


def member_table(summary: Summary) -> Table:
    """Per member: completions, failures, mean tokens, mean score by aspect, times chosen and rejected."""
    table = []
    for name, counts in sorted(summary.members.items()):
        aspects = sorted(key.removeprefix("n ") for key in counts if key.startswith("n "))
        table.append(
            {
                "member": name,
                "completions": int(counts["completions"]),
                "failed": int(counts["failed"]),
                "tokens each": round(counts["tokens"] / counts["completions"], 1),
                **{a: rounded_ratio(counts[f"sum {a}"], counts[f"n {a}"]) for a in aspects},
                "chosen": sum(n for (chosen, _), n in summary.wins.items() if chosen == name),
                "rejected": sum(n for (_, rejected), n in summary.wins.items() if rejected == name),
            }
        )
    return table


def aspect_table(summary: Summary) -> Table:
    """Per aspect and judge: the number of ratings, how many are null, the shares of null and tied ones, their mean."""
    return [
        {
            "aspect": name,
            "ratings": int(counts["ratings"]),
            "null": int(counts["null"]),
            "null share": rounded_ratio(counts["null"], counts["ratings"]),
            "tied share": rounded_ratio(counts.get("tied", 0), counts.get("compared", 0)),
            "mean": rounded_ratio(counts["sum"], counts["ratings"] - counts["null"]),
        }
        for name, counts in sorted(summary.aspects.items())
    ]


def guard_table(summary: Summary) -> Table:
    """Per kind of flag: completions with it, and how many of them are chosen or rejected in a pair."""
    places = ("completions", "chosen", "rejected")
    table = [{"flag": kind, **{place: summary.flags[kind, place] for place in places}} for kind in KINDS]
    return [row for row in table if row["completions"]]


def screen_table(summary: Summary) -> Table:
    """Per kind of finding: pairs that hold it, in all and by field, and how many prompts and answers were dropped."""
    places = [place for place in (PAIRS, *FOUND_IN, *DROPPED) if any(where == place for _, where in summary.found)]
    table = [{"found": kind, **{place: summary.found[kind, place] for place in places}} for kind in FINDINGS]
    return [row for row in table if any(row[place] for place in places)]


def criteria_table(summary: Summary) -> Table:
    """How many criteria count, and why others do not."""
    counts = sorted(summary.criteria.items(), key=lambda item: (item[0] != ANY, -item[1], item[0]))
    return [{"criteria": reason or "count", "items": count} for reason, count in counts]


def slope_table(summary: Summary) -> Table:
    """What length control takes off: points for twice the characters, and for a unit of their logarithm."""
    return [
        {
            "score": name or "in all",
            "points for twice the length": signed(f"{slope * math.log(2):.4f}"),
            "slope": signed(f"{slope:.4f}"),
        }
        for name, slope in sorted(summary.slopes.items(), key=lambda item: (item[0] != TOTAL, item[0]))
    ]


def signal_table(recipe: Recipe, summary: Summary) -> Table:
    """Per signal: the share of the prompts asked for, the prompts it got, how many of them are paired, its pairs, and
    their share of all pairs."""
    table = []
    for signal in recipe.pairing.signals:
        counts = summary.signals.get(signal.name, {})
        pairs = int(counts.get("pairs", 0))
        table.append(
            {
                "signal": signal.name,
                "asked": rounded_ratio(counts.get("asked", 0), summary.loaded),
                "prompts": int(counts.get("prompts", 0)),
                "paired": int(counts.get("paired", 0)),
                "pairs": pairs,
                "reached": rounded_ratio(pairs, summary.pairs),
            }
        )
    return table


def pair_table(summary: Summary) -> Table:
    """The number of pairs, and the means of their margins and lengths."""
    return [
        {
            "pairs": summary.pairs,
            "mean margin": rounded_ratio(summary.margins, summary.n_margins),
            "chosen characters": rounded_ratio(summary.chosen_chars, summary.pairs),
            "rejected characters": rounded_ratio(summary.rejected_chars, summary.pairs),
        }
    ]


def usage_table(paid: Iterable[Mapping[str, Any]], models: Iterable[Mapping[str, Any]]) -> Table:
    """What a data set paid for in all its runs, by member, evolver and judge, then the total.

    `paid`: from `Spending.paid`; `models`: role, name and model of those in the recipe. These come first, in its order,
    also without calls. Others asked under an earlier form of the recipe. Costs are null without a price.
    """
    found = {(row["asker"] or "", row["model"]): row for row in paid}
    known = [(f"{spec['role']} {spec['name']}", str(spec["model"])) for spec in models]
    earlier = sorted(set(found) - set(known))
    total = {name: _sum_of_known(row[name] for row in found.values()) for name in ("calls", *_PAID.values())}
    lines = [*((*key, "", found.get(key, {})) for key in known), *((*key, "no", found[key]) for key in earlier)]
    table = []
    for asker, model, gone, row in [*lines, ("all", "", "", total)] if found else []:
        counts = {name: row.get(key) for name, key in _PAID.items()}
        counts["cost"] = None if counts["cost"] is None else round(counts["cost"], 6)
        table.append(
            {
                "asked by": called(asker) if asker else "not noted",
                "model": public_name(model),
                "calls": row.get("calls", 0),
                **counts,
            }
        )
        table[-1] |= {"in the recipe": gone} if earlier else {}
    return table


def _sum_of_known(values: Iterable[float | None]) -> float | None:
    """The sum of the values that are not None; None where there are none."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None

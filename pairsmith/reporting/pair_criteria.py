"""The criteria of a pair: how likely each side meets each, as they stand beside the pair in a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pairsmith.config import CRITERIA
from pairsmith.judging.criteria_sifting import read_lines
from pairsmith.reporting.markdown import Table


def pair_criteria(row: Mapping[str, Any]) -> Table:
    """A row for each judge and question: the probability of yes for the chosen and for the rejected text; the judge
    only where there are several.

    `row`: a published pair. Empty where no judge rated both by criteria.
    """
    sides = ({one["judge"]: read_lines(one["rationale"]) for one in _of(row, side)} for side in ("chosen", "rejected"))
    chosen, rejected = sides
    judges = [judge for judge in chosen if judge in rejected]
    return [
        {
            "question": question,
            "chosen": yes,
            "rejected": rejected[judge].get(question),
            "judge": judge if len(judges) > 1 else None,
        }
        for judge in judges
        for question, yes in chosen[judge].items()
    ]


def _of(row: Mapping[str, Any], side: str) -> list[dict[str, Any]]:
    return [one for one in row[f"{side}_ratings"] or () if one["aspect"] == CRITERIA and one["rationale"]]

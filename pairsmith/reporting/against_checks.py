"""What judges and pairs are worth where checks say which of two answers is better: how often they agree with them.

A check is a program, so on a prompt that has one, nobody has to be asked whether a judge is right; but it is known only
of what checks look at, such as a format or a length. Counts alone are kept, by name, in the sums of `agreement.Trust`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from fractions import Fraction
from itertools import combinations

from pairsmith.config import CHECKS, Pairing, Rating
from pairsmith.pairing.agreeing import Rater, higher, rater_of
from pairsmith.reporting.calibrated import share_text
from pairsmith.reporting.markdown import Table
from pairsmith.reporting.ratios import Share
from pairsmith.storage.row_types import RatingRow, rows_as
from pairsmith.storage.tables import ShardTables

Key = tuple[str, ...]
STEP = 10**9
HOW_IT_COUNTS = (
    "It is known only of what checks look at. A prompt counts once, a tie as half. Bad where the 95% interval holds "
    "50%, as that of a coin does, or lies below."
)


def counted(tables: ShardTables, rating: Rating | None, pairing: Pairing) -> Counter[Key]:
    """The sums of a shard; none without checks that give scores. `pairing`: what a judge's aspects weigh."""
    sums = Counter[Key]()
    if rating is None or CHECKS not in rating.scorers:
        return sums
    ratings = rows_as(RatingRow, tables.ratings)
    by_prompt: dict[str, set[str]] = defaultdict(set)
    for row in ratings:
        by_prompt[row["prompt_id"]].add(row["completion_id"])
    checks, *judges = (rater_of(name, ratings, pairing, rating) for name in (CHECKS, *(j.name for j in rating.judges)))
    for chosen, rejected in zip(tables.pairs["chosen_id"], tables.pairs["rejected_id"], strict=True):
        verdict = _sign(checks, chosen, rejected)
        if verdict is not None:
            sums["check pairs", {1: "agree", 0: "equal", -1: "differ"}[verdict]] += 1
    for texts in by_prompt.values():
        told = [(two, wanted) for two in combinations(sorted(texts), 2) if (wanted := _sign(checks, *two))]
        for judge in judges:
            found = [(wanted, _sign(judge, *two)) for two, wanted in told]
            credits = [Fraction(1 + wanted * said, 2) for wanted, said in found if said is not None]
            if credits:
                sums["check prompts", judge.name] += 1
                sums["check credit", judge.name] += round(sum(credits) / len(credits) * STEP)
    return sums


def _sign(rater: Rater, one: str, other: str) -> int | None:
    """1 where the rater scores the first higher, -1 where the second, 0 for a tie; None where it scored not both."""
    high, low = rater.totals.get(one), rater.totals.get(other)
    if high is None or low is None:
        return None
    return higher(high, low)


def agreement_with_checks(sums: Mapping[Key, int], judge: str) -> Share:
    """Of the prompts on which checks tell answers apart, the share on which the judge prefers the same ones.

    A prompt counts once, with the mean over its twos of answers that the checks score differently, a tie as half: twos
    of one prompt have answers in common, and an interval by twos would be too narrow.
    """
    return Share(sums.get(("check credit", judge), 0) / STEP, sums.get(("check prompts", judge), 0))


def pairs_by_checks(sums: Mapping[Key, int]) -> dict[str, int]:
    """Of the pairs on whose prompts there are checks, how many `agree` with them, `differ`, and are `equal` by them."""
    return {what: sums.get(("check pairs", what), 0) for what in ("agree", "differ", "equal")}


def agreement_text(judge: str, share: Share) -> str:
    """What a judge's agreement with the checks says of it, as a sentence; the share is of one prompt at least."""
    often = f"in {share_text(share.value or 0.0, share.interval)} of {share.n:,} prompts"
    return f"Judge {judge} agrees with the checks {often}: {share.words}, as far as checks can tell."


def pairs_text(found: Mapping[str, int]) -> str:
    """The counts of `pairs_by_checks` as a sentence."""
    told = found["agree"] + found["differ"]
    more = f"; of {found['equal']:,} more they find both sides alike" if found["equal"] else ""
    return f"{found['agree']:,} of the {told:,} pairs that checks tell apart agree with them{more}."


def table(sums: Mapping[Key, int]) -> Table:
    """A row for each judge, where checks tell answers apart."""
    judges = sorted(judge for name, *rest in sums if name == "check prompts" for judge in rest)
    shares = {judge: agreement_with_checks(sums, judge) for judge in judges}
    return [
        {
            "judge": judge,
            "prompts": share.n,
            "agrees": round(share.value or 0.0, 3),
            "from": round(share.interval[0], 3),
            "to": round(share.interval[1], 3),
            "is": share.words,
        }
        for judge, share in shares.items()
    ]

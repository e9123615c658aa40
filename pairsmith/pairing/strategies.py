"""Strategies: each puts the possible pairs of candidates in order of preference.

A strategy is a function of the candidates of one prompt and the recipe's `pairing`. It yields pairs (chosen, rejected)
in order of preference, and `select` takes the first that passes all checks. Nothing may depend on the order of the
candidates: ties are broken by a draw on their ids. `STRATEGIES` lists all that a recipe can name.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence

from pairsmith.config import Pairing
from pairsmith.ids import draw
from pairsmith.pairing.candidates import Candidate

PairsInOrder = Iterator[tuple[Candidate, Candidate]]
StrategyFunction = Callable[[Sequence[Candidate], Pairing], PairsInOrder]


def _rank(candidate: Candidate, pairing: Pairing) -> float:
    """The score by which a candidate is ranked: the controlled score minus the recipe's penalty for length."""
    return (candidate.controlled or 0.0) - pairing.length_penalty * len(candidate.row["text"]) / 1000


def _ranked(candidates: Sequence[Candidate], pairing: Pairing) -> list[Candidate]:
    """Candidates with the best first; equal ones in an order drawn with the recipe's seed."""
    return sorted(candidates, key=lambda c: (-_rank(c, pairing), draw("tie", pairing.seed, c.id)))


def _in_order(ranked: Sequence[Candidate]) -> PairsInOrder:
    for place, chosen in enumerate(ranked):
        for rejected in ranked[place + 1 :]:
            yield chosen, rejected


def best_vs_worst(candidates: Sequence[Candidate], pairing: Pairing) -> PairsInOrder:
    """The pair with the widest margin first; among equal margins, the one with the better chosen text."""
    ranked = _ranked(candidates, pairing)
    places = {candidate.id: place for place, candidate in enumerate(ranked)}
    yield from sorted(
        _in_order(ranked),
        key=lambda p: (_rank(p[1], pairing) - _rank(p[0], pairing), places[p[0].id], -places[p[1].id]),
    )


def best_vs_second(candidates: Sequence[Candidate], pairing: Pairing) -> PairsInOrder:
    """The best against the next below it."""
    yield from _in_order(_ranked(candidates, pairing))


def best_vs_random(candidates: Sequence[Candidate], pairing: Pairing) -> PairsInOrder:
    """The best against another drawn at random (UltraFeedback-binarized)."""
    ranked = _ranked(candidates, pairing)
    for place, chosen in enumerate(ranked):
        others = sorted(ranked[place + 1 :], key=lambda c: draw("rejected", pairing.seed, chosen.id, c.id))
        yield from ((chosen, rejected) for rejected in others)


def best_vs_low(candidates: Sequence[Candidate], pairing: Pairing) -> PairsInOrder:
    """The best against the text whose score is nearest to the mean minus `low_deviations` standard deviations.

    The very worst of many samples teaches less than one a little below the rest: https://arxiv.org/abs/2502.16825.
    """
    ranked = _ranked(candidates, pairing)
    ranks = [_rank(candidate, pairing) for candidate in ranked]
    if len(ranks) < 2:
        return
    low = statistics.fmean(ranks) - pairing.low_deviations * statistics.pstdev(ranks)
    for place, chosen in enumerate(ranked):
        others = ranked[place + 1 :]
        nearest = sorted(others, key=lambda c: (abs(_rank(c, pairing) - low), draw("low", pairing.seed, c.id)))
        yield from ((chosen, rejected) for rejected in nearest)


def evolved_vs_original(candidates: Sequence[Candidate], pairing: Pairing) -> PairsInOrder:
    """An evolved text against the original that it came from, the latest round first."""
    originals = {c.id: c for c in candidates if c.row["evolution"] == 0}
    evolved = [c for c in candidates if c.row["evolution"] > 0 and c.root in originals]
    evolved.sort(key=lambda c: (-c.row["evolution"], -(c.controlled or 0.0), draw("tie", pairing.seed, c.id)))
    yield from ((c, originals[c.root]) for c in evolved)


def member_order(candidates: Sequence[Candidate], pairing: Pairing) -> PairsInOrder:
    """A stronger member's answer against a weaker one's, without a judge (delta learning, arXiv 2507.06187)."""
    rank = {name: place for place, name in enumerate(pairing.member_order)}
    known = [c for c in candidates if c.row["member"] in rank]
    known.sort(key=lambda c: (rank[c.row["member"]], c.row["sample"], c.id))
    between = [(a, b) for a, b in _in_order(known) if rank[a.row["member"]] < rank[b.row["member"]]]
    yield from sorted(between, key=lambda p: (rank[p[0].row["member"]], -rank[p[1].row["member"]]))


STRATEGIES: dict[str, StrategyFunction] = {
    "best-vs-worst": best_vs_worst,
    "best-vs-random": best_vs_random,
    "best-vs-second": best_vs_second,
    "best-vs-low": best_vs_low,
    "evolved-vs-original": evolved_vs_original,
    "member-order": member_order,
    "per-aspect": best_vs_worst,  # by each aspect's score
    "all-above-margin": best_vs_worst,  # not one pair, but all
}

"""Rules between the sections of a recipe. Each function raises ValueError that names the fields."""

from __future__ import annotations

from pairsmith.config.base import known, unique, without_password
from pairsmith.config.generating import Evolution, Pool
from pairsmith.config.judging import ASPECTS, Rating
from pairsmith.config.selecting import Pairing
from pairsmith.config.sources import Prompts


def check_pairing(pairing: Pairing, rating: Rating | None, evolution: Evolution | None, needs_scores: bool) -> None:
    """Refuse a pairing strategy whose inputs the recipe does not provide."""
    if pairing.strategy == "evolved-vs-original" and not evolution:
        raise ValueError("pairing.strategy evolved-vs-original needs an evolution section")
    if pairing.strategy == "member-order":
        unique("pairing.member_order", pairing.member_order)
        if len(pairing.member_order) < 2:
            raise ValueError("pairing.strategy member-order needs two or more names in member_order")
    if needs_scores and not rating:
        raise ValueError(f"pairing.strategy {pairing.strategy} needs a rating section")
    if pairing.length_control and not needs_scores:
        raise ValueError(f"pairing.length_control needs scores, which strategy {pairing.strategy} does without")
    _check_aspects(pairing, rating, needs_scores)


def _check_aspects(pairing: Pairing, rating: Rating | None, needs_scores: bool) -> None:
    """Refuse weights for aspects that nobody rates, and weights that leave no aspect to score by."""
    counted = [check.name for check in rating.checks if not check.gate] if rating else []
    judged = rating.judged_aspects if rating else []
    known("pairing.aspect_weights", pairing.aspect_weights, [*judged, *counted])
    if pairing.conflicts != "ignore" and not {*judged} > {"overall"}:
        raise ValueError("pairing.conflicts needs the aspect overall and others beside it")
    if rating and needs_scores:
        weights = [pairing.aspect_weights.get(aspect, 1.0) for aspect in (*judged, *counted)]
        if not weights:
            raise ValueError("rating: gates alone give no scores; add a judge, or a check that is none")
        if min(weights) < 0 or sum(weights) <= 0:
            raise ValueError("pairing.aspect_weights: weights must be >= 0 and one of them > 0")


def check_given(prompts: Prompts, pool: Pool, rating: Rating | None) -> None:
    """Refuse given completions or ratings that nothing uses, and members or judges that stand for missing ones."""
    brought = [source.completions for source in prompts.sources if source.completions]
    if bool(brought) != bool(pool.given):
        raise ValueError(
            "a source with completions needs a member with backend given in pool.members, and the other way round"
        )
    if not rating:
        return
    rated = {aspect for given in brought for aspect in given.rated_anywhere}
    known("prompts.sources.completions: ratings and scores", sorted(rated), (*ASPECTS, *rating.rubrics))
    for judge in rating.judges:
        if judge.is_given:
            known(f"rating.judges.{judge.name}.aspects", judge.aspects or rating.aspects, rated)


def check_member_names(prompts: Prompts, pool: Pool, pairing: Pairing, evolution: Evolution | None) -> None:
    """Refuse names that no member has. Where labels are read from the data, they cannot be known yet and all pass."""
    brought = [source.completions for source in prompts.sources if source.completions]
    names = [*(member.name for member in pool.members), *(label for given in brought for label in given.columns)]
    if not any(given.has_any_labels for given in brought):
        for place, name in enumerate(pairing.member_order):
            known(f"pairing.member_order.{place}", [name], names)
        if evolution:
            known("evolution.of", evolution.of, names)
    if evolution and evolution.evolver.name in names:
        raise ValueError(f"evolution.evolver.name {evolution.evolver.name} is a member's name too")


def check_places(name: str, workspace: str, ledger: str | None) -> None:
    """Refuse a name, workspace or ledger with which the ledger and the data set could not exist side by side."""
    without_password("ledger", ledger or "")
    if name.startswith("ledger.sqlite"):
        raise ValueError("name: the workspace's ledger has that name")
    if "?" in workspace and not ledger:
        raise ValueError("workspace: a ? would end the ledger's URL; name the ledger, or choose another folder")
    if "://" in workspace and not ledger:
        raise ValueError("ledger: a workspace on object storage needs a ledger URL, such as postgresql://...")

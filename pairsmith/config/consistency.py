"""Rules between the sections of a recipe. Each function raises ValueError that names the fields."""

from __future__ import annotations

from pairsmith.config.base import known, unique, without_password
from pairsmith.config.generating import Evolution, Pool
from pairsmith.config.judging import ASPECTS, Rating
from pairsmith.config.rubrics import CRITERIA
from pairsmith.config.selecting import SIGNAL, Pairing
from pairsmith.config.sources import Prompts


def check_pairing(pairing: Pairing, rating: Rating | None, evolution: Evolution | None, needs_scores: bool) -> None:
    """Refuse a pairing strategy whose inputs the recipe does not provide."""
    for place, part in pairing.parts:
        _check_part(place, part, rating, evolution)
    if pairing.length_control and not needs_scores:
        raise ValueError(f"pairing.length_control needs scores, which strategy {pairing.strategy} does without")
    _check_aspects(pairing, rating, needs_scores)


def _check_part(place: str, part: Pairing, rating: Rating | None, evolution: Evolution | None) -> None:
    """The same for one selection of a data set; `place`: where it stands in the recipe."""
    if part.strategy == "evolved-vs-original" and not evolution:
        raise ValueError(f"{place}.strategy evolved-vs-original needs an evolution section")
    if part.strategy == "member-order":
        unique(f"{place}.member_order", part.member_order)
        if len(part.member_order) < 2:
            raise ValueError(f"{place}.strategy member-order needs two or more names in member_order")
    if part.needs_scores(rating is not None) and not rating:
        raise ValueError(f"{place}.strategy {part.strategy} needs a rating section")
    unique(f"{place}.agree", part.agree)
    known(f"{place}.agree", part.agree, rating.scorers if rating else ())


def check_signals(pairing: Pairing, prompts: Prompts) -> None:
    """Refuse signals beside a column of the sources that would have their name."""
    if pairing.signals and SIGNAL in prompts.kept:
        raise ValueError(f"prompts.sources.keep: pairing.signals makes a column {SIGNAL}; it cannot be kept beside it")


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
    voted = {aspect for given in brought for aspect in given.votes}
    theirs = {name for judge in rating.judges for name in judge.brings.values()}
    known("prompts.sources.completions: ratings and scores", sorted(rated), (*ASPECTS, *rating.rubrics, *theirs))
    known("prompts.sources.completions.votes", sorted(voted), (*ASPECTS, *rating.rubrics, *theirs))
    for judge in rating.judges:
        if judge.is_given:
            names = [judge.brings.get(aspect, aspect) for aspect in rating.aspects_of(judge)]
            known(f"rating.judges.{judge.name}.aspects", names, voted if judge.is_pairwise else rated)


def check_criteria(rating: Rating | None) -> None:
    """Refuse criteria that no judge reads, and judges that cannot read any."""
    if rating is None or rating.criteria is None:
        return
    readers = [judge for judge in rating.judges if CRITERIA in rating.aspects_of(judge)]
    if not readers:
        raise ValueError(
            f"rating.criteria: no judge reads them; add {CRITERIA} to rating.aspects, and to a judge's aspects if any"
        )
    for judge in readers:
        if judge.is_reward or judge.is_given or judge.prompt or judge.format:
            own = "a prompt" if judge.prompt else "a format"
            what = f"backend {judge.backend}" if judge.is_reward or judge.is_given else f"{own} of its own"
            raise ValueError(
                f"rating.judges.{judge.name}.aspects: with {what}, it reads no criteria; name other aspects"
            )


def check_member_names(
    prompts: Prompts, pool: Pool, pairing: Pairing, evolution: Evolution | None, rating: Rating | None
) -> None:
    """Refuse names that no member has. Where labels are read from the data, they cannot be known yet and all pass."""
    brought = [source.completions for source in prompts.sources if source.completions]
    names = [*(member.name for member in pool.members), *(label for given in brought for label in given.columns)]
    if not any(given.has_any_labels for given in brought):
        for place, part in pairing.parts:
            for number, name in enumerate(part.member_order):
                known(f"{place}.member_order.{number}", [name], names)
        if rating and rating.criteria:
            known("rating.criteria.strongest_first", rating.criteria.strongest_first, names)
        if evolution:
            known("evolution.of", evolution.of, names)
        for judge in rating.judges if rating else ():
            known(f"rating.judges.{judge.name}.comparisons.against", [judge.against] if judge.against else [], names)
    if evolution and evolution.evolver.name in names:
        raise ValueError(f"evolution.evolver.name {evolution.evolver.name} is a member's name too")
    author = rating.criteria.author if rating and rating.criteria else None
    if author and author.name in (*names, *([evolution.evolver.name] if evolution else [])):
        raise ValueError(f"rating.criteria.author.name {author.name} is the name of a member or the evolver too")


def check_places(name: str, workspace: str, ledger: str | None) -> None:
    """Refuse a name, workspace or ledger with which the ledger and the data set could not exist side by side."""
    without_password("ledger", ledger or "")
    if name.startswith("ledger.sqlite"):
        raise ValueError("name: the workspace's ledger has that name")
    if "?" in workspace and not ledger:
        raise ValueError("workspace: a ? would end the ledger's URL; name the ledger, or choose another folder")
    if "://" in workspace and not ledger:
        raise ValueError("ledger: a workspace on object storage needs a ledger URL, such as postgresql://...")

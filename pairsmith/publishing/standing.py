"""What becomes of a run's content: whether a version has it already, and why one that has it waits for a person.

A version that waits for a reason of these is a candidate whatever its recipe says of approval. The reasons stand in its
version.json; whether they still hold, each run with the same content finds out anew.
"""

from __future__ import annotations

from pairsmith.config import Publishing, Recipe
from pairsmith.reporting.calibrated import accuracy_text
from pairsmith.reporting.failures import OF, Failures, cause_of, causes_of
from pairsmith.storage import versions
from pairsmith.storage.schemas import Reason
from pairsmith.storage.store import Store
from pairsmith.storage.versions import History, State, Version

# How the causes begin of which a text came all the same: the call did not fail, its answer is not used.
ANSWERED = tuple(cause_of(str(reason)) for reason in (Reason.TRUNCATED, Reason.EVOLUTION_FAILED))


def failing(recipe: Recipe, failures: Failures) -> tuple[str, ...]:
    """A sentence for each member, evolver, author and judge that failed in more of its calls than the recipe allows."""
    most, asked = recipe.publishing.max_failed_rate, _asked(recipe)
    return tuple(
        f"{told}, more than {most:.0%} of its calls (publishing.max_failed_rate)"
        for who in sorted(asked & failures.keys())
        if _failed(failures, who) / failures[who][OF] > most
        for told in causes_of({who: failures[who]}, recipe)
    )


def _asked(recipe: Recipe) -> set[str]:
    """All who are asked, as failures name them."""
    return {f"{spec.counted_as} {spec.name}" for spec in recipe.specs if not spec.is_given}


def _failed(failures: Failures, who: str) -> float:
    return sum(count for cause, count in failures[who].items() if cause != OF and not cause.startswith(ANSWERED))


def shrunk(publishing: Publishing, pairs: int, released: Version | None) -> tuple[str, ...]:
    """A sentence where so many pairs are too few against the released version."""
    most = publishing.max_shrink
    fewer = (released.pairs - pairs) / released.pairs if released and released.pairs else 0.0
    if most is None or released is None or fewer <= most:
        return ()
    return (
        f"{pairs:,} pairs, {fewer:.0%} fewer than the {released.pairs:,} of {released.name}; "
        f"without a person's word it may be {most:.0%} (publishing.max_shrink)",
    )


def unproven(recipe: Recipe) -> tuple[str, ...]:
    """A sentence where the judges' calibration does not show that they are as right as the recipe asks."""
    least, calibration = recipe.gates.min_gold_accuracy, recipe.rating.calibrated if recipe.rating else None
    if least is None or calibration is None or calibration.right.low >= least:
        return ()
    return (
        f"the judges are right in {accuracy_text(calibration)} of {calibration.gold.name}; the lower end must be "
        f"{least:.0%} (gates.min_gold_accuracy)",
    )


def same_content(store: Store, all_versions: History, digest: str) -> Version | None:
    """The version that makes a new one with this digest superfluous, if any.

    It has the same digest and is the version that `latest` leads to or the newest one, with its files unchanged; or any
    version that was rejected or withdrawn.
    """
    names = dict.fromkeys((all_versions.latest, all_versions.newest))
    current = [versions.version_at(store, name) for name in names if name]
    for version in filter(None, current):
        if version.digest == digest and versions.is_whole(store, version):
            return version
    decided = {name for decision in all_versions.decisions for name in decision.touched}
    unwanted = (State.REJECTED, State.WITHDRAWN)
    found = (
        versions.version_at(store, name)
        for name in (*all_versions.names, *all_versions.pruned)
        if name in decided and all_versions.state(name) in unwanted
    )
    return next((version for version in found if version and version.digest == digest), None)

"""Replies that earlier versions kept under another key of the same weights: looked up too, and moved to today's key.

Earlier versions named a folder by its files' sizes and times, and a hub model by no revision, a branch or a tag. The
first still names the same weights where no file was touched since. The second says nothing of the weights, so a person
has to (`pairsmith ledger adopt`).
"""

from __future__ import annotations

import logging

from pairsmith.config import Encoder, ModelSpec, Recipe
from pairsmith.errors import ModelNotFound
from pairsmith.ledger.ledger import Ledger
from pairsmith.llms.local.named_weights import LOCAL, commit_of, is_commit, is_from_hub, located
from pairsmith.protocol import Identity

log = logging.getLogger(__name__)


def earlier_identities(spec: ModelSpec | Encoder, identity: Identity, ledger: Ledger) -> tuple[Identity, ...]:
    """The identities under which replies of exactly these weights may still be kept."""
    if identity.backend not in LOCAL:
        return ()
    found = located(spec.model, spec.revision)
    if found.earlier:
        names: list[str | None] = [found.earlier]
    elif found.revision and is_commit(found.revision):
        names = ledger.adoptions.revisions(spec.model, found.revision)
    else:
        return ()
    return tuple(Identity(identity.backend, spec.model, name) for name in names)


def tell_of_unadopted(recipe: Recipe, ledger: Ledger) -> None:
    """Warn of replies of hub models whose weights nobody has named: they are not used, and asked for again."""
    specs: list[ModelSpec | Encoder] = [spec for spec in recipe.specs if spec.backend in LOCAL]
    specs += [recipe.pairing.similarity] if recipe.pairing.similarity else []
    for model in dict.fromkeys(spec.model for spec in specs if is_from_hub(spec.model, spec.revision)):
        for revision, count in ledger.adoptions.left(model, list(LOCAL)).items():
            named = f" --revision {revision}" if revision else ""
            log.warning(
                "%s: %d replies in the ledger were kept without its commit (revision %s), so they are not used; if the "
                "weights are still the same, `pairsmith ledger adopt %s%s` takes them over",
                model, count, revision, model, named,
            )  # fmt: skip


def adopt(ledger: Ledger, model: str, revision: str | None, commit: str | None) -> tuple[str, int]:
    """Take the replies of `model` under `revision` for those of a commit, today's of that revision if none is given.

    Returns the commit and the number of replies. Raises ModelNotFound where the commit cannot be found.
    """
    found, why = (commit, "") if commit else commit_of(model, revision, anew=True)
    if found is None or not is_commit(found):
        raise ModelNotFound(f"{model}: revision {revision or 'main'} leads to no commit: {why}; name one with --commit")
    count = ledger.adoptions.left(model, list(LOCAL)).get(revision, 0)
    ledger.adoptions.note(model, revision, found)
    return found, count

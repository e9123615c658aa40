"""Puts the models of a recipe together: a backend, kept within the budget, its replies recorded in the ledger."""

from __future__ import annotations

from pairsmith.config import Author, Budget, Evolver, Judge, Member, ModelSpec, Recipe
from pairsmith.ledger.ledger import open_ledger
from pairsmith.llms.budget import Budgeted
from pairsmith.llms.earlier import earlier_identities
from pairsmith.llms.endpoint.batch import Batched
from pairsmith.llms.endpoint.hosts import host_of
from pairsmith.llms.local.encoder import SentenceEncoder, encoder_identity
from pairsmith.llms.purse import purse_of
from pairsmith.llms.recorded import Recorded
from pairsmith.llms.registry import identity_of, open_llm, role_of
from pairsmith.protocol import LLM
from pairsmith.reporting.page import Models
from pairsmith.session import Session


def recorded_model(recipe: Recipe, spec: Member | Evolver | Author | Judge, session: Session) -> Recorded:
    """A model of a recipe, kept within its budget, its replies recorded in the ledger."""
    ledger, budget = open_ledger(recipe.ledger_url, session), recipe.budget
    purse = purse_of(recipe.ledger_url, recipe.name, budget, session) if budget != Budget() else None
    llm: LLM
    if is_in_batches(spec):
        llm = Batched(spec, ledger, session, recipe.name, purse)
    else:
        llm = open_llm(spec, session)
        if purse:
            again = spec.endpoint is not None and spec.endpoint.attempts > 1
            llm = Budgeted(llm, purse, spec.price, answers=2 if again else 1)
    asker, earlier = f"{role_of(spec)} {spec.name}", earlier_identities(spec, llm.identity, ledger)
    return Recorded(llm, ledger, recipe.name, spec.price, asker, earlier, host_of(spec))


def is_in_batches(spec: ModelSpec) -> bool:
    """Whether a model is asked through files, its replies collected later."""
    return spec.endpoint is not None and spec.endpoint.mode == "batch"


def recorded_encoder(recipe: Recipe, session: Session) -> Recorded:
    """The sentence encoder of `pairing.similarity`. Its vectors are in the ledger, so none is computed twice."""
    assert recipe.pairing.similarity is not None
    spec, ledger = recipe.pairing.similarity, open_ledger(recipe.ledger_url, session)
    encoder = SentenceEncoder(spec, session)
    earlier = earlier_identities(spec, encoder.identity, ledger)
    return Recorded(encoder, ledger, recipe.name, asker="encoder similarity", earlier=earlier)


def models_of(recipe: Recipe) -> Models:
    """Every model of a recipe, with the revision that its ids and ledger keys contain."""
    models = [
        {"role": role_of(spec), "name": spec.name, "model": spec.model, "revision": identity_of(spec).revision}
        for spec in recipe.specs
    ]
    if recipe.pairing.similarity:
        found = encoder_identity(recipe.pairing.similarity)
        models.append({"role": "encoder", "name": "similarity", "model": found.model, "revision": found.revision})
    return models

"""Licences and terms of the models that wrote a data set's texts, as far as they are known, for its card.

It says where they stand and judges nothing. What a recipe states comes first, then what the model's own files say, then
the address of the provider's terms. All else is unknown.
"""

from __future__ import annotations

from typing import Any

from pairsmith.config import Encoder, ModelSpec, Recipe
from pairsmith.config.providers import terms_at
from pairsmith.llms.local.licences import Licence, licence_of
from pairsmith.llms.local.named_weights import LOCAL
from pairsmith.reporting.markdown import Table

UNKNOWN = "unknown"


def with_terms(recipe: Recipe, models: Table) -> Table:
    """The models of a recipe with a licence and terms each; `models` as the card shows them."""
    specs: dict[tuple[str, str], ModelSpec | Encoder] = {("member", one.name): one for one in recipe.pool.members}
    specs |= {("judge", one.name): one for one in (recipe.rating.judges if recipe.rating else ())}
    if recipe.criteria and recipe.criteria.author:
        specs[("author", recipe.criteria.author.name)] = recipe.criteria.author
    specs |= {("evolver", recipe.evolution.evolver.name): recipe.evolution.evolver} if recipe.evolution else {}
    specs |= {("encoder", "similarity"): recipe.pairing.similarity} if recipe.pairing.similarity else {}
    return [row | _terms(specs.get((row["role"], row["name"]))) for row in models]


def _terms(spec: ModelSpec | Encoder | None) -> dict[str, Any]:
    """The columns `licence` and `terms` of a model."""
    if isinstance(spec, Encoder):
        found = licence_of(spec.model, spec.revision)
        return {"licence": found.name or UNKNOWN, "terms": found.link or UNKNOWN}
    if spec is None:
        return {"licence": UNKNOWN, "terms": UNKNOWN}
    if spec.backend == "echo" and not (spec.license or spec.terms):
        return {"licence": "none: its texts are made up", "terms": "none"}
    is_told = (spec.license and spec.terms) or spec.backend not in LOCAL
    found = Licence() if is_told else licence_of(spec.model, spec.revision)
    licence = f"{spec.license} (so the recipe says)" if spec.license else found.name
    terms = spec.terms or found.link or (terms_at(spec.endpoint.base_url) if spec.endpoint else None)
    return {"licence": licence or UNKNOWN, "terms": f"see {terms}" if terms else UNKNOWN}

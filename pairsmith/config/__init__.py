"""A recipe: everything that decides what a run does, as frozen pydantic models.

`loading.load_recipe` reads one from YAML. The same models are the parameters of the Prefect flow, so a server refuses a
wrong value before a run exists. Unknown fields are errors. Each part of a recipe has a file: `sources`, `generating`,
`models`, `judges`, `judging`, `rubrics`, `check_kinds`, `selecting`, `recipe`; `consistency` holds the rules between
parts. `plugins` and `modules` load the user's own code that a recipe names, `renamed` accepts the old names of fields,
`reference` writes the documentation. It may import about, ids, errors, memory, session and text.
"""

from __future__ import annotations

from pairsmith.config.base import Config, names_a_file
from pairsmith.config.calibration import Calibration
from pairsmith.config.check_kinds import Check, ExactMatch, IfEval, JsonSchema, PythonCheck, Regex
from pairsmith.config.generating import METHODS, Evolution, Evolver, Member, Pool, Principles
from pairsmith.config.judges import Judge, OwnFormat
from pairsmith.config.judging import ASPECTS, CHECKS, Rating
from pairsmith.config.models import Endpoint, LocalOptions, ModelSpec, Price, Sampling, family_of
from pairsmith.config.recipe import Budget, Gates, Hub, Publishing, Recipe
from pairsmith.config.rubrics import CRITERIA, Author, Criteria, Rubric
from pairsmith.config.selecting import Encoder, Guard, LengthGap, Pairing, Signal, Strategy
from pairsmith.config.sources import (
    Columns,
    Decontamination,
    Given,
    Http,
    Prompts,
    Source,
    Sql,
    Written,
    condition,
    format_of,
    is_local,
)

__all__ = [
    "ASPECTS",
    "CHECKS",
    "CRITERIA",
    "METHODS",
    "Author",
    "Budget",
    "Calibration",
    "Check",
    "Columns",
    "Config",
    "Criteria",
    "Decontamination",
    "Encoder",
    "Endpoint",
    "Evolution",
    "Evolver",
    "ExactMatch",
    "Gates",
    "Given",
    "Guard",
    "Http",
    "Hub",
    "IfEval",
    "JsonSchema",
    "Judge",
    "LengthGap",
    "LocalOptions",
    "Member",
    "ModelSpec",
    "OwnFormat",
    "Pairing",
    "Pool",
    "Price",
    "Principles",
    "Prompts",
    "Publishing",
    "PythonCheck",
    "Rating",
    "Recipe",
    "Regex",
    "Rubric",
    "Sampling",
    "Signal",
    "Source",
    "Sql",
    "Strategy",
    "Written",
    "condition",
    "family_of",
    "format_of",
    "is_local",
    "names_a_file",
]

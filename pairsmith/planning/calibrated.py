"""Whether a recipe's calibration is one of its judges as they are: their models, revisions and how they are asked."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pairsmith.config import CRITERIA, Criteria, Judge, Rating, Recipe
from pairsmith.config.plugins import code_hashes
from pairsmith.errors import ConfigError
from pairsmith.ids import fingerprint
from pairsmith.judging.criteria_file import digest_of_file
from pairsmith.llms.registry import identity_of

# Fields of a judge that decide nothing of its scores, or that its identity holds.
_ELSEWHERE = {"local", "endpoint", "price", "weight", "critique", "family", "backend", "model", "revision", "identity",
              "license", "terms"}  # fmt: skip


def judge_mark(rating: Rating, judge: Judge) -> str:
    """Hash of all that decides a judge's scores: its model and revision, how it is asked, and about what."""
    fields = judge.model_dump(mode="json", exclude=_ELSEWHERE, exclude_defaults=True)
    aspects = rating.aspects_of(judge)
    rubrics = {name: rating.rubrics[name].model_dump(mode="json") for name in aspects if name in rating.rubrics}
    more = [*code_hashes(judge), *(_criteria_mark(rating.criteria) if CRITERIA in aspects and rating.criteria else [])]
    return fingerprint("calibrated", asdict(identity_of(judge)), fields, aspects, rubrics, *more)


def _criteria_mark(criteria: Criteria) -> list[Any]:
    """What decides the criteria that a judge reads."""
    author = criteria.author
    plain = criteria.model_dump(mode="json", exclude={"author": True, "file": True})
    written = [asdict(identity_of(author)), author.sampling.model_dump(mode="json")] if author else []
    return [plain, written, digest_of_file(criteria.file) if criteria.file else None]


def require_calibration(recipe: Recipe) -> None:
    """Raise ConfigError where the recipe's calibration is of other judges than the recipe's, and say which."""
    rating = recipe.rating
    if rating is None or rating.calibrated is None:
        return
    wrong = []
    for judge in rating.judges:
        known = rating.calibrated.judges[judge.name]
        if known.weight and known.mark != judge_mark(rating, judge):
            now = identity_of(judge)
            was = f"{known.model}, revision {known.revision or 'none'}, asked {known.form}"
            is_now = f"{now.model}, revision {now.revision or 'none'}, asked {judge.form}"
            wrong.append(f"judge {judge.name} was {was}, and is {is_now}")
    if wrong:
        raise ConfigError(
            f"the calibration is of other judges than the recipe's: {'; '.join(wrong)}. Where these are alike, other "
            "fields, aspects or rubrics differ. Run pairsmith calibrate again, or ask the judges as it says"
        )

"""Stops a run in which waiting cannot help: no member, or no judge, has anybody at its endpoint who ever answered.

Where some of them are alive the run goes on, and says who failed.
"""

from __future__ import annotations

import pandas as pd

from pairsmith.config import Recipe
from pairsmith.errors import ConfigError
from pairsmith.generation.pool import STAGE as GENERATE
from pairsmith.judging.rating import STAGE as RATE
from pairsmith.llms.endpoint.reach import mend
from pairsmith.protocol import UNREACHED
from pairsmith.session import Session
from pairsmith.storage.fence import fence_key
from pairsmith.storage.schemas import Reason
from pairsmith.storage.store import Store

_BEGINS = f"{Reason.FAILED}: {UNREACHED}"


def unreached(data: pd.DataFrame) -> str:
    """Why nobody answered for a table of completions or ratings; empty where anybody did, or nobody was asked."""
    failed = data.loc[data["error"].str.startswith(_BEGINS).fillna(False), "error"]
    return "" if failed.empty or data["error"].isna().any() else str(failed.iloc[0]).partition(": ")[2]


def stop_if_nobody_is_there(recipe: Recipe, store: Store, stage: str, who: str, why: str, session: Session) -> None:
    """Note that nobody answered for `who` in this run, and `why`. Raises ConfigError where that is so of all members,
    or of all raters.

    A process other than the run's knows too little of the others to stop: the run does this with what it gets back.
    """
    fence, others = session.find(fence_key(store.root)), _asked_in(recipe, stage)
    if fence is None or not why or not others:
        return
    known: dict[str, str] = session.keep(("unreached", fence, stage), dict)
    known[who] = why
    if set(known) >= others:
        raise ConfigError(_nobody(recipe, dict(sorted(known.items()))))


def _asked_in(recipe: Recipe, stage: str) -> set[str]:
    """Who is asked in a stage, where that cannot go on without any of them."""
    if stage == GENERATE:
        return {member.name for member in recipe.pool.members}
    return set(recipe.rating.raters) if stage == RATE and recipe.rating else set()


def _nobody(recipe: Recipe, known: dict[str, str]) -> str:
    """Whom nobody answered for, where and why, and what to do."""
    specs = {spec.name: spec for spec in recipe.specs}
    told = []
    for name, why in known.items():
        spec = specs[name]
        role, address = "judge" if spec.is_judge else "member", spec.endpoint.base_url if spec.endpoint else ""
        words = why.replace("ConnectionError: ", "")
        told.append(f"{role} {name} ({spec.model} at {address}): {words}")
    (mended, *_) = [mend(spec.endpoint) for name in known if (spec := specs[name]).endpoint]
    return f"no endpoint answers, so nothing can be done: {'; '.join(told)}. To mend it: {mended}"

"""What all stages share: the store of a data set, the result of a stage, and making a table unless it is fresh.

A table with rows that failed for a temporary reason is stored but never fresh, so the next run makes it again and asks
only for those rows: the ledger has the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from pairsmith.config import Config, Recipe
from pairsmith.config.plugins import code_hashes
from pairsmith.errors import ConfigError
from pairsmith.generation import evolution
from pairsmith.generation.pool import STAGE as GENERATE
from pairsmith.judging.criteria import STAGE as CRITERIA
from pairsmith.judging.rating import STAGE as RATE
from pairsmith.ledger.pruning import table_of
from pairsmith.llms.recorded import Recorded
from pairsmith.pairing.select import STAGE as PAIR
from pairsmith.pairing.survey import STAGE as SURVEY
from pairsmith.progress import Progress, Tell, undone
from pairsmith.protocol import Awaited, Identity
from pairsmith.reporting.reason_words import called
from pairsmith.session import Session
from pairsmith.stages.reached import unreached
from pairsmith.storage.schemas import Reason
from pairsmith.storage.store import RecentTables, Store, TableRef

STAGES = (GENERATE, evolution.STAGE, CRITERIA, RATE, PAIR)
ASKS_NOTHING = (SURVEY, PAIR)
INCOMPLETE = "incomplete"  # prefix of the fingerprint of a table with rows to ask for again
# Fields of a model that do not change its answers, or that its identity holds already.
_ELSEWHERE = {"local", "endpoint", "price", "weight", "scale", "family", "backend", "model", "revision", "identity",
              "license", "terms"}  # fmt: skip
_LATER = {"comparisons", "brings"}  # fields that an earlier pairsmith had not: at their default they change nothing


@dataclass(frozen=True)
class StageResult:
    """What a stage did for a shard; `who`: the member, evolver or judge.

    `calls`, tokens and `cost` count only what models were asked, not the replies that the ledger had; `retries`: how
    often a request was sent again after a failure that passes. `failed`: rows
    that the next run asks for again; `refused`: how many of them an endpoint will refuse as long as nothing changes.
    """

    stage: str
    shard: str
    who: str
    rows: int
    calls: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    cost: float = 0.0
    retries: int = 0
    failed: int = 0
    refused: int = 0
    unreached: str = ""  # why nobody answered, where nobody at the endpoint ever did
    awaited: bool = False  # its requests are in batches, and it is to be done again when those are answered


def answers_where(completions: pd.DataFrame, prompts: pd.DataFrame, test: Callable[[str, str], bool]) -> pd.DataFrame:
    """The completions of the prompts that pass a test of their id and source."""
    names = [name for name, source in zip(prompts["prompt_id"], prompts["source"], strict=True) if test(name, source)]
    return completions[completions["prompt_id"].isin(names)]


def open_store(recipe: Recipe, session: Session | None = None) -> Store:
    """The store of a recipe's data set; with a session it caches the tables that were read and written last."""
    recent = session.keep("tables", RecentTables) if session else None
    return Store(f"{recipe.workspace.rstrip('/')}/{recipe.name}", recent)


def stages_of(recipe: Recipe) -> list[str]:
    """The stages of a recipe, in their order."""
    absent = {evolution.STAGE: recipe.evolution is None, RATE: recipe.rating is None}
    absent[CRITERIA] = recipe.criteria is None
    return [stage for stage in STAGES if not absent.get(stage)]


def model_fields(config: Config, identity: Identity) -> list[Any]:
    """Everything about a member, evolver, author or judge that can change an answer: part of a fingerprint."""
    fields = type(config).model_fields
    unused = {name for name in _LATER & {*fields} if getattr(config, name) == fields[name].default}
    return [asdict(identity), config.model_dump(mode="json", exclude=_ELSEWHERE | unused), *code_hashes(config)]


def asked_table(
    store: Store,
    ref: TableRef,
    fingerprint: str,
    who: str,
    llm: Recorded,
    whole: Progress,
    tell: Tell,
    make: Callable[[Tell], pd.DataFrame],
) -> StageResult:
    """Make a table that needs a model, unless it is there with this fingerprint; note which replies it uses.

    `make` is called with `tell`.
    """
    stored, table = store.fresh(ref, fingerprint), table_of(store, llm.dataset, ref)
    if stored:
        if llm.uses.made_of(table) == fingerprint:
            tell(whole)
        else:  # made before uses were noted: the same requests again, of which the ledger has the replies
            with llm.silent():
                make(tell)
            llm.uses.note(table, fingerprint, llm.used)
        return StageResult(whole.stage, ref.shard, who, len(stored.data))
    llm.uses.begin(table)
    told: list[Progress] = []

    def tell_and_note(event: Progress) -> None:
        told.append(event)
        tell(event)

    try:
        with _named(called(llm.asker or who)):
            data = make(tell_and_note)
    except Awaited:
        tell(undone(whole.stage, told))
        asked = (llm.calls, llm.prompt_tokens, llm.tokens, llm.cost, llm.retries)
        return StageResult(whole.stage, ref.shard, who, 0, *asked, awaited=True)
    llm.uses.note(table, fingerprint, llm.used)  # before the table is there: what it uses is never unknown
    failed, refused = (
        int(data["error"].str.startswith(begins).fillna(False).sum())
        for begins in (str(Reason.FAILED), f"{Reason.FAILED}: refused: ")
    )
    store.write(ref, data, f"{INCOMPLETE} {fingerprint}" if failed else fingerprint)
    used = (llm.calls, llm.prompt_tokens, llm.tokens, llm.cost, llm.retries)
    return StageResult(whole.stage, ref.shard, who, len(data), *used, failed, refused, unreached(data))


@contextmanager
def _named(asker: str) -> Iterator[None]:
    """Let an error that stops the run begin with the member, evolver or judge that met it."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{asker}: {error}") from error


def unasked_table(
    store: Store,
    ref: TableRef,
    fingerprint: str,
    who: str,
    whole: Progress,
    tell: Tell,
    make: Callable[[], pd.DataFrame],
) -> StageResult:
    """Make a table that needs no model, unless it is there with this fingerprint."""
    stored = store.fresh(ref, fingerprint) or store.write(ref, make(), fingerprint)
    tell(whole)
    return StageResult(whole.stage, ref.shard, who, len(stored.data))

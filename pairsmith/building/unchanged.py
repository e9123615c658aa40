"""Whether a run has nothing to do, found out at once: all that it would make is there already."""

from __future__ import annotations

from pairsmith.building.runs import Outcome, Threads, fenced
from pairsmith.config import Recipe
from pairsmith.ledger.ledger import open_ledger
from pairsmith.llms.registry import pinned
from pairsmith.session import Session
from pairsmith.stages.base import open_store
from pairsmith.stages.freshness import unfinished
from pairsmith.stages.publish import is_released
from pairsmith.storage.store import Store
from pairsmith.storage.versions import latest_name


def unchanged(recipe: Recipe, session: Session) -> Outcome | None:
    """What a run returns that has nothing to do; None where it has, or where that cannot be told cheaply.

    Cheap are sources that are files of this machine, which an earlier load remembers. Raises RunError where another
    run works on the data set.
    """
    store = open_store(recipe, session)
    with store.lock():
        return _unchanged(recipe, store, session)


def _unchanged(recipe: Recipe, store: Store, session: Session) -> Outcome | None:
    are_files = all(source.path and "://" not in source.path for source in recipe.prompts.sources)
    if not are_files or recipe.needs_survey or recipe.publishing.hub or latest_name(store) is None:
        return None
    recipe, ledger = pinned(recipe), open_ledger(recipe.ledger_url, session)
    with ledger.lock(store.files) as fence, fenced(store, fence, session):
        workers = Threads(recipe, session)
        loaded = workers.load(full=False)
        if loaded.new or unfinished(recipe, loaded.shards, session) or not is_released(recipe, loaded, session):
            return None
        return Outcome(loaded, [], None, workers.publish(loaded, False))

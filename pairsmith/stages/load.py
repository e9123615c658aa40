"""Load: sources -> prompts in shards."""

from __future__ import annotations

import logging
import shutil

from pairsmith.config import Recipe
from pairsmith.ids import fingerprint
from pairsmith.session import Session
from pairsmith.sources import prompts
from pairsmith.sources.cache import Notes
from pairsmith.sources.forgotten import Forgotten
from pairsmith.sources.http import fetched
from pairsmith.sources.sharding import Loaded, known_prompts, shard_prompts
from pairsmith.sources.unread import Unread
from pairsmith.stages.base import open_store
from pairsmith.storage.formats import mark_workspace
from pairsmith.storage.revisions import REVISIONS

log = logging.getLogger(__name__)


def load(recipe: Recipe, session: Session) -> Loaded:
    """Read the sources that have changed since the last load, and put the new prompts into shards.

    Warns of columns that are filled and that nothing reads.
    """
    store = open_store(recipe, session)
    mark_workspace(store)
    known = known_prompts(store)
    notes = Notes(store, known.homes, _fingerprint())
    with fetched(recipe.prompts, store.files.local_path("sources")) as bodies:
        unread = Unread()
        read = prompts.read_prompts(recipe.prompts, bodies, notes, unread)
        loaded = shard_prompts(Forgotten(store).refuse(read), store, recipe.shard_size, known)
        notes.keep_unfinished()
        notes.tidy(prompts.noted_files(recipe.prompts, bodies))
    for sentence in unread.told():
        log.warning(sentence)
    return loaded


def _fingerprint() -> str:
    """The fingerprint of the code that makes prompts from rows: notes about a file are valid only for the same code."""
    return fingerprint(prompts.STAGE, REVISIONS[prompts.STAGE])


def forget_sources(recipe: Recipe, session: Session) -> None:
    """Forget what earlier loads fetched and read, so that the next one fetches and parses all sources."""
    store = open_store(recipe, session)
    Notes(store, (), "").tidy()
    if folder := store.files.local_path("sources"):
        shutil.rmtree(folder, ignore_errors=True)

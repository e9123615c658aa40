"""Removing versions that are not needed any more, so that a data set does not only grow.

The version that `latest` leads to, a candidate that waits and the newest versions are never removed. Of a removed
version its version.json is kept, since content that was rejected or rolled back from is not to be published again.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml

from pairsmith.errors import ConfigError, DataError
from pairsmith.storage.commits import STAMP, UPLOADS
from pairsmith.storage.decisions import WAIT_SECONDS, deciding
from pairsmith.storage.reads import parsed
from pairsmith.storage.store import Store
from pairsmith.storage.versions import PRUNED, history, settled, version_at

log = logging.getLogger(__name__)
ABANDONED = timedelta(days=1)  # age from which files that no version names were left by an upload that was cut short


def prune(store: Store, keep: int, wait: float | None = WAIT_SECONDS) -> list[str]:
    """Remove all but the `keep` newest versions, `latest` and a candidate that waits; returns the removed names."""
    with deciding(store, wait):
        return prune_held(store, keep)


def kept_by_recipe(store: Store) -> int:
    """How many versions the recipe of the newest one keeps. Raises ConfigError where it does not say."""
    newest = history(store).newest
    version = version_at(store, newest) if newest else None
    recipe = parsed(store.files, version.place("recipe.yaml"), _recipe) if version else {}
    keep = recipe.get("publishing", {}).get("keep")
    if keep is None:
        raise ConfigError("--keep: say how many versions to keep, since publishing.keep of the recipe does not")
    return int(keep)


def _recipe(content: bytes) -> Any:
    if not content.endswith(b"\n"):
        raise DataError("recipe.yaml is cut")  # of `keep: 12` a cut file may say `keep: 1`
    return yaml.safe_load(content)


def prune_held(store: Store, keep: int) -> list[str]:
    """`prune` for callers that hold `deciding` already."""
    all_versions = settled(store)
    kept = {all_versions.latest, all_versions.due, all_versions.waiting, *all_versions.names[-keep:]}
    removed = [name for name in all_versions.names if name not in kept]
    parts = {place for name in removed for place in _remove(store, name)}
    if store.files.local_path("") is None:
        _sweep(store, [name for name in all_versions.names if name in kept], parts)
    return removed


def remove_unnamed(store: Store) -> None:
    """Remove all that uploads left which were cut short, and each uploaded file that no version names any more.

    For callers that hold the data set as a run does and have found every version readable: nobody uploads meanwhile.
    """
    if store.files.local_path("") is not None:
        return
    all_versions = history(store)
    for name in all_versions.cut:
        store.files.remove_folder(f"versions/{name}")
    _sweep(store, list(all_versions.names), {f"{UPLOADS}/{file}" for file in store.files.tree(UPLOADS)})


def _remove(store: Store, name: str) -> set[str]:
    """Remove a version; returns where the files are that its commit named, for `_sweep`."""
    version = version_at(store, name)
    store.write_json(f"{PRUNED}/{name}.json", version.about if version else {"version": name})
    if store.exists(f"versions/{name}.json"):
        store.files.remove(f"versions/{name}.json")
    else:
        store.files.remove_folder(f"versions/{name}")
    return set(version.parts.values()) if version else set()


def _sweep(store: Store, left: list[str], parts: set[str]) -> None:
    """Remove uploaded files that no version names any more: `parts`, and those of uploads that were cut short."""
    versions = [version_at(store, name) for name in left]
    if None in versions:
        log.warning("%s: a version cannot be read, so no uploaded file is removed", store.url("").rstrip("/"))
        return
    named = {place for version in versions if version for place in version.parts.values()}
    for file in store.files.tree(UPLOADS):
        place = f"{UPLOADS}/{file}"
        if place not in named and (place in parts or _is_abandoned(file)):
            store.files.remove(place)


def _is_abandoned(file: str) -> bool:
    """Whether the upload of a file began so long ago that nobody works on it any more."""
    try:
        began = datetime.strptime(file.partition("-")[0], STAMP).replace(tzinfo=UTC)
    except ValueError:
        return False
    return datetime.now(UTC) - began > ABANDONED

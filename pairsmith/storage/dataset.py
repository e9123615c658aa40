"""A published data set: its versions, their pairs, and the decisions about them. In a folder or under a URL."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pairsmith.storage import versions
from pairsmith.storage.addresses import named_version, store_at
from pairsmith.storage.datafiles import column_names, data_files, rows_of
from pairsmith.storage.decisions import Decision, this_user
from pairsmith.storage.exporting import export
from pairsmith.storage.pruning import prune
from pairsmith.storage.versions import LATEST, State, Version


class Dataset:
    """What a recipe published at `place`, the folder (or URL) that has `versions` in it. Raises DataError for another.

    >>> Dataset("pairsmith-data/demo").latest  # doctest: +SKIP
    'v0002'
    """

    def __init__(self, place: str | Path) -> None:
        self.store = store_at(str(place))

    @property
    def versions(self) -> list[Version]:
        """All versions that can be read, the oldest first."""
        found = (versions.version_at(self.store, name) for name in versions.version_names(self.store))
        return [version for version in found if version]

    @property
    def latest(self) -> str | None:
        """The version that `latest` leads to; None before the first release."""
        return versions.latest_name(self.store)

    @property
    def candidates(self) -> list[str]:
        """The versions that wait for a decision."""
        past = versions.history(self.store)
        return [name for name in past.names if past.state(name) is State.CANDIDATE]

    def state(self, version: str) -> State:
        """What became of a version: released, candidate, rejected, superseded or withdrawn."""
        return versions.history(self.store).state(named_version(self.store, version).name)

    def pairs(self, version: str = LATEST) -> pd.DataFrame:
        """All pairs of a version, `train` before `test`: a row each, with all published columns."""
        files = data_files(self.store, named_version(self.store, version))
        return pd.DataFrame(rows_of(files), columns=column_names(files))

    def export(self, folder: str | Path, version: str = LATEST) -> Path:
        """Copy a version to a new folder of this machine, as one of plain files that `load_dataset` opens."""
        return export(self.store, named_version(self.store, version), Path(folder))

    def prune(self, keep: int) -> list[str]:
        """Remove all but the `keep` newest versions, `latest` and a candidate that waits; returns the removed names."""
        return prune(self.store, keep)

    def release(self, version: str | None = None, *, reason: str, by: str | None = None) -> Decision:
        """Let `latest` lead to a version, the one that waits when none is named."""
        return versions.release(self.store, version, by or this_user(), reason)

    def reject(self, version: str | None = None, *, reason: str, by: str | None = None) -> Decision:
        """Turn down a version that waits; `latest` stays where it is."""
        return versions.reject(self.store, version, by or this_user(), reason)

    def rollback(self, version: str, *, reason: str, by: str | None = None) -> Decision:
        """Let `latest` lead back to an earlier version."""
        return versions.rollback(self.store, version, by or this_user(), reason)

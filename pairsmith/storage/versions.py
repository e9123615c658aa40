"""The versions of a data set: which there are, the state of each, and which one `latest` leads to.

A version's folder never changes. Its state follows from its version.json, which says whether it needs approval, and
from the decisions. So does the version that `latest` should lead to: if a crash comes between a decision and the move
of `latest`, the next process to decide or publish moves it.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pairsmith.errors import DamagedFile, DataError, RunError
from pairsmith.storage.decisions import WAIT_SECONDS, Decision, Verdict, deciding, decisions_of, now, record
from pairsmith.storage.formats import check_version, check_workspace
from pairsmith.storage.store import Store

log = logging.getLogger(__name__)
LATEST = "latest"


class State(StrEnum):
    """The state of a version."""

    RELEASED = "released"  # `latest` leads to it, or once did
    CANDIDATE = "candidate"  # waits for a decision
    REJECTED = "rejected"
    SUPERSEDED = "superseded"  # a newer version came before a decision
    WITHDRAWN = "withdrawn"  # `latest` was taken back from it
    DAMAGED = "damaged"  # its version.json is absent or damaged, so nobody knows whether it needs approval


@dataclass(frozen=True)
class Version:
    """A version, read from its version.json; `about` holds the whole file."""

    name: str
    folder: str
    pairs: int
    digest: str
    files: dict[str, str]
    needs_approval: bool
    made_at: str | None
    about: dict[str, Any]


@dataclass(frozen=True)
class History:
    """The names of all versions, the oldest first; all decisions; and the version that `latest` leads to."""

    store: Store
    names: tuple[str, ...]
    decisions: tuple[Decision, ...]
    latest: str | None

    @property
    def newest(self) -> str | None:
        return self.names[-1] if self.names else None

    @property
    def next_name(self) -> str:
        """The name of a new version: its number was never used, not even by a deleted version with a decision."""
        known = [*self.names, *(decision.newest for decision in self.decisions)]
        return f"v{max(map(number_of, known), default=0) + 1:04}"

    def state(self, name: str) -> State:
        """The state of a version: from the last decision that concerns it, else from whether it needs approval."""
        decision = self.last_decision(name)
        if decision is None:
            version = version_at(self.store, name)
            if version is None:
                return State.DAMAGED
            if not version.needs_approval:
                return State.RELEASED
            return State.CANDIDATE if name == self.newest else State.SUPERSEDED
        if decision.version != name:
            return State.WITHDRAWN
        return State.REJECTED if decision.verdict is Verdict.REJECTED else State.RELEASED

    def needs_approval(self, name: str) -> bool:
        version = version_at(self.store, name)
        return version is not None and version.needs_approval

    def last_decision(self, name: str) -> Decision | None:
        """The last decision that changed the state of a version, if any."""
        return next((decision for decision in reversed(self.decisions) if name in decision.touched), None)

    @property
    def waiting(self) -> str | None:
        """The candidate that waits for a decision."""
        newest = self.newest
        return newest if newest and self.state(newest) is State.CANDIDATE else None

    @property
    def decided(self) -> str | None:
        """The version that people last chose as `latest`; None where there is none or a later one needs no approval."""
        moves = [one for one in self.decisions if one.verdict is not Verdict.REJECTED and one.version in self.names]
        if not moves:
            return None
        later = [name for name in self.names if number_of(name) > number_of(moves[-1].newest)]
        return moves[-1].version if all(map(self.needs_approval, later)) else None


def store_at(folder: str) -> Store:
    """The store of a data set's folder; raises DataError where it holds no version."""
    store = Store(folder)
    check_workspace(store)
    if not version_names(store):
        raise DataError(f"{folder}: no version of a dataset there; name the folder that has `versions` in it")
    return store


def history(store: Store) -> History:
    """The history of a data set. Raises DataError where a decision cannot be read: without it, states are unknown."""
    return History(store, tuple(version_names(store)), decisions_of(store), latest_name(store))


def version_names(store: Store) -> list[str]:
    """The names of all versions, the oldest first."""
    return sorted((name for name in store.names_in("versions") if re.fullmatch(r"v\d+", name)), key=number_of)


def number_of(name: str) -> int:
    return int(name[1:])


def version_folder(store: Store, name: str) -> str:
    """The folder of a version; raises DataError where there is none of that name."""
    if name not in (LATEST, *version_names(store)):
        raise DataError(f"{store.root}: no version {name}; there are {', '.join(version_names(store))}")
    return store.path(name if name == LATEST else f"versions/{name}")


def latest_name(store: Store) -> str | None:
    """The version that `latest` leads to; None before the first."""
    path = store.points_to(LATEST)
    return path.removeprefix("versions/") if path else None


def latest_version(store: Store) -> Version | None:
    """The version that `latest` leads to; None before the first or where it is damaged."""
    name = latest_name(store)
    return version_at(store, name) if name else None


def version_at(store: Store, name: str) -> Version | None:
    """A version by its name; None where its version.json is absent or damaged.

    Raises StorageUnreachable where that is not known, and DataError where a newer pairsmith wrote it.
    """
    folder = f"versions/{name}"
    try:
        about = store.read_json(f"{folder}/version.json")
        check_version(store.url(folder), about)
        return Version(
            name=str(about["version"]),
            folder=store.url(folder),
            pairs=int(about["pairs"]),
            digest=str(about["digest"]),
            files=dict(about["files"]),
            needs_approval=about.get("approval") == "required",
            made_at=about.get("made_at"),
            about=about,
        )
    except (FileNotFoundError, DamagedFile, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = "%s: version.json is absent or damaged (%s); the next version takes its place"
        log.warning(problem, store.url(folder), error)
        return None


def is_whole(store: Store, version: Version) -> bool:
    """Whether all data files of a version are there and unchanged."""
    return all(store.file_digest(f"versions/{version.name}/{name}") == digest for name, digest in version.files.items())


def same_content(store: Store, all_versions: History, digest: str) -> Version | None:
    """The version that makes a new one with this digest superfluous, if any.

    It has the same digest and is the version that `latest` leads to or the newest one, with its files unchanged; or any
    version that was rejected or withdrawn.
    """
    current = [version_at(store, name) for name in dict.fromkeys((all_versions.latest, all_versions.newest)) if name]
    for version in filter(None, current):
        if version.digest == digest and is_whole(store, version):
            return version
    decided = {name for decision in all_versions.decisions for name in decision.touched}
    unwanted = (State.REJECTED, State.WITHDRAWN)
    found = (
        version_at(store, name)
        for name in all_versions.names
        if name in decided and all_versions.state(name) in unwanted
    )
    return next((version for version in found if version and version.digest == digest), None)


def waiting(store: Store) -> Version | None:
    """The candidate that waits for a decision, if there is one."""
    name = history(store).waiting
    return version_at(store, name) if name else None


def release(store: Store, version: str | None, by: str, reason: str, wait: float | None = WAIT_SECONDS) -> Decision:
    """Let `latest` lead to a version, by default the one that waits. The decision is recorded first.

    Releasing a version again, as after a crash, changes nothing. Raises RunError where no version waits, or where a
    newer version is released or waits: moving `latest` back is what `rollback` is for.
    """
    with deciding(store, wait):
        all_versions = settled(store)
        name = _named(store, all_versions, version or all_versions.waiting)
        return released(store, all_versions, name, by, reason)


def released(store: Store, all_versions: History, name: str, by: str, reason: str) -> Decision:
    """`release` for callers that hold `deciding` already."""
    decision = all_versions.last_decision(name)
    if all_versions.latest == name:
        if decision is None:
            raise RunError(f"{name} is released already: its recipe asked for no approval")
        return decision
    later = all_versions.names[all_versions.names.index(name) + 1 :]
    newer = [one for one in later if all_versions.state(one) in (State.RELEASED, State.CANDIDATE)]
    if newer:
        raise RunError(f"{name} cannot be released: {newer[-1]} is newer and {all_versions.state(newer[-1])}")
    return _decide(store, all_versions, Verdict.RELEASED, name, by, reason)


def reject(store: Store, version: str | None, by: str, reason: str, wait: float | None = WAIT_SECONDS) -> Decision:
    """Record that a candidate, by default the one that waits, is not to be released; `latest` stays.

    Raises RunError where no version waits, or where the named version is not a candidate.
    """
    with deciding(store, wait):
        all_versions = settled(store)
        name = _named(store, all_versions, version or all_versions.waiting)
        decision, state = all_versions.last_decision(name), all_versions.state(name)
        if state is State.REJECTED and decision:
            return decision
        if state is not State.CANDIDATE:
            hint = "; `rollback` takes `latest` back" if state is State.RELEASED else ""
            raise RunError(f"{name} cannot be rejected: it is {state}{hint}")
        return _decide(store, all_versions, Verdict.REJECTED, name, by, reason)


def rollback(store: Store, version: str, by: str, reason: str, wait: float | None = WAIT_SECONDS) -> Decision:
    """Let `latest` lead to another version that was released before. The decision is recorded first.

    The version that `latest` led to is withdrawn: its content is not published again until that version is released or
    rolled back to. Raises RunError where there is no such version, it was never released, is damaged, or is `latest`.
    """
    with deciding(store, wait):
        all_versions = settled(store)
        name = _named(store, all_versions, version)
        decision, state = all_versions.last_decision(name), all_versions.state(name)
        if all_versions.latest == name:
            if decision and decision.verdict is Verdict.ROLLED_BACK:
                return decision
            raise RunError(f"{name} is `latest` already")
        if state not in (State.RELEASED, State.WITHDRAWN):
            raise RunError(f"{name} was never released: it is {state}")
        return _decide(store, all_versions, Verdict.ROLLED_BACK, name, by, reason)


def settled(store: Store) -> History:
    """The history, after moving `latest` to where the last decision wants it, in case a crash prevented that."""
    all_versions = history(store)
    if all_versions.decided is None or all_versions.decided == all_versions.latest:
        return all_versions
    store.point(LATEST, f"versions/{all_versions.decided}")
    return history(store)


def _named(store: Store, all_versions: History, name: str | None) -> str:
    """The name of a version that is there with unchanged files; raises RunError for any other."""
    if name is None:
        raise RunError(f"{store.root}: no version waits for a decision")
    if name not in all_versions.names:
        raise RunError(f"{store.root}: no version {name}; there are {', '.join(all_versions.names)}")
    version = version_at(store, name)
    if version is None or not is_whole(store, version):
        raise RunError(f"{store.url(f'versions/{name}')}: damaged: its files are not as they were written")
    return name


def _decide(store: Store, all_versions: History, verdict: Verdict, name: str, by: str, reason: str) -> Decision:
    decision = Decision(verdict, name, by, reason, now(), all_versions.latest, all_versions.names[-1])
    record(store, decision)
    if verdict is not Verdict.REJECTED:
        store.point(LATEST, f"versions/{name}")
    return decision

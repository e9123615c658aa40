"""The versions of a data set: which there are, what became of each, and to which of them `latest` leads.

A version's folder never changes. What became of it follows from its own version.json, which says whether it needs
approval, and from the decisions. So does where `latest` has to lead: a crash between a decision and the move of
`latest` is made up for by whoever comes next.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pairsmith.errors import DataError, RunError
from pairsmith.storage.decisions import WAIT_SECONDS, Decision, Verdict, deciding, decisions_of, now, record
from pairsmith.storage.formats import check_version, check_workspace
from pairsmith.storage.store import Store

log = logging.getLogger(__name__)
LATEST = "latest"


class State(StrEnum):
    """What became of a version."""

    RELEASED = "released"  # `latest` leads to it, or once did
    CANDIDATE = "candidate"  # waits for a decision
    REJECTED = "rejected"
    SUPERSEDED = "superseded"  # a newer version came before a decision
    WITHDRAWN = "withdrawn"  # `latest` was taken back from it


@dataclass(frozen=True)
class Version:
    """A version as its version.json tells of it, which `about` holds whole."""

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
    """All versions that are there by name, the oldest first, with all decisions, and where `latest` leads."""

    store: Store
    names: tuple[str, ...]
    decisions: tuple[Decision, ...]
    latest: str | None

    @property
    def newest(self) -> str | None:
        return self.names[-1] if self.names else None

    @property
    def next_name(self) -> str:
        """The name of a new version: a number that none had that is there or was decided about."""
        known = [*self.names, *(decision.newest for decision in self.decisions)]
        return f"v{max(map(number_of, known), default=0) + 1:04}"

    def state(self, name: str) -> State:
        """What became of a version: the last decision that touches it tells, or else whether it needs one."""
        decision = self.last_decision(name)
        if decision is None:
            if not self.needs_approval(name):
                return State.RELEASED
            return State.CANDIDATE if name == self.newest else State.SUPERSEDED
        if decision.version != name:
            return State.WITHDRAWN
        return State.REJECTED if decision.verdict is Verdict.REJECTED else State.RELEASED

    def needs_approval(self, name: str) -> bool:
        version = version_at(self.store, name)
        return version is not None and version.needs_approval

    def last_decision(self, name: str) -> Decision | None:
        """The decision that made a version what it is, if any."""
        return next((decision for decision in reversed(self.decisions) if name in decision.touched), None)

    @property
    def waiting(self) -> str | None:
        """The candidate that waits for a decision."""
        newest = self.newest
        return newest if newest and self.state(newest) is State.CANDIDATE else None

    @property
    def decided(self) -> str | None:
        """The version that the last decision about `latest` names; None where one that needs none came after it."""
        moves = [one for one in self.decisions if one.verdict is not Verdict.REJECTED and one.version in self.names]
        if not moves:
            return None
        later = [name for name in self.names if number_of(name) > number_of(moves[-1].newest)]
        return moves[-1].version if all(map(self.needs_approval, later)) else None


def store_at(folder: str) -> Store:
    """The data set in a folder of a workspace; raises DataError where no version of one is there."""
    store = Store(folder)
    check_workspace(store)
    if not version_names(store):
        raise DataError(f"{folder}: no version of a dataset there; name the folder that has `versions` in it")
    return store


def history(store: Store) -> History:
    """Raises DataError where a decision cannot be read: what is not known must not be decided anew."""
    return History(store, tuple(version_names(store)), decisions_of(store), latest_name(store))


def version_names(store: Store) -> list[str]:
    """All versions that are there, the oldest first."""
    return sorted((name for name in store.names_in("versions") if re.fullmatch(r"v\d+", name)), key=number_of)


def number_of(name: str) -> int:
    return int(name[1:])


def version_folder(store: Store, name: str) -> str:
    """Where a version stands; raises DataError where there is none of that name."""
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
    """A version by its name; None where its version.json cannot be read.

    Raises DataError where a newer pairsmith wrote it in a format of its own.
    """
    folder = f"versions/{name}"
    try:
        told = store.read_json(f"{folder}/version.json")
        check_version(store.url(folder), told)
        return Version(
            name=str(told["version"]),
            folder=store.url(folder),
            pairs=int(told["pairs"]),
            digest=str(told["digest"]),
            files=dict(told["files"]),
            needs_approval=told.get("approval") == "required",
            made_at=told.get("made_at"),
            about=told,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s: version.json cannot be read (%s); the next version takes its place", store.url(folder), error)
        return None


def is_whole(store: Store, version: Version) -> bool:
    """Whether the data files of a version are all there, as they were written."""
    return all(store.file_digest(f"versions/{version.name}/{name}") == digest for name, digest in version.files.items())


def same_content(store: Store, past: History, digest: str) -> Version | None:
    """The version for which a new one with this digest would be a repetition.

    That is the one that `latest` leads to or the newest, where it is whole; or any that was rejected or withdrawn.
    """
    current = [version_at(store, name) for name in dict.fromkeys((past.latest, past.newest)) if name]
    for version in filter(None, current):
        if version.digest == digest and is_whole(store, version):
            return version
    decided = {name for decision in past.decisions for name in decision.touched}
    unwanted = (State.REJECTED, State.WITHDRAWN)
    found = (version_at(store, name) for name in past.names if name in decided and past.state(name) in unwanted)
    return next((version for version in found if version and version.digest == digest), None)


def waiting(store: Store) -> Version | None:
    """The candidate that waits for a decision, if there is one."""
    name = history(store).waiting
    return version_at(store, name) if name else None


def release(store: Store, version: str | None, by: str, reason: str, wait: float | None = WAIT_SECONDS) -> Decision:
    """Let `latest` lead to a version, the one that waits when None is named; recorded first.

    Done again after a crash, or twice, it changes nothing. Raises RunError where nothing waits, or where a newer
    version was released or waits, so that this one would take `latest` back: that is what `rollback` is for.
    """
    with deciding(store, wait):
        past = settled(store)
        name = _named(store, past, version or past.waiting)
        return released(store, past, name, by, reason)


def released(store: Store, past: History, name: str, by: str, reason: str) -> Decision:
    """`release` for those that are deciding already."""
    decision = past.last_decision(name)
    if past.latest == name:
        if decision is None:
            raise RunError(f"{name} is released already: its recipe asked for no approval")
        return decision
    later = past.names[past.names.index(name) + 1 :]
    newer = [one for one in later if past.state(one) in (State.RELEASED, State.CANDIDATE)]
    if newer:
        raise RunError(f"{name} cannot be released: {newer[-1]} is newer and {past.state(newer[-1])}")
    return _decide(store, past, Verdict.RELEASED, name, by, reason)


def reject(store: Store, version: str | None, by: str, reason: str, wait: float | None = WAIT_SECONDS) -> Decision:
    """Record that a candidate, the one that waits when None is named, is not released; `latest` stays.

    Raises RunError where nothing waits, or the version is none that waits.
    """
    with deciding(store, wait):
        past = settled(store)
        name = _named(store, past, version or past.waiting)
        decision, state = past.last_decision(name), past.state(name)
        if state is State.REJECTED and decision:
            return decision
        if state is not State.CANDIDATE:
            hint = "; `rollback` takes `latest` back" if state is State.RELEASED else ""
            raise RunError(f"{name} cannot be rejected: it is {state}{hint}")
        return _decide(store, past, Verdict.REJECTED, name, by, reason)


def rollback(store: Store, version: str, by: str, reason: str, wait: float | None = WAIT_SECONDS) -> Decision:
    """Let `latest` lead to another version that was released once; recorded first.

    The version that it led to is withdrawn: the same content is not published again until it is released or rolled
    back to. Raises RunError where there is no such version, it was never released, is damaged, or is `latest`.
    """
    with deciding(store, wait):
        past = settled(store)
        name = _named(store, past, version)
        decision, state = past.last_decision(name), past.state(name)
        if past.latest == name:
            if decision and decision.verdict is Verdict.ROLLED_BACK:
                return decision
            raise RunError(f"{name} is `latest` already")
        if state not in (State.RELEASED, State.WITHDRAWN):
            raise RunError(f"{name} was never released: it is {state}")
        return _decide(store, past, Verdict.ROLLED_BACK, name, by, reason)


def settled(store: Store) -> History:
    """The history, after `latest` was moved where the last decision wants it, had a crash come in between."""
    past = history(store)
    if past.decided is None or past.decided == past.latest:
        return past
    store.point(LATEST, f"versions/{past.decided}")
    return history(store)


def _named(store: Store, past: History, name: str | None) -> str:
    """The version of that name, once it is sure that it is there as it was written."""
    if name is None:
        raise RunError(f"{store.root}: no version waits for a decision")
    if name not in past.names:
        raise RunError(f"{store.root}: no version {name}; there are {', '.join(past.names)}")
    version = version_at(store, name)
    if version is None or not is_whole(store, version):
        raise RunError(f"{store.url(f'versions/{name}')}: damaged: its files are not as they were written")
    return name


def _decide(store: Store, past: History, verdict: Verdict, name: str, by: str, reason: str) -> Decision:
    decision = Decision(verdict, name, by, reason, now(), past.latest, past.names[-1])
    record(store, decision)
    if verdict is not Verdict.REJECTED:
        store.point(LATEST, f"versions/{name}")
    return decision

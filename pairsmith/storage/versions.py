"""The versions of a data set: which there are, the state of each, and which one `latest` leads to.

A version is a folder, `versions/v0001`, with its version.json in it. On object storage it is a commit: a version.json
of the name `versions/v0001.json` that also says, as `parts`, where each file of the version is. `commits` makes both.

A version never changes. Its state follows from its version.json, which says whether it needs approval, and from the
decisions. So does the version that `latest` should lead to: if a crash comes between a decision and the move of
`latest`, the next process to decide or publish moves it.
"""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pairsmith.errors import DamagedFile, RunError
from pairsmith.storage.decisions import WAIT_SECONDS, Decision, Verdict, deciding, decisions_of, now, record
from pairsmith.storage.formats import check_version
from pairsmith.storage.store import Store

log = logging.getLogger(__name__)
LATEST = "latest"
PRUNED = "pruned"  # the folder with the version.json of each version that was removed
_ENTRY = re.compile(r"(v\d+)(\.json)?")


class State(StrEnum):
    """The state of a version."""

    RELEASED = "released"  # `latest` leads to it, or once did
    CANDIDATE = "candidate"  # waits for a decision
    REJECTED = "rejected"
    SUPERSEDED = "superseded"  # a newer version came before a decision
    WITHDRAWN = "withdrawn"  # `latest` was taken back from it
    PREVIEW = "preview"  # no version: what a limited run made, see `previews`
    DAMAGED = "damaged"  # its version.json is absent or damaged, so nobody knows whether it needs approval


@dataclass(frozen=True)
class Version:
    """A version, read from its version.json; `about` holds the whole file.

    `folder`: its address; on object storage there need be no folder there. `parts`: file -> where it is in the store;
    empty for a version that is a folder. `reasons`: why it needs approval, beside that its recipe asks for it.
    """

    name: str
    folder: str
    pairs: int
    digest: str
    files: dict[str, str]
    needs_approval: bool
    made_at: str | None
    about: dict[str, Any]
    parts: dict[str, str]
    reasons: tuple[str, ...] = ()

    def place(self, file: str) -> str:
        """Where a file of this version is in the store."""
        return self.parts.get(file, f"versions/{self.name}/{file}")


@dataclass(frozen=True)
class History:
    """The names of all versions, the oldest first; all decisions; and the version that `latest` leads to.

    `pruned`: the names of versions that were removed; `cut`: of uploads that ended before they were whole.
    """

    store: Store
    names: tuple[str, ...]
    decisions: tuple[Decision, ...]
    latest: str | None
    pruned: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()

    @property
    def newest(self) -> str | None:
        return self.names[-1] if self.names else None

    @property
    def next_name(self) -> str:
        """The name of a new version: its number was never used, not even by a deleted version with a decision."""
        known = [*self.names, *self.pruned, *self.cut, *(decision.newest for decision in self.decisions)]
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

    @property
    def due(self) -> str | None:
        """The version that `latest` should lead to: the one decided on, else the newest that needs no approval."""
        return self.decided or next((name for name in reversed(self.names) if self._is_free(name)), None)

    def _is_free(self, name: str) -> bool:
        version = version_at(self.store, name)
        return version is not None and not version.needs_approval


def history(store: Store) -> History:
    """The history of a data set. Raises DataError where a decision cannot be read: without it, states are unknown."""
    decisions, latest, found = decisions_of(store), latest_name(store), _entries(store, "versions")
    known = {latest, *(name for decision in decisions for name in decision.touched)}
    cut = tuple(name for name, is_commit in found.items() if not is_commit and _is_cut(store, name, known))
    names = tuple(name for name in found if name not in cut)
    return History(store, names, decisions, latest, tuple(_entries(store, PRUNED)), cut)


def version_names(store: Store) -> list[str]:
    """The names of all versions, the oldest first, without uploads that were cut short."""
    return list(history(store).names)


def _entries(store: Store, folder: str) -> dict[str, bool]:
    """Name -> whether it is a commit, for all versions in a folder, the oldest first."""
    found = filter(None, map(_ENTRY.fullmatch, store.names_in(folder)))
    return dict(sorted(((match[1], match[2] is not None) for match in found), key=lambda one: number_of(one[0])))


def _is_cut(store: Store, name: str, known: set[str | None]) -> bool:
    """Whether a folder on object storage is the rest of an upload that was cut short, and so never was a version.

    pairsmith up to 0.2.0 uploaded a version's files one by one to where readers looked for them. A folder that `latest`
    leads to, or that was decided about, was whole once.
    """
    if name in known or store.files.local_path(name):
        return False
    there = store.files.tree(f"versions/{name}")
    if "version.json" not in there:
        return True
    version = version_at(store, name)
    return version is not None and not there.keys() >= version.files.keys()


def number_of(name: str) -> int:
    return int(name[1:])


def latest_name(store: Store) -> str | None:
    """The version that `latest` leads to; None before the first."""
    path = store.points_to(LATEST)
    return path.removeprefix("versions/") if path else None


def latest_version(store: Store) -> Version | None:
    """The version that `latest` leads to; None before the first or where it is damaged."""
    name = latest_name(store)
    return version_at(store, name) if name else None


def version_at(store: Store, name: str) -> Version | None:
    """A version by its name, also one that was pruned; None where its version.json is absent or damaged.

    Raises StorageUnreachable where that is not known, and DataError where a newer pairsmith wrote it.
    """
    folder = f"versions/{name}"
    try:
        about = _about(store, name)
        return described(store.url(folder), about)
    except (FileNotFoundError, DamagedFile, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = "%s: version.json is absent or damaged (%s); the next version takes its place"
        log.warning(problem, store.url(folder), error)
        return None


def described(folder: str, about: Any) -> Version:
    """The version at an address that a version.json describes. Raises DataError where a newer pairsmith wrote it."""
    check_version(folder, about)
    return Version(
        name=str(about["version"]),
        folder=folder,
        pairs=int(about["pairs"]),
        digest=str(about["digest"]),
        files=dict(about["files"]),
        needs_approval=about.get("approval") == "required",
        made_at=about.get("made_at"),
        about=about,
        parts=dict(about.get("parts", {})),
        reasons=tuple(about.get("reasons", ())),
    )


def _about(store: Store, name: str) -> Any:
    """A version's version.json: a commit, in the version's folder, or what was kept of a pruned version."""
    for place in (f"versions/{name}.json", f"versions/{name}/version.json"):
        with suppress(FileNotFoundError):
            return store.read_json(place)
    return store.read_json(f"{PRUNED}/{name}.json")


def is_whole(store: Store, version: Version) -> bool:
    """Whether all data files of a version are there and unchanged."""
    return all(store.file_digest(version.place(name)) == digest for name, digest in version.files.items())


def waiting(store: Store) -> Version | None:
    """The candidate that waits for a decision, if there is one."""
    return version_at(store, name) if (name := history(store).waiting) else None


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


def move_latest(store: Store) -> History:
    """Let `latest` lead to the version that is due, whatever other machines publish and decide meanwhile."""
    while True:
        found = history(store)
        if found.due in (None, found.latest):
            return found
        store.point(LATEST, f"versions/{found.due}", f"versions/{found.latest}" if found.latest else None)


def settled(store: Store) -> History:
    """The history, after moving `latest` to where the last decision wants it, in case a crash prevented that."""
    all_versions = history(store)
    return move_latest(store) if all_versions.decided not in (None, all_versions.latest) else all_versions


def _named(store: Store, all_versions: History, name: str | None) -> str:
    """The name of a version that is there with unchanged files; raises RunError for any other."""
    if name is None:
        latest = f"; `latest` leads to {all_versions.latest}" if all_versions.latest else ""
        raise RunError(f"{store.root}: no version waits for a decision{latest}")
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
        move_latest(store)
    return decision

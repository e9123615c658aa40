"""F21: a read of state that fails is tried again and then stops the run; it never reads as absent or as damaged.

Every read of a small history is made to fail in turn, once and for good: building, building again, a candidate, the
list of versions, and its release. What is on the storage afterwards is what an undisturbed history leaves, or it is
what was there before, and the same step then leads to the same end.
"""

from __future__ import annotations

import copy
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import tenacity
from fsspec.implementations.memory import MemoryFileSystem

from pairsmith import build
from pairsmith.config import Recipe
from pairsmith.errors import RunError, StorageUnreachable, TableError
from pairsmith.stages.base import open_store
from pairsmith.status import versions_of
from pairsmith.storage import versions
from pairsmith.storage.lease import HeldLease
from pairsmith.storage.locks import hold_folder
from pairsmith.storage.object_files import ObjectFiles
from pairsmith.storage.reads import whole
from pairsmith.storage.store import Store
from pairsmith.storage.tables import pairs_ref
from pairsmith.storage.workspace_id import workspace_id
from tests.command_line import cli
from tests.faults.failing_reads import Bucket, Faults, local_reads
from tests.faults.harness import spread

Build = Callable[..., Recipe]
Tally = Callable[..., None]
ALL = "PAIRSMITH_KILLS" in os.environ  # `make faults` fails every read, the other tests some of each step
WORDS = {"by": "ann", "reason": "looked at it"}
Step = Callable[[], object]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairsmith.storage.reads._WAIT", tenacity.wait_none())
    monkeypatch.setattr("pairsmith.storage.lease.SECONDS", 1.0)  # a run whose reads fail for good cannot give it back


class Place:
    """A data set's storage, whose content can be kept and brought back, and whose reads fail when told."""

    def __init__(self, remote: bool, folder: Path) -> None:
        self._remote, self._folder = remote, folder
        self.workspace = "failing://bucket/ws" if remote else str(folder / "ws")
        self.root = folder / "ws" / "echo"
        self.ledger = folder / "ledger.sqlite"

    def keep(self) -> Any:
        """A copy of all that is stored."""
        replies = self.ledger.read_bytes() if self.ledger.exists() else None
        if self._remote:
            return copy.deepcopy({name: file.getvalue() for name, file in Bucket.store.items()}), replies
        kept = self._folder / "kept" / str(len(list((self._folder / "kept").glob("*"))))
        kept.mkdir(parents=True)
        if self.root.exists():
            shutil.copytree(self.root, kept / "echo", symlinks=True)
        return kept / "echo", replies

    def bring_back(self, kept: Any) -> None:
        content, replies = kept
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.ledger}{suffix}").unlink(missing_ok=True)
        if replies is not None:
            self.ledger.write_bytes(replies)
        if self._remote:
            Bucket.store.clear()
            Bucket.pseudo_dirs[:] = [""]
            for name, file in content.items():
                Bucket().pipe_file(name, file)
            return
        shutil.rmtree(self.root, ignore_errors=True)
        if content.exists():
            shutil.copytree(content, self.root, symlinks=True)

    @contextmanager
    def failing(self, faults: Faults) -> Iterator[None]:
        whole: AbstractContextManager[None] = nullcontext() if self._remote else local_reads(self.root, faults)
        Bucket.current = faults
        try:
            with whole:
                yield
        finally:
            Bucket.current = Faults()


@pytest.fixture(params=["folder", "object storage"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    yield Place(request.param == "object storage", tmp_path)
    Bucket.store.clear()
    Bucket.pseudo_dirs[:] = [""]


@pytest.fixture
def steps(echo_recipe: Build, place: Place) -> dict[str, Step]:
    where: dict[str, Any] = {"workspace": place.workspace, "ledger": f"sqlite:///{place.ledger}", "shard_size": 2}
    pairing: dict[str, Any] = {"length_control": True, "guard": {"repeated": 2}}
    whole: dict[str, Any] = where | {"pairing": pairing, "shards_in_flight": 1}

    def built(count: int, approval: str) -> Step:
        recipe = echo_recipe(count, publishing={"approval": approval}, **whole)
        text = Path(recipe.prompts.sources[0].path).read_bytes()

        def run() -> None:
            Path(recipe.prompts.sources[0].path).write_bytes(text)
            build(recipe)

        return run

    store = open_store(echo_recipe(1, **whole))
    return {
        "build": built(4, "none"),
        "build again": built(4, "none"),
        "candidate": built(6, "required"),
        "versions": lambda: versions_of(store),
        "release": lambda: versions.release(store, "v0002", **WORDS),
    }


def standing(place: Place) -> dict[str, Any]:
    """What a reader finds: digest, content and state of each version, and where `latest` leads."""
    store = Store(f"{place.workspace}/echo")
    past = versions.history(store)
    found: dict[str, Any] = {"latest": past.latest}
    for name in past.names:
        version = versions.version_at(store, name)
        assert version is not None
        assert versions.is_whole(store, version)
        found[name] = (version.digest, str(past.state(name)))
    return found


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "for good"])
def test_f21_no_failed_read_changes_what_is_published(
    place: Place, steps: dict[str, Step], lasting: bool, tally: Tally
) -> None:
    trials = 0
    for name, step in steps.items():
        before, found_before = place.keep(), standing(place)
        watched = Faults()
        with place.failing(watched):
            step()
        after, wanted = place.keep(), standing(place)
        for nth in range(1, watched.count + 1) if ALL else spread(watched.count, 2):
            place.bring_back(before)
            faults = Faults(nth, lasting)
            error = attempt(place, step, faults)
            assert faults.failed or faults.count < nth
            found = standing(place)
            where = f"{name}, read {nth} of {watched.count}: {error}"
            assert lasting or not isinstance(error, StorageUnreachable), where
            if error:
                assert place.workspace.removeprefix("failing://") in str(error), where
                assert all(found[one] in (found_before.get(one), wanted[one]) for one in found), where
                step()
                found = standing(place)
            assert found == wanted, where
            trials += 1
        place.bring_back(after)
    tally(trials=trials)


def attempt(place: Place, step: Step, faults: Faults) -> RunError | OSError | None:
    """The error with which a step stopped: one for which the command line prints a line and ends with exit code 1.

    An OSError is that of a write, which looks at the folder that it writes to.
    """
    with place.failing(faults):
        try:
            step()
        except (RunError, OSError) as error:
            return error
    return None


def test_f21_absent_damaged_and_out_of_reach_are_three_things(place: Place, steps: dict[str, Step]) -> None:
    steps["build"]()
    steps["candidate"]()
    store = Store(f"{place.workspace}/echo")
    table = next(iter(store.shards()))
    file = f"tables/{table}/pairs.all.parquet"
    ref = pairs_ref(table)
    with place.failing(watched := Faults()):
        store.fresh(ref, "")
    for nth in range(1, watched.count + 1):
        with place.failing(Faults(nth, lasting=True)), pytest.raises(StorageUnreachable, match=r"pairs\.all\.parquet"):
            store.fresh(ref, "")
    store.write_bytes(file, store.files.read(file)[:-100])
    with pytest.raises(TableError, match="not a readable table"):
        store.load(ref)
    store.files.remove(file)
    with pytest.raises(TableError, match="no such table"):
        store.load(ref)
    assert versions.history(store).state("v0002") == "candidate"
    with place.failing(watched := Faults()):
        versions.history(store).state("v0002")
    for nth in range(1, watched.count + 1):
        with place.failing(Faults(nth, lasting=True)), pytest.raises(StorageUnreachable):
            versions.history(store).state("v0002")
    is_folder = place.root.exists()
    about = "versions/v0002/version.json" if is_folder else "versions/v0002.json"
    store.write_bytes(about, b"{")
    assert versions.history(store).state("v0002") == "damaged"
    store.files.remove(about)
    if is_folder:  # a commit on object storage is that file alone
        assert versions.history(store).state("v0002") == "damaged"


def test_f21_the_command_line_names_the_file_and_ends_with_1(echo_recipe: Build) -> None:
    recipe = echo_recipe(3)
    build(recipe)
    root = Path(recipe.workspace, recipe.name)
    file = root / "versions" / "v0001" / "version.json"
    file.unlink()
    file.mkdir()  # a read fails, and not because the file is absent
    ended = cli("versions", str(root))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"{file}: cannot be reached" in ended.stderr


@pytest.mark.parametrize("lasting", [False, True])
def test_f21_a_folder_that_cannot_be_looked_at_for_a_moment_is_held_all_the_same(tmp_path: Path, lasting: bool) -> None:
    folder, counted = tmp_path / "echo", Faults()
    folder.mkdir()
    with local_reads(tmp_path, counted), hold_folder(folder, "busy"):
        pass
    assert counted.count
    for nth in range(1, counted.count + 1):
        with local_reads(tmp_path, Faults(nth, lasting)):
            if lasting:
                with pytest.raises(StorageUnreachable, match="cannot be reached"), hold_folder(folder, "busy"):
                    pass
            else:
                with hold_folder(folder, "busy"):
                    pass


def _lease(files: ObjectFiles) -> Any:
    lease = HeldLease(files, "me", 0.2)
    lease.take()
    lease._release()
    return HeldLease(files, "you", 0.2).take()


def _pointer(files: ObjectFiles) -> Any:
    files.point("latest", "v0001", None)
    return files.point("latest", "v0002", "v0001")


def _id(files: ObjectFiles) -> Any:
    return workspace_id(files) == workspace_id(files)


def _whole(files: ObjectFiles) -> Any:
    files.write("data.jsonl", b"{}\n{}\n")
    return whole(files, "data.jsonl", hashlib.sha256(b"{}\n{}\n").hexdigest())


@pytest.mark.parametrize(("work", "given"), [(_lease, None), (_pointer, True), (_id, True), (_whole, b"{}\n{}\n")])
def test_f21_bytes_that_came_short_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[[ObjectFiles], Any], given: Any
) -> None:
    files, real, short = ObjectFiles(MemoryFileSystem(), f"/{tmp_path.name}-{work.__name__}"), ObjectFiles.read, [0]

    def cut(self: ObjectFiles, name: str) -> bytes:
        """Every second read of a file gives half of it."""
        short[0] += 1
        content = real(self, name)
        return content[: len(content) // 2] if short[0] % 2 else content

    monkeypatch.setattr(ObjectFiles, "read", cut)
    assert work(files) == given
    assert short[0]

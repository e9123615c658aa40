"""F3: a disk that is full, or that fails, at any write ends a run with an error that says so and names the place.

The data set that was published before can still be read, whole. Once there is room, the run is finished by running it
again; no reply that could be recorded is asked for again.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pairsmith.config import Recipe
from pairsmith.errors import DataError, PairsmithError
from pairsmith.ledger.ledger import Ledger
from pairsmith.ledger.replies import Account, Entry
from pairsmith.protocol import Identity, Reply
from pairsmith.session import process_session
from pairsmith.stages.load import load
from pairsmith.testing import FakeEndpoint
from tests.conftest import ROOT
from tests.faults.conftest import CONCURRENCY
from tests.faults.harness import Failing, Outcome, complete, digest_of_latest, ended, repeated, spread

Build = Callable[..., Recipe]
Tally = Callable[..., None]
SMALL: dict[str, Any] = {"members": 2, "shard_size": 6}
KILOBYTES = 1024


@dataclass(frozen=True)
class Growth:
    """A data set of 12 prompts that is published, and about to get 6 more."""

    build: Build
    published: Outcome
    expected: Outcome
    folder: Path

    def recipe(self, endpoint: FakeEndpoint, workspace: Path) -> Recipe:
        """The run over all prompts, in a copy of the workspace."""
        shutil.copytree(self.folder, workspace, symlinks=True)
        return self.build(endpoint, 18, workspace=str(workspace), **SMALL)


@pytest.fixture
def growth(base_recipe: Build, tmp_path: Path) -> Growth:
    with FakeEndpoint() as endpoint:
        first = base_recipe(endpoint, 12, workspace=str(tmp_path / "first"), **SMALL)
        published = complete(first)
        made = Growth(base_recipe, published, published, tmp_path / "first")
        return Growth(base_recipe, published, complete(made.recipe(endpoint, tmp_path / "whole")), tmp_path / "first")


def check(growth: Growth, recipe: Recipe, failed: Outcome, *what: str) -> None:
    """A run failed with a clear error, and a whole data set is there: the old one, unless the new one was in place."""
    assert failed.code == 1
    assert any(told in failed.error for told in what), failed.error
    if "ledger" in failed.error:
        assert failed.error.startswith("DataError: ledger"), failed.trace
    there = digest_of_latest(Path(recipe.workspace, recipe.name))
    assert there in (growth.published.digest, growth.expected.digest)


def check_resumes(growth: Growth, recipe: Recipe, endpoint: FakeEndpoint, failed: Outcome, tally: Tally) -> None:
    again = complete(recipe)
    tally(1, again.lost, repeated(endpoint))
    assert (again.digest, again.lost) == (growth.expected.digest, 0)
    assert repeated(endpoint) <= (CONCURRENCY if "ledger" in failed.error else 0)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
@pytest.mark.parametrize("step", ["sync", "rename", "link"])
def test_f3_a_failure_at_each_write(
    growth: Growth, kills: int, tmp_path: Path, tally: Tally, step: str, code: int
) -> None:
    assert growth.expected.steps is not None
    for nth in spread(growth.expected.steps[step], kills // 2):
        with FakeEndpoint() as endpoint:
            recipe = growth.recipe(endpoint, tmp_path / f"trial-{nth}")
            failed = ended(recipe, trouble=Failing(step, nth, code))
            check(growth, recipe, failed, os.strerror(code))
            check_resumes(growth, recipe, endpoint, failed, tally)


def limit_files(size: int) -> None:
    """Let this process write no file beyond so many bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.mark.parametrize("size", [1, 4, 16, 64])
def test_f3_files_that_cannot_grow(growth: Growth, tmp_path: Path, tally: Tally, size: int) -> None:
    with FakeEndpoint() as endpoint:
        recipe = growth.recipe(endpoint, tmp_path / "trial")
        failed = ended(recipe, prepare=partial(limit_files, size * KILOBYTES))
        check(growth, recipe, failed, os.strerror(errno.EFBIG), "disk I/O error", "disk is full")
        check_resumes(growth, recipe, endpoint, failed, tally)


class Disk:
    """A small file system of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._mount("-t", "tmpfs", "-o", "size=64m", "none")

    def _mount(self, *words: str) -> None:
        subprocess.run(["mount", *words, str(self.folder)], check=True, capture_output=True)

    def leave(self, free: int) -> None:
        """Shrink it until so many bytes are free."""
        about = os.statvfs(self.folder)
        used = (about.f_blocks - about.f_bfree) * about.f_frsize
        self._mount("-o", f"remount,size={used + free}")

    def remove(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Skipped where file systems cannot be mounted."""
    try:
        made = Disk(tmp_path / "disk")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a file system of a test's own cannot be mounted here: {error}")
    yield made
    made.remove()


@pytest.mark.parametrize("free", [0, 8, 32, 64, 96, 128, 160])
def test_f3_a_disk_that_is_really_full(growth: Growth, disk: Disk, tally: Tally, free: int) -> None:
    with FakeEndpoint() as endpoint:
        recipe = growth.recipe(endpoint, disk.folder / "data")
        disk.leave(free * KILOBYTES)
        failed = ended(recipe)
        check(growth, recipe, failed, os.strerror(errno.ENOSPC), "disk is full", "disk I/O error")
        disk.leave(16 * 1024 * KILOBYTES)
        check_resumes(growth, recipe, endpoint, failed, tally)


def test_f3_a_ledger_on_a_full_disk_names_itself_and_goes_on_with_room(disk: Disk) -> None:
    book = Ledger(f"sqlite:///{disk.folder}/ledger.sqlite")
    account = Account(book.url, Identity("echo", "m"))
    disk.leave(0)
    with pytest.raises(DataError, match="ledger.*(full|I/O)"):
        for number in range(1000):
            book.replies.record([Entry(account, f"lost-{number}", Reply("x" * 1000, "stop"))])
    disk.leave(16 * 1024 * KILOBYTES)
    book.replies.record([Entry(account, "kept", Reply("text", "stop"))])
    assert book.replies.get(["kept"]) == {"kept": Reply("text", "stop")}


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_f3_an_error_names_the_file(
    base_recipe: Build, endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    recipe = base_recipe(endpoint, 12, **SMALL)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, full)
    with pytest.raises((OSError, PairsmithError), match=re.escape(recipe.workspace)):
        load(recipe, process_session())


def test_f3_the_command_line_says_so_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from pairsmith_flows.__main__ import main
    from pairsmith_flows.cli import recipe_commands

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/base/versions")

    monkeypatch.setattr(recipe_commands, "run_flow", full)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        told = CliRunner().invoke(main, ["run", str(ROOT / "recipes" / "echo.yaml")])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert told.exit_code == 1
    assert told.stderr.startswith("error: ")
    assert "No space left on device" in told.stderr
    assert "/data/base/versions" in told.stderr

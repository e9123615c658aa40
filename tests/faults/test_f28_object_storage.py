"""F28: on object storage a version is whole or not there, and no number is given twice.

Uploads are cut short, two publish at once, others publish meanwhile, and a storage ignores conditions. All on real S3
servers over HTTP: moto's, which keeps to conditional writes, and rclone's, which does not.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from pairsmith import Dataset
from pairsmith.config import Recipe
from pairsmith.publishing import publish as publishing
from pairsmith.publishing.publish import Published
from pairsmith.stages.base import open_store
from pairsmith.storage import versions
from pairsmith.storage.formats import FILE, OBJECTS_FORMAT
from pairsmith.storage.opening import files_at
from pairsmith.storage.store import Store
from pairsmith_flows.__main__ import main
from pairsmith_flows.cli.exits import ENDING
from pairsmith_flows.cli.result import show_published
from tests.conftest import ROOT, clean_environment
from tests.runs import run

pytestmark = pytest.mark.s3
Build = Callable[..., Recipe]
Tally = Callable[..., None]
WHO = {"by": "ann", "reason": "looked at it"}
# A publisher that kills itself: at the nth call of a step, before or after it.
KILLED = """
import os, signal, sys
import s3fs
from pairsmith.config.loading import load_recipe
from pairsmith.storage.object_files import ObjectFiles
from tests.runs import run
recipe, step, nth, when = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
kind, name = {"upload": (s3fs.S3FileSystem, "_put_file"), "point": (ObjectFiles, "point"),
              "commit": (ObjectFiles, "write")}[step]
real, calls = getattr(kind, name), []

def end(*words):
    if step != "commit" or "versions/" in str(words[1]):
        calls.append(words)
        if len(calls) == nth:
            os.kill(os.getpid(), signal.SIGKILL)

def sync(*words, **more):
    if when == "before":
        end(*words)
    found = real(*words, **more)
    if when == "after":
        end(*words)
    return found

async def awaited(*words, **more):
    if when == "before":
        end(*words)
    found = await real(*words, **more)
    if when == "after":
        end(*words)
    return found

setattr(kind, name, awaited if step == "upload" else sync)
run(load_recipe(recipe))
"""


@pytest.fixture
def recipe_at(echo_recipe: Build, tmp_path: Path) -> Callable[..., Recipe]:
    """A recipe of so many prompts whose data set is in a bucket."""

    def build(bucket: str, count: int, **more: Any) -> Recipe:
        place = {"workspace": f"{bucket}/ws", "ledger": f"sqlite:///{tmp_path}/ledger.sqlite"}
        return echo_recipe(count, **place, **more)

    return build


def typed(*words: str) -> Result:
    """What a command says, run in this process, which gets back its own handlers of signals."""
    before = {number: signal.getsignal(number) for number in ENDING}
    try:
        return CliRunner().invoke(main, words, env={"COLUMNS": "140"})
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def whole(store: Store) -> dict[str, str]:
    """Name -> digest of all versions, each of them whole."""
    found = {name: versions.version_at(store, name) for name in versions.version_names(store)}
    assert all(version and versions.is_whole(store, version) for version in found.values())
    return {name: version.digest for name, version in found.items() if version}


@pytest.mark.parametrize("other", [9, 12])
def test_f28_two_publishers_at_once_get_two_numbers_or_one_version(
    s3: str, recipe_at: Build, other: int, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    """The second publishes just before the first commits, as if no lock kept them apart."""
    monkeypatch.setattr(publishing, "deciding", lambda _: nullcontext())
    run(recipe_at(s3, 6))
    real, found = publishing.commit, []

    def commit_after_another(*words: Any) -> bool:
        monkeypatch.setattr(publishing, "commit", real)
        found.append(run(recipe_at(s3, other))[0])
        return real(*words)

    monkeypatch.setattr(publishing, "commit", commit_after_another)
    first = run(recipe_at(s3, 12))[0]
    (second,) = found
    assert (second.version, second.new, second.latest) == ("v0002", True, "v0002")
    expected = ("v0003", True, "v0003") if other != 12 else ("v0002", False, "v0002")
    assert (first.version, first.new, first.latest) == expected
    digests = whole(open_store(recipe_at(s3, 1)))
    assert (digests[second.version], digests[first.version]) == (second.digest, first.digest)
    assert len(set(digests.values())) == len(digests)
    tally()


def test_f28_what_another_process_published_is_seen_at_once(s3: str, recipe_at: Build, tally: Tally) -> None:
    run(recipe_at(s3, 4))
    store = open_store(recipe_at(s3, 1))
    assert versions.history(store).names == ("v0001",)
    client, bucket = boto3.client("s3"), s3.removeprefix("s3://")
    commit = store.read_json("versions/v0001.json") | {"version": "v0002", "digest": "other"}
    client.put_object(Bucket=bucket, Key="ws/echo/versions/v0002.json", Body=json.dumps(commit).encode())
    assert versions.history(store).names == ("v0001", "v0002")
    assert run(recipe_at(s3, 5))[0].version == "v0003"
    tally()


@pytest.mark.parametrize("step", [("upload", 1, "after"), ("commit", 1, "before"), ("commit", 1, "after"),
                                  ("point", 1, "before")])  # fmt: skip
def test_f28_a_publisher_that_is_killed_leaves_all_or_nothing(
    careless_s3: str, recipe_at: Build, tmp_path: Path, step: tuple[str, int, str], tally: Tally
) -> None:
    run(recipe_at(careless_s3, 4))
    file, recipe = tmp_path / "recipe.json", recipe_at(careless_s3, 6)
    file.write_text(recipe.model_dump_json(exclude_none=True))
    command = [sys.executable, "-c", KILLED, str(file), *map(str, step)]
    done = subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    store = open_store(recipe)
    committed = step in (("commit", 1, "after"), ("point", 1, "before"))
    assert list(whole(store)) == ["v0001", "v0002"][: 1 + committed]
    assert versions.latest_name(store) == "v0001"
    again, _, calls = run(recipe)
    assert (again.version, again.latest, again.new, dict(calls)) == ("v0002", "v0002", True, {})
    assert list(whole(store)) == ["v0001", "v0002"]
    tally()


def test_f28_an_upload_cut_by_an_older_pairsmith_blocks_nothing(s3: str, recipe_at: Build, tally: Tally) -> None:
    approval = {"publishing": {"approval": "required"}}
    candidate = run(recipe_at(s3, 4, **approval))[0]
    store = open_store(recipe_at(s3, 1))
    about = store.read_json("versions/v0001.json") | {"version": "v0002", "approval": "none"}
    del about["parts"]
    store.write_json("versions/v0002/version.json", about)
    store.write_bytes("versions/v0003/README.md", b"of a version that never came")
    assert versions.history(store).names == ("v0001",)
    decision = versions.release(store, None, **WHO)
    assert (decision.version, versions.latest_name(store)) == (candidate.version, "v0001")
    assert "an upload that was cut short" in typed("versions", store.url("").rstrip("/")).stdout
    following = run(recipe_at(s3, 5, **approval))[0]
    assert (following.version, following.state) == ("v0004", "candidate")
    assert versions.reject(store, None, **WHO).version == "v0004"
    tally()


def test_f28_a_storage_without_conditional_writes_is_told_apart_and_said(
    careless_s3: str, recipe_at: Build, caplog: pytest.LogCaptureFixture, tally: Tally
) -> None:
    with caplog.at_level(logging.WARNING):
        published = run(recipe_at(careless_s3, 4))[0]
    assert (published.version, published.latest) == ("v0001", "v0001")
    assert "does not refuse to create a file that is there already" in caplog.text
    files = open_store(recipe_at(careless_s3, 1)).files
    assert not files.keeps_conditions()
    assert not [name for name in files.tree("") if ".tried" in name]
    tally()


def test_f28_a_storage_with_conditional_writes_is_tried_once(s3: str, recipe_at: Build, tally: Tally) -> None:
    run(recipe_at(s3, 4))
    store = open_store(recipe_at(s3, 1))
    assert store.read_json("conditional-writes.json") == {"kept": True}
    store.write_json("conditional-writes.json", {"kept": False})
    assert not files_at(store.url("")).keeps_conditions()
    assert store.read_json(FILE) == {"format": OBJECTS_FORMAT}
    tally()


def moved_to(bucket: str, folder: Path) -> Store:
    """A data set as pairsmith 0.2.0 kept it on object storage: its versions are folders."""
    store = Store(f"{bucket}/ws/echo")
    client = boto3.client("s3")
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith(".") and "latest" not in path.relative_to(folder).parts:
            key = f"ws/echo/{path.relative_to(folder).as_posix()}"
            client.upload_file(str(path), bucket.removeprefix("s3://"), key)
    store.write_json("latest.json", {"name": f"versions/{(folder / 'latest').resolve().name}"})
    return store


@pytest.mark.parametrize("kind", ["commits", "folders of an older pairsmith"])
def test_f28_every_command_takes_a_url(
    s3: str, recipe_at: Build, echo_recipe: Build, tmp_path: Path, kind: str, tally: Tally
) -> None:
    build = (lambda count, **more: recipe_at(s3, count, **more)) if kind == "commits" else echo_recipe
    run(build(4))
    run(build(6))
    waits = run(build(7, publishing={"approval": "required"}))[0]
    if kind != "commits":
        moved_to(s3, tmp_path / "data" / "echo")
    url, out = f"{s3}/ws/echo", tmp_path / "out"
    commands: dict[str, list[str]] = {
        "v0003 waits": ["versions", url],
        "chosen: ": ["show", url],
        "added: 2": ["diff", url, "v0001", "v0002"],
        "Prompts": ["compare", f"{url}/versions/v0001", url],
        "echo-judge": [
            "ledger",
            "--ledger",
            f"sqlite:///{tmp_path}/{'' if kind == 'commits' else 'data/'}ledger.sqlite",
        ],
        "v0002": ["status", f"{s3}/ws"],
        "v0001: 4 pairs": ["export", f"{url}/versions/v0001", str(out)],
        "v0003: released": ["release", url, "--reason", "good"],
        "v0002: rolled back": ["rollback", url, "v0002", "--reason", "bad"],
        "removed: v0001": ["versions", url, "--prune", "--keep", "1"],
    }
    for answer, words in commands.items():
        told = typed(*words)
        assert told.exit_code == 0, (words, told.stderr)
        assert answer.removesuffix(" waits") in told.stdout, (words, told.stdout)
    run(recipe_at(s3, 9, publishing={"approval": "required"}))
    assert "v0004: rejected" in typed("reject", url, "--reason", "bad").stdout
    assert waits.version == "v0003"
    import datasets

    assert len(datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))["train"]) == 4
    assert len(Dataset(url).pairs("v0002")) == len(Dataset(url).pairs()) == 6
    tally()


def test_f28_the_message_about_approval_names_what_can_be_typed(s3: str, recipe_at: Build, tally: Tally) -> None:
    recipe = recipe_at(s3, 4, publishing={"approval": "required"})
    published: Published = run(recipe)[0]
    console = Console(record=True, width=200, file=open(os.devnull, "w"))  # noqa: SIM115
    shown: dict[str, Any] = {"funnel": [], "passed_over": "", "usage": []}
    show_published(console, recipe, vars(published) | shown)
    said = console.export_text()
    words = said.partition("`pairsmith ")[2].partition("`")[0].replace("...", "good").split()
    assert "v0001: released" in typed(*words).stdout, words
    card = next(line.split()[-1] for line in said.splitlines() if line.strip().startswith("card:"))
    assert files_at(card.rpartition("/")[0]).read("README.md").startswith(b"---")
    tally()


def test_f28_an_export_of_what_was_damaged_is_refused(s3: str, recipe_at: Build, tmp_path: Path, tally: Tally) -> None:
    run(recipe_at(s3, 4))
    data = Dataset(f"{s3}/ws/echo")
    exported = data.export(tmp_path / "out")
    assert sorted(path.name for path in exported.iterdir()) == ["README.md", "data", "recipe.yaml", "report.html",
                                                                "version.json"]  # fmt: skip
    (version,) = data.versions
    data.store.write_bytes(version.place(next(iter(version.files))), b"PAR1")
    told = typed("export", f"{s3}/ws/echo", str(tmp_path / "again"))
    assert (told.exit_code, "damaged: not as it was written" in told.stderr) == (3, True)
    assert not (tmp_path / "again").exists()
    assert "not empty" in typed("export", f"{s3}/ws/echo", str(exported)).stderr
    shutil.rmtree(exported)
    tally()

"""F23: a branch on the hub moves, or a model's folder is copied or trained on: a version holds one model's answers.

What earlier versions kept under a name that says less is known where that name still means these weights, and else only
where a person says so.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from pairsmith.building.runs import build as build_dataset
from pairsmith.config import Recipe
from pairsmith.ledger.bookkeeping import ledger_at
from pairsmith.llms.local import folder_content, named_weights, transformers
from pairsmith.llms.local.named_weights import Located, located
from pairsmith.llms.local.transformers import Transformers
from pairsmith.protocol import Finished, Reply, Request
from pairsmith.stages.base import open_store
from pairsmith.storage.tables import pool_ref
from pairsmith_flows.__main__ import main
from tests.conftest import clean_environment
from tests.hub import MODEL, Hub, serving

Build = Callable[..., Recipe]
Tally = Callable[..., None]
A, B = "a" * 40, "b" * 40


@pytest.fixture
def commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str | None]:
    """What the hub says is the commit of `main`; None where it cannot be reached."""
    state: dict[str, str | None] = {"main": A}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PAIRSMITH_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(named_weights, "_commits", named_weights._Commits())
    monkeypatch.setattr(named_weights, "_resolved", lambda model, name: (state.get(name or "main"), "no network"))
    monkeypatch.setattr(folder_content, "_known", {})
    return state


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, commit: dict[str, str | None]) -> list[str | None]:
    """The revision of the weights that answered, for each request that reached weights."""
    seen: list[str | None] = []

    def stream(self: Transformers, requests: Sequence[Request]) -> Iterator[Finished]:
        for place, one in enumerate(requests):
            seen.append(self.identity.revision)
            if len(seen) == commit.get("moves after"):
                commit["main"] = B
            yield [(place, Reply(f"{self.identity.revision}, {one.seed}, {one.messages[-1]['content']}", "stop", 3, 4))]

    monkeypatch.setattr(Transformers, "stream", stream)
    return seen


@pytest.fixture
def build(echo_recipe: Build) -> Build:
    """Builds a recipe of two members, one of them weights, over n prompts in shards of 4."""

    def make(count: int = 6, model: str = MODEL, **member: Any) -> Recipe:
        weights = {"name": "weights", "backend": "transformers", "model": model, **member}
        members = [weights, {"name": "echo", "backend": "echo", "model": "echo"}]
        return echo_recipe(count, shard_size=4, pool={"members": members})

    return make


def revisions(recipe: Recipe) -> set[str]:
    """The revisions of all completions in the tables of the newest version's shards."""
    store = open_store(recipe)
    return {name for shard in store.shards() for name in store.read(pool_ref(shard, "weights"))["revision"]}


def card_of(recipe: Recipe) -> str:
    return Path(open_store(recipe).path("latest/README.md")).read_text()


def test_f23_a_branch_that_moves(build: Build, asked: list[str], commit: dict[str, str | None], tally: Tally) -> None:
    build_dataset(build(6))
    assert asked == [A] * 6
    commit["main"] = B
    grown = build(10)
    build_dataset(grown)
    assert asked[6:] == [B] * 10
    tally(1, lost=int(revisions(grown) != {B}), repeated=0)
    assert revisions(grown) == {B}
    assert B in card_of(grown)
    assert A not in card_of(grown)
    commit["main"] = A
    build_dataset(grown)
    assert asked[16:] == [A] * 4  # the others are in the ledger


def test_f23_a_branch_that_moves_during_a_run(build: Build, asked: list[str], commit: dict[str, Any]) -> None:
    commit["moves after"] = 2
    recipe = build(10)
    build_dataset(recipe)
    assert (commit["main"], asked) == (B, [A] * 10)
    assert revisions(recipe) == {A}
    assert A in card_of(recipe)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "weights"
    made.mkdir()
    for name in ("model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"):
        (made / name).write_bytes(name.encode() * 50)
        os.utime(made / name, ns=(10**18, 10**18))
    return made


def test_f23_a_folder_that_is_copied_or_changed(build: Build, asked: list[str], folder: Path, tally: Tally) -> None:
    build_dataset(build(6, model=str(folder)))
    copy = folder.parent / "copy"
    shutil.copytree(folder, copy, copy_function=shutil.copyfile)
    build_dataset(build(6, model=str(copy)))
    tally(1, repeated=len(asked) - 6)
    assert len(asked) == 6
    (copy / "chat_template.jinja").write_bytes(b"chat_template.jinjA" * 50)
    changed = build(6, model=str(copy))
    build_dataset(changed)
    assert len(asked) == 12
    assert len(revisions(changed)) == 1
    build_dataset(build(6, model=str(folder)))
    assert len(asked) == 12


def as_before(monkeypatch: pytest.MonkeyPatch, recipe: Recipe) -> None:
    """Build a data set as earlier versions did: a folder's name is made of its files' sizes and times."""

    def old(model: str, revision: str | None) -> Located:
        found = located(model, revision)
        return Located(found.path, found.earlier)

    with monkeypatch.context() as before:
        before.setattr(transformers, "located", old)
        build_dataset(recipe)


@pytest.mark.parametrize("touched", [False, True])
def test_f23_replies_under_a_folders_earlier_name(
    build: Build, asked: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, touched: bool
) -> None:
    """Known, and moved to the new key, where no file was touched since; else nothing says that they are of it."""
    recipe = build(6, model=str(folder))
    as_before(monkeypatch, recipe)
    assert {name[:7] for name in asked} == {"folder-"}
    ledger = ledger_at(Path(recipe.workspace))
    if touched:
        os.utime(folder / "config.json")
    build_dataset(recipe)
    assert len(asked) == (12 if touched else 6)
    kept = Counter(row["revision"][:6] for row in ledger.replies.rows() if row["backend"] == "transformers")
    assert kept == ({"files-": 6, "folder": 6} if touched else {"files-": 6})
    shutil.rmtree(open_store(recipe).path("tables"))
    build_dataset(recipe)
    assert len(asked) == (12 if touched else 6)


@pytest.mark.parametrize("adopted", [False, True])
def test_f23_replies_under_no_revision(
    build: Build,
    asked: list[str | None],
    commit: dict[str, str | None],
    caplog: pytest.LogCaptureFixture,
    adopted: bool,
    tally: Tally,
) -> None:
    """A run says how many there are, and uses them only where a person says whose they are."""
    recipe = build(6)
    commit["main"] = None  # so the model has the name that earlier versions gave it
    build_dataset(recipe)
    assert asked == [None] * 6
    commit["main"] = A
    if adopted:
        words = ["ledger", "--workspace", recipe.workspace, "adopt", MODEL]
        told = CliRunner().invoke(main, words, catch_exceptions=False).output
        assert told.startswith(f"6 replies of {MODEL} now count as those of commit {A}")
    with caplog.at_level(logging.WARNING):
        build_dataset(recipe)
    said = [one for one in caplog.messages if "pairsmith ledger adopt" in one]
    assert [f"{MODEL}: 6 replies" in one for one in said] == ([] if adopted else [True])
    tally(1, repeated=len(asked) - 6 if adopted else 0)
    assert asked[6:] == ([] if adopted else [A] * 6)
    assert revisions(recipe) == {A}
    assert (A in card_of(recipe)) != adopted  # the same texts are the same version, whose card does not change
    commit["main"] = B
    build_dataset(recipe)
    assert asked[-6:] == [B] * 6  # the adopted replies are of the other commit alone


def test_f23_replies_under_a_tag(build: Build, asked: list[str | None], commit: dict[str, str | None]) -> None:
    recipe = build(6, revision="v1")
    build_dataset(recipe)
    commit["v1"] = B
    words = ["ledger", "--workspace", recipe.workspace, "adopt", MODEL, "--revision", "v1"]
    assert CliRunner().invoke(main, words, catch_exceptions=False).output.startswith("6 replies")
    build_dataset(recipe)
    assert asked == ["v1"] * 6
    assert revisions(recipe) == {B}


def test_f23_models_of_the_local_store_keep_their_revision(build: Build, asked: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "models" / MODEL.replace("/", "--")
    folder.mkdir(parents=True)
    (folder / "pairsmith-source.json").write_text(json.dumps({"revision": "gguf-1"}))
    build_dataset(build(6))
    assert asked == ["gguf-1"] * 6


SCRIPT = """
import json, sys, pairsmith
from pairsmith.stages.base import open_store
from pairsmith.storage.schemas import rows as rows_of
from pairsmith.storage.tables import pool_ref
recipe = pairsmith.load_recipe(sys.argv[1])
out = pairsmith.build(recipe)
store = open_store(recipe)
rows = [row for shard in out.loaded.shards for row in rows_of(store.read(pool_ref(shard, "weights")))]
calls = sum(row["calls"] for row in out.usage if row["who"] == "weights")
print(json.dumps({"calls": calls, "revisions": sorted({row["revision"] for row in rows}), "texts": {
    row["prompt_id"]: row["text"] for row in rows}, "errors": [row["error"] for row in rows if row["error"]]}))
"""


def in_a_process(recipe: Recipe, tmp_path: Path, hub: Hub, **environment: str) -> dict[str, Any]:
    """Build a data set in a process whose hub is this one."""
    written = tmp_path / "recipe.yaml"
    written.write_text(yaml.safe_dump(recipe.model_dump(mode="json", exclude_defaults=True)))
    names = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "PAIRSMITH_MODELS": str(tmp_path / "models")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(written)], check=False, capture_output=True, text=True, cwd=tmp_path,
        env=clean_environment(**names, HF_HUB_DISABLE_XET="1", XDG_CACHE_HOME=str(tmp_path / "cache"), **environment),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_f23_weights_of_a_hub_over_http(build: Build, tmp_path: Path, tally: Tally) -> None:
    """Tiny weights of two commits: downloaded at the commit that the run began with, and offline from the cache."""
    import torch

    from tests.tiny import model_at

    old = model_at(tmp_path / "old", head="CausalLM")
    shutil.copytree(old, new := tmp_path / "new")
    from safetensors.torch import load_file, save_file

    weights = load_file(new / "model.safetensors")
    torch.manual_seed(1)
    changed = {name: value + 0.5 * torch.randn_like(value) for name, value in weights.items()}
    save_file(changed, new / "model.safetensors", metadata={"format": "pt"})
    sampling = {"sampling": {"max_tokens": 8, "temperature": 0}, "local": {"device": "cpu"}}
    with serving(main=A) as hub:
        hub.commits = {A: old, B: new}
        first = in_a_process(build(4, **sampling), tmp_path, hub)
        hub.refs["main"] = B
        second = in_a_process(build(6, **sampling), tmp_path, hub)
        hub.refs["main"] = 503
        third = in_a_process(build(6, **sampling), tmp_path, hub, HF_HUB_OFFLINE="1")
    assert (first["calls"], first["revisions"], first["errors"]) == (4, [A], [])
    assert (second["calls"], second["revisions"], second["errors"]) == (6, [B], [])
    assert all(second["texts"][name] != text for name, text in first["texts"].items())
    assert (third["calls"], third["revisions"]) == (0, [B])
    tally(3, repeated=third["calls"])

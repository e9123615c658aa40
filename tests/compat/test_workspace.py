"""A workspace that version 0.1.0 made opens with today's code, and nothing of it is lost.

`workspace-0.1.0.tar.xz` was made by commit 43668c7 in /srv/example, as `make-workspace-0.1.0.sh` tells (a zip would
not keep the link `latest`). It holds a recipe, its prompts, and the workspace: a ledger, and a data set with three
versions. v0001 was released, and v0002 after prompts were added; v0003, of another strategy, was rejected. Here it
stands in another folder: ids and published rows name no folder, only a prompt file's name, so they do not change.
"""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from pairsmith.config import Recipe
from pairsmith.config.loading import load_recipe
from pairsmith.ledger.ledger import open_ledger
from pairsmith.llms.echo import Echo
from pairsmith.protocol import Request
from pairsmith.reporting.comparison import compare
from pairsmith.reporting.prompt_changes import changes
from pairsmith.session import process_session
from pairsmith.stages.base import open_store
from pairsmith.status import datasets_of, versions_of
from pairsmith.storage import versions
from pairsmith.storage.addresses import named_version
from pairsmith.storage.datafiles import data_files
from pairsmith.storage.dataset import Dataset
from pairsmith.storage.store import Store
from pairsmith.storage.tables import rated_refs
from pairsmith_flows.cli.terminal import read_pairs
from tests.runs import run

ARCHIVE = Path(__file__).parent / "workspace-0.1.0.tar.xz"


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """The recipe of the unpacked workspace."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return load_recipe(tmp_path / "recipe.yaml", [f"workspace={tmp_path / 'data'}"])


@pytest.fixture
def store(recipe: Recipe) -> Store:
    return open_store(recipe)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets no model answer: whatever is asked is not in the ledger."""

    def refuse(_: Echo, requests: Sequence[Request]) -> None:
        pytest.fail(f"the ledger does not know {len(requests)} requests, the first of them {requests[0].messages}")

    monkeypatch.setattr(Echo, "stream", refuse)


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("lost", [(), ("tables",), ("tables", "versions", "decisions", "latest")], ids="-".join)
def test_every_reply_is_known_and_the_same_pairs_come_of_them(
    recipe: Recipe, store: Store, lost: tuple[str, ...]
) -> None:
    """Also where all tables are gone, so that every key, draw and text is made anew from the ledger's replies."""
    before, replies = versions.latest_version(store), open_ledger(recipe.ledger_url, process_session()).replies.count()
    assert before is not None
    for name in lost:
        path = Path(store.path(name))
        path.unlink() if path.is_symlink() else shutil.rmtree(path)
    published, summary, calls = run(recipe)
    assert not calls
    assert open_ledger(recipe.ledger_url, process_session()).replies.count() == replies
    assert (published.digest, published.pairs, summary.paired) == (before.digest, before.pairs, 6)
    if "versions" not in lost:
        assert (published.new, published.version, published.latest) == (False, "v0002", "v0002")
        assert versions.version_names(store) == ["v0001", "v0002", "v0003"]


def test_versions_and_the_decisions_about_them_are_read(store: Store) -> None:
    told = [(row["version"], row["state"], row["by"], row["reason"]) for row in versions_of(store)]
    assert told == [
        ("v0001", "released", "editor", "the first version reads well"),
        ("v0002", "released, latest", "editor", "more prompts"),
        ("v0003", "rejected", "editor", "one pair a prompt is too few"),
    ]
    found = [versions.version_at(store, name) for name in versions.version_names(store)]
    assert all(version and versions.is_whole(store, version) for version in found)
    assert versions.latest_name(store) == "v0002"


def test_versions_are_compared_and_shown(store: Store) -> None:
    first, second = (data_files(store, named_version(store, name)) for name in ("v0001", "v0002"))
    found = changes(first, second)
    assert (found.added, found.removed, found.changed + found.kept) == (2, 0, 4)
    folders = [Path(store.path(f"versions/{name}")) for name in ("v0001", "v0002")]
    assert compare(*folders).prompts_in_both == 4
    pairs = read_pairs(Path(store.root), 100)
    latest = versions.latest_version(store)
    assert latest is not None
    assert len(pairs) == latest.pairs
    assert {pair["source"] for pair in pairs} == {"prompts.jsonl", "sheets"}
    assert Dataset(store.root).pairs("v0002")["score_margin"].gt(0).all()  # the files have it as `margin`


def test_a_new_decision_goes_on_from_the_old_ones(store: Store) -> None:
    decision = versions.rollback(store, "v0001", "editor", "as it was")
    assert (decision.before, decision.newest, versions.latest_name(store)) == ("v0002", "v0003", "v0001")
    assert len(versions.history(store).decisions) == 4


def test_its_tables_and_its_spending_are_read(recipe: Recipe, store: Store) -> None:
    (dataset,) = datasets_of(Path(recipe.workspace))
    assert (dataset["dataset"], dataset["with ratings"], dataset["latest"]) == ("small", 3, "v0002")
    for shard in store.shards():
        assert all(len(store.read(ref)) for ref in rated_refs(recipe, shard))
    paid = {
        row["asker"]: row["calls"] for row in open_ledger(recipe.ledger_url, process_session()).spending.paid("small")
    }
    assert set(paid) == {
        "member brief", "member long", "evolver evolver", "judge reader", "judge digits", "judge fields"
    }  # fmt: skip
    assert open_ledger(recipe.ledger_url, process_session()).spending.spent("small")[1] > 0

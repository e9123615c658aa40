"""F38: what a person has forgotten is gone from all that is ours, does not come back, and what stays is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from pairsmith.config import Recipe
from pairsmith.errors import ConfigError, DataError, RunError
from pairsmith.ledger import unrecorded
from pairsmith.ledger.database import Database
from pairsmith.ledger.ledger import Ledger
from pairsmith.ledger.pruning import prune
from pairsmith.ledger.replies import checksum_of
from pairsmith.sources.forgotten import FILE
from pairsmith.stages.base import open_store
from pairsmith.stages.forget import Choice, Forgetting, forget
from pairsmith.storage.datafiles import data_files, published_files, rows_of
from pairsmith.storage.store import Store
from pairsmith.storage.versions import is_whole, version_at
from pairsmith_flows.cli.dataset_commands import forget_command
from tests.runs import run

Build = Callable[..., Recipe]
Tally = Callable[..., None]
SECRET = "Marta Quintanilla"


@pytest.fixture
def recipe(echo_recipe: Build, tmp_path: Path) -> Recipe:
    source = tmp_path / "in" / "prompts.jsonl"
    source.parent.mkdir()
    rows = [
        {"prompt": f"Question {n}, of {SECRET if n == 3 else 'somebody'}: why is the sky blue at {n}?"}
        for n in range(9)
    ]
    source.write_text("".join(json.dumps(row | {"source": "a" if row != rows[5] else "b"}) + "\n" for row in rows))
    exports = {"exports": ["jsonl", "csv", "kto", "reward"]}
    return echo_recipe(9, prompts={"sources": [{"path": str(source)}]}, shard_size=4, publishing=exports)


def forgotten(recipe: Recipe, choice: Choice, **words: bool) -> Forgetting:
    return forget(open_store(recipe), Ledger(recipe.ledger_url), choice, **words)


def pairs_of(recipe: Recipe) -> list[dict[str, Any]]:
    """The rows of the version that `latest` leads to."""
    return list(rows_of(published_files(Path(open_store(recipe).root))))


def traces(recipe: Recipe, text: str = SECRET) -> list[str]:
    """The files of the workspace in which a text is found: in their bytes, or in the values of a parquet file."""
    found = []
    for file in Path(recipe.workspace).rglob("*"):
        if file.is_file() and not file.is_symlink():
            inside = pq.read_table(file).to_pylist() if file.suffix == ".parquet" else ""
            if text.encode() in file.read_bytes() or text in str(inside):
                found.append(str(file.relative_to(recipe.workspace)))
    return found


def test_f38_nothing_is_left_of_a_text_in_the_workspace(recipe: Recipe, tally: Tally) -> None:
    run(recipe)
    assert len(traces(recipe)) > 5  # data and its exports, tables
    rows = [row for row in pairs_of(recipe) if SECRET in str(row["prompt"])]
    ids, answers = {row["prompt_id"] for row in rows}, {row["chosen"][-1]["content"] for row in rows}
    assert len(ids) == 1
    assert all("ledger.sqlite" in " ".join(traces(recipe, answer)) for answer in answers)
    counted = forgotten(recipe, Choice(matching=SECRET))
    assert (counted.prompts, counted.done) == (1, False)
    assert len(traces(recipe)) > 5
    done = forgotten(recipe, Choice(matching=SECRET), yes=True)
    assert (done.prompts, done.shards, list(done.versions), done.done) == (1, 1, ["v0001"], True)
    assert done.replies == counted.replies > 0
    assert traces(recipe) == []
    assert [traces(recipe, text) for text in answers | ids] == [[]] * len(answers | ids)
    tally(1, 0, 0)


def test_f38_the_version_is_whole_without_it_and_other_pairs_stay(recipe: Recipe, tally: Tally) -> None:
    first = run(recipe)[0]
    before = {str(row): row for row in pairs_of(recipe)}
    done = forgotten(recipe, Choice(matching=SECRET), yes=True)
    after = {str(row) for row in pairs_of(recipe)}
    assert after == {text for text in before if SECRET not in text}
    about = json.loads((Path(first.folder) / "version.json").read_text())
    assert about["pairs"] == len(after) == len(before) - done.versions["v0001"]
    assert about["digest"] != first.digest
    tally(1, 0, 0)


def test_f38_it_does_not_come_back_and_nothing_else_is_asked(recipe: Recipe, tally: Tally) -> None:
    run(recipe)
    forgotten(recipe, Choice(matching=SECRET), yes=True)
    again, summary, calls = run(recipe)
    assert not calls
    assert (again.version, again.new) == ("v0002", True)
    assert summary.load_reasons["forgotten"] == 1
    assert summary.rows_read == 9
    assert summary.loaded == 8
    assert traces(recipe) == []
    tally(1, 0, calls.total())


def test_f38_it_comes_back_where_the_person_lets_it(recipe: Recipe, tally: Tally) -> None:
    first = run(recipe)[0]
    forgotten(recipe, Choice(matching=SECRET), yes=True, may_return=True)
    again, summary, calls = run(recipe)
    assert summary.loaded == 9
    assert calls["generate"] == len(recipe.pool.members)
    assert again.digest == first.digest
    tally(1, 0, 0)


@pytest.mark.parametrize("kind", ["prompt", "source", "column"])
def test_f38_by_prompt_by_source_by_column(recipe: Recipe, kind: str, tally: Tally) -> None:
    run(recipe)
    row = next(row for row in pairs_of(recipe) if row["source"] == "b")
    choice = {
        "prompt": Choice(prompts=(row["prompt_id"],)),
        "source": Choice(sources=("b",)),
        "column": Choice(columns={"source": "b"}),
    }[kind]
    text = row["prompt"][-1]["content"]
    assert traces(recipe, text)
    assert forgotten(recipe, choice, yes=True).prompts == 1
    assert traces(recipe, text) == []
    tally(1, 0, 0)


def test_f38_what_was_done_is_noted_without_what(recipe: Recipe, tally: Tally) -> None:
    run(recipe)
    forgotten(recipe, Choice(matching=SECRET), yes=True)
    kept = json.loads((Path(open_store(recipe).root) / FILE).read_text())
    (note,) = kept["notes"]
    assert note["chosen by"] == ["matching"]
    assert (note["prompts"], note["shards"]) == (1, 1)
    assert note["by"]
    assert note["at"]
    assert len(kept["prompts"]) == 1
    tally(1, 0, 0)


def test_f38_a_run_holds_it_off(recipe: Recipe, tally: Tally) -> None:
    run(recipe)
    store = open_store(recipe)
    with store.lock(), pytest.raises(RunError, match="another run"):
        forgotten(recipe, Choice(matching=SECRET), yes=True)
    assert traces(recipe)
    tally(1, 0, 0)


def test_f38_killed_in_the_middle_it_is_done_again(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    run(recipe)
    for owner, name in ((Store, "write_bytes"), (Ledger, "erase")):
        with monkeypatch.context() as during, pytest.raises(KeyboardInterrupt):
            during.setattr(owner, name, _interrupted)
            forgotten(recipe, Choice(matching=SECRET), yes=True)
    forgotten(recipe, Choice(matching=SECRET), yes=True)
    assert traces(recipe) == []
    tally(2, 0, 0)


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_f38_the_command_counts_first_and_says_what_it_cannot_reach(recipe: Recipe, tally: Tally) -> None:
    run(recipe)
    folder = open_store(recipe).root
    counted = CliRunner().invoke(forget_command, [folder, "--matching", SECRET])
    assert counted.exit_code == 0, counted.output
    assert "1 prompts in 1 shards" in counted.output
    assert "add --yes" in counted.output
    assert "the Hub" in counted.output
    assert traces(recipe)
    done = CliRunner().invoke(forget_command, [folder, "--matching", SECRET, "--yes"])
    assert "taken out" in done.output
    assert traces(recipe) == []
    tally(1, 0, 0)


def test_f38_nothing_chosen_is_an_error() -> None:
    with pytest.raises(ConfigError, match="nothing was chosen"):
        Choice()


@pytest.mark.s3
def test_f38_on_object_storage_no_object_keeps_it(recipe: Recipe, s3: str, tmp_path: Path, tally: Tally) -> None:
    there = recipe.model_copy(update={"workspace": f"{s3}/w", "ledger": f"sqlite:///{tmp_path}/ledger.sqlite"})
    run(there)
    run(there.model_copy(update={"publishing": there.publishing.model_copy(update={"exports": ("jsonl",)})}))
    store = open_store(there)
    store.write_bytes("data/20200101T000000-cut/data/train.jsonl", SECRET.encode())

    def found() -> list[str]:
        folders = ("data", "pruned", "sources", "tables", "versions")
        names = [f"{folder}/{name}" for folder in folders for name in store.files.tree(folder)]
        contents = {name: store.files.read(name) for name in names}
        rows = {
            name: str(pq.read_table(pa.BufferReader(content)).to_pylist())
            for name, content in contents.items()
            if name.endswith(".parquet")
        }
        return [name for name in contents if SECRET.encode() in contents[name] or SECRET in rows.get(name, "")]

    assert len(found()) > 5
    done = forgotten(there, Choice(matching=SECRET), yes=True)
    assert list(done.versions) == ["v0001", "v0002"]
    assert found() == []
    for name in done.versions:
        version = version_at(store, name)
        assert version is not None
        assert is_whole(store, version)
        rows = list(rows_of(data_files(store, version)))
        assert len(rows) == version.pairs > 0
    assert not run(there)[2]
    tally(1, 0, 0)


def test_f38_a_damaged_version_stops_it_before_anything_is_changed(recipe: Recipe, tally: Tally) -> None:
    first = run(recipe)[0]
    before = traces(recipe)
    damaged = next(Path(first.folder).glob("data/*.parquet"))
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:100])
    with pytest.raises(DataError, match="cannot be searched.*remove v0001 first"):
        forgotten(recipe, Choice(matching=SECRET), yes=True)
    damaged.write_bytes(whole)
    assert traces(recipe) == before
    tally(1, 0, 0)


def test_f38_pruning_before_the_next_run_drops_no_neighbour(recipe: Recipe, tally: Tally) -> None:
    run(recipe)
    forgotten(recipe, Choice(matching=SECRET), yes=True)
    ledger = Ledger(recipe.ledger_url)
    for workspaces in ([], [recipe.workspace]):
        found = prune(ledger, workspaces, drop=True)
        assert not found.unused
        assert "run it once more" in found.unknown[0]
    assert not run(recipe)[2]
    assert not prune(ledger, [recipe.workspace]).unknown
    tally(1, 0, 0)


def test_f38_replies_that_the_ledger_could_not_take_are_found_too(recipe: Recipe, tally: Tally) -> None:
    run(recipe)
    ledger = Ledger(recipe.ledger_url)
    row = next(row for row in ledger.replies.rows() if SECRET not in row["reply"])
    reply = json.dumps({"text": SECRET})
    kept = row | {"key": "e" * 64, "reply": reply, "checksum": checksum_of("e" * 64, reply)}
    told = unrecorded.keep(Database(recipe.ledger_url), {"replies": [kept | {"recorded_at": "2026-01-01 00:00:00"}]})
    file = Path(told.partition("kept in ")[2].partition(", and")[0])
    assert SECRET in file.read_text()
    forgotten(recipe, Choice(matching=SECRET), yes=True)
    assert not file.exists()
    assert traces(recipe) == []
    tally(1, 0, 0)

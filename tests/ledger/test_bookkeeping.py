"""Looking after a ledger: totals, export and import, checksums, pruning, mostly through the command line."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pairsmith.config import Recipe
from pairsmith.errors import DataError
from pairsmith.ledger.bookkeeping import export, import_, verify
from pairsmith.ledger.ledger import Ledger, open_ledger
from pairsmith.ledger.pruning import prune
from pairsmith.session import process_session
from pairsmith_flows.__main__ import main
from tests.runs import run

Build = Callable[..., Recipe]


def cli(*words: str) -> Result:
    return CliRunner().invoke(main, ["ledger", *words], catch_exceptions=False)


def test_the_ledger_of_a_workspace_is_shown(echo_recipe: Build) -> None:
    recipe = echo_recipe(5)
    run(recipe)
    told = cli("--workspace", recipe.workspace)
    assert told.exit_code == 0
    assert "echo-judge" in told.output
    assert "30 replies" in told.output
    assert cli("--workspace", f"{recipe.workspace}/nowhere").exit_code == 3


def test_an_export_fills_another_ledger_and_a_run_from_it_asks_nothing(
    echo_recipe: Build, ledger_url: str, tmp_path: Path
) -> None:
    recipe, file, url = echo_recipe(5), tmp_path / "replies.jsonl", ledger_url
    expected = run(recipe)[0]
    assert "30 replies written" in cli("--workspace", recipe.workspace, "export", str(file)).output
    assert "30 replies read, 30 of them new" in cli("--ledger", url, "import", str(file)).output
    assert "30 replies read, 0 of them new" in cli("--ledger", url, "import", str(file)).output
    before, after = open_ledger(recipe.ledger_url, process_session()), open_ledger(url, process_session())
    assert [row["recorded_at"] for row in before.replies.rows()] == [row["recorded_at"] for row in after.replies.rows()]
    published, _, calls = run(echo_recipe(5, workspace=str(tmp_path / "new"), ledger=url))
    assert (published.digest, dict(calls)) == (expected.digest, {})


@pytest.mark.parametrize(
    ("line", "problem"),
    [("{", "not a line of an export"), ("[]", "not a line"), ("\udcff", "cannot be read"), (None, "checksum")],
)
def test_a_damaged_line_is_named_and_what_stands_before_it_is_kept(
    echo_recipe: Build, tmp_path: Path, line: str | None, problem: str
) -> None:
    recipe, file = echo_recipe(3), tmp_path / "replies.jsonl"
    run(recipe)
    export(open_ledger(recipe.ledger_url, process_session()), file)
    lines = file.read_text().splitlines()
    lines[4] = line if line is not None else lines[4].replace("stop", "stap")
    file.write_text("\n".join(lines), errors="surrogateescape")
    other = Ledger(f"sqlite:///{tmp_path}/other.sqlite")
    with pytest.raises(DataError, match=problem):
        import_(other, file)
    assert other.replies.count() == (4 if problem != "cannot be read" else other.replies.count())
    with pytest.raises(DataError, match="cannot be read"):
        import_(other, tmp_path / "absent.jsonl")


def test_damage_is_found_and_dropped(echo_recipe: Build) -> None:
    recipe = echo_recipe(4)
    run(recipe)
    with sqlite3.connect(Path(recipe.workspace, "ledger.sqlite")) as connection:
        connection.execute("UPDATE replies SET reply = replace(reply, 'stop', 'stap') WHERE model = 'echo-judge'")
    assert len(verify(open_ledger(recipe.ledger_url, process_session()))[1]) == 8
    assert cli("--workspace", recipe.workspace, "verify").exit_code == 3
    assert "8 damaged and dropped" in cli("--workspace", recipe.workspace, "verify", "--drop").output
    assert "16 replies, 0 damaged" in cli("--workspace", recipe.workspace, "verify").output


def test_pruning_drops_what_no_dataset_uses_and_costs_no_call(echo_recipe: Build) -> None:
    run(echo_recipe(4))
    recipe = echo_recipe(4, name="shorter", rating={"aspects": ["helpfulness"]}, evolution=None)
    expected = run(recipe)[0]
    book = open_ledger(recipe.ledger_url, process_session())
    assert prune(book, [recipe.workspace]).unused == []
    for table in Path(recipe.workspace, "echo").rglob("*.parquet"):
        table.unlink()
    count = book.replies.count()
    told = cli("--workspace", recipe.workspace, "prune", recipe.workspace)
    assert "add --yes" in told.output
    assert book.replies.count() == count
    cli("--workspace", recipe.workspace, "prune", recipe.workspace, "--yes")
    assert book.replies.count() == 8 + 4
    for table in Path(recipe.workspace, "shorter").rglob("*.parquet"):
        table.unlink()
    published, _, calls = run(recipe)
    assert (published.digest, dict(calls)) == (expected.digest, {})


def test_an_export_is_one_json_object_a_line(echo_recipe: Build, tmp_path: Path) -> None:
    recipe, file = echo_recipe(2), tmp_path / "replies.jsonl"
    run(recipe)
    assert export(open_ledger(recipe.ledger_url, process_session()), file) == 12
    row = json.loads(file.read_text().split("\n")[0])
    assert {"key", "model", "dataset", "reply", "checksum", "recorded_at"} <= set(row)

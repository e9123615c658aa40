"""F26: the ledger is pruned by what runs have noted to use: no reply in use is dropped, and what was spent stays spent.

Data sets share a ledger from workspaces that the one who prunes does not name, on a disk or on object storage; judges
are asked again, and only the last reply stands in a table; and a run may have been killed, or be under way.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from pairsmith.config import Recipe
from pairsmith.config.loading import load_recipe
from pairsmith.errors import DataError, RunError
from pairsmith.ledger.ledger import Ledger
from pairsmith.ledger.pruning import Pruning, place_of, prune
from pairsmith.ledger.uses import used_in
from pairsmith.stages.base import open_store
from pairsmith.testing import FakeEndpoint, Fault
from pairsmith_flows.__main__ import main
from tests.compat.test_workspace import ARCHIVE
from tests.faults.harness import Child, Death, wait_for_calls
from tests.faults.test_f25_spending import answer
from tests.runs import run

Build = Callable[..., Recipe]
Tally = Callable[..., None]


@pytest.fixture
def book(ledger_url: str) -> Ledger:
    return Ledger(ledger_url)


def pool_of(model: str) -> dict[str, Any]:
    """Members whose replies no other pool has."""
    return {"members": [{"name": name, "backend": "echo", "model": f"{model}-{name}"} for name in ("brief", "long")]}


def without_tables(recipe: Recipe) -> None:
    """Delete all tables that ask models, as after a change of the code that makes them: the ledger has the replies."""
    shutil.rmtree(Path(open_store(recipe).root, "tables"))


def asked_anew(recipe: Recipe) -> int:
    """Calls of a run that makes all tables again."""
    without_tables(recipe)
    return run(recipe)[2].total()


def test_f26_data_sets_that_nobody_names_keep_their_replies(book: Ledger, echo_recipe: Build, tmp_path: Path) -> None:
    places = {"one": str(tmp_path / "here"), "two": str(tmp_path / "there"), "three": "memory://bucket/far"}
    recipes = [
        echo_recipe(4, name=name, workspace=workspace, ledger=book.url, pool=pool_of(name))
        for name, workspace in places.items()
    ]
    for recipe in recipes:
        run(recipe)
    for named in ([], [places["one"]], [places["three"]], [places["two"], places["three"]]):
        assert prune(book, named, drop=True) == Pruning([], [])
    assert asked_anew(recipes[1]) == 0
    spent, fs = book.spending.spent("three"), fsspec.filesystem("memory")
    fs.rm("/bucket/far/three", recursive=True)
    assert prune(book, [], drop=True) == Pruning([], [])  # it may be there for another machine
    count = book.replies.count()
    dropped = prune(book, ["memory://bucket/far"], drop=True).unused
    assert 0 < len(dropped) == count - book.replies.count()
    assert book.spending.spent("three") == spent
    assert asked_anew(recipes[0]) == asked_anew(recipes[1]) == 0


def test_f26_the_first_ask_behind_an_ask_again_is_in_use(
    base_recipe: Build, endpoint: FakeEndpoint, tally: Tally
) -> None:
    recipe = base_recipe(endpoint, 20, members=2)
    run(recipe)
    unread = [answer("I would rather not say.")] * 10
    judge = {"name": "strict", "model": "strict", "backend": "openai", "reasks": 2}
    where = {"base_url": endpoint.url, "api_key_env": None, "concurrency": 1}
    recipe = base_recipe(
        endpoint, 20, members=2, rating={"aspects": ["overall"], "judges": [judge | {"endpoint": where}]}
    )
    endpoint.fail(*unread)
    run(recipe)
    book = Ledger(recipe.ledger_url)
    count = book.replies.count()
    found = prune(book, [recipe.workspace], drop=True)
    assert found == Pruning([], [])
    assert book.replies.count() == count
    again = asked_anew(recipe)
    tally(1, 0, again)
    assert again == 0


def test_f26_what_a_killed_run_recorded_is_not_offered(
    base_recipe: Build, tmp_path: Path, tally: Tally, kills: int
) -> None:
    for number in range(min(kills, 20)):
        with FakeEndpoint(latency=0.005) as endpoint:
            recipe = base_recipe(endpoint, 20, members=2, name=f"killed-{number}")
            with Child(recipe) as child:
                wait_for_calls(endpoint, child, 3 + number * 3)
                child.kill()
            book = Ledger(recipe.ledger_url)
            known = book.replies.count()
            found = prune(book, [recipe.workspace], drop=True)
            assert (found.unused, book.replies.count()) == ([], known)
            run(recipe)
            assert prune(book, [recipe.workspace], drop=True) == Pruning([], [])
            repeated = sum(endpoint.asked.values()) - len(endpoint.asked)
            tally(1, 0, repeated)
            assert repeated <= 16 * 3


@pytest.mark.parametrize("step", ["write", "commit"])
def test_f26_a_run_that_ends_beside_its_notes_leaves_none_unknown(base_recipe: Build, step: str, kills: int) -> None:
    with FakeEndpoint() as endpoint:
        for nth in range(1, 4 + min(kills, 12)):
            recipe = base_recipe(endpoint, 8, members=2, name=f"{step}-{nth}")
            with Child(recipe, Death(step, nth, "after")) as child:
                child.outcome()
            book = Ledger(recipe.ledger_url)
            before = {row["key"] for row in book.replies.rows()}
            prune(book, [recipe.workspace], drop=True)
            assert {row["key"] for row in book.replies.rows()} == before
            run(recipe)


def test_f26_pruning_beside_a_run_is_refused(base_recipe: Build) -> None:
    with FakeEndpoint(latency=0.05) as endpoint:
        recipe = base_recipe(endpoint, 20, members=2)
        with Child(recipe) as child:
            wait_for_calls(endpoint, child, 3)
            with pytest.raises(RunError, match="a run works on this data set; prune when it has ended"):
                prune(Ledger(recipe.ledger_url), [], drop=True)
            assert child.outcome().code == 0


def test_f26_a_ledger_from_before_uses_were_noted_offers_nothing_until_all_have_run(tmp_path: Path) -> None:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    recipe = load_recipe(tmp_path / "recipe.yaml", [f"workspace={tmp_path / 'data'}"])
    book = Ledger(recipe.ledger_url)
    with book.uses.alone() as connection:
        connection.execute(sa.text("INSERT INTO awaited VALUES ('another')"))
        connection.execute(sa.text("UPDATE replies SET dataset = 'another' WHERE model = 'echo-brief'"))
    count = book.replies.count()
    for awaited in (["another", "small"], ["another"]):
        found = prune(book, [recipe.workspace], drop=True)
        assert (found.unused, book.replies.count()) == ([], count)
        assert [reason.split(":")[0] for reason in found.unknown if "since uses are noted" in reason][
            : len(awaited)
        ] == awaited
        told = CliRunner().invoke(main, ["ledger", "--workspace", recipe.workspace, "prune", "--yes"]).output
        assert "0 replies offered" in told
        assert "another: has not run since uses are noted" in told
        assert run(recipe)[2].total() == 0  # and notes what it uses, those of tables that are fresh too
    found = prune(book, [recipe.workspace], gone=["another"], drop=True)
    assert found.unknown == []
    assert asked_anew(recipe) == 0


def test_f26_tables_that_are_there_already_are_noted_without_a_call(echo_recipe: Build) -> None:
    """As if an earlier version had made them: they are fresh, and their shards are finished."""
    recipe = echo_recipe(8)
    expected = run(recipe)[0].digest
    book = Ledger(recipe.ledger_url)
    with book.uses.alone() as connection:
        noted = used_in(connection).tolist()
        connection.execute(sa.text("DELETE FROM uses"))
        connection.execute(sa.text("INSERT INTO awaited VALUES ('echo')"))
    assert prune(book, [recipe.workspace], drop=True).unknown
    published, _, calls = run(recipe)
    assert (published.digest, dict(calls)) == (expected, {})
    with book.uses.alone() as connection:
        assert used_in(connection).tolist() == noted
    assert prune(book, [recipe.workspace], drop=True) == Pruning([], [])


def test_f26_a_data_set_that_is_no_more_is_named(echo_recipe: Build, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    old, same, kept = (
        echo_recipe(4, name=name, workspace=str(tmp_path / place), ledger=url, pool=pool_of(name))
        for name, place in (("old", "a"), ("old", "b"), ("kept", "a"))
    )
    for recipe in (old, same, kept):
        run(recipe)
    book = Ledger(url)
    with pytest.raises(DataError, match="nobody: no data set of this ledger has this name or address"):
        prune(book, [], gone=["nobody"])
    with pytest.raises(DataError, match="old: 2 data sets have this name; say which by .*/a/old or .*/b/old"):
        prune(book, [], gone=["old"])
    places = [place_of(open_store(old)), place_of(open_store(same))]
    assert prune(book, [], gone=places[:1]) == Pruning([], [])  # the other asks the same
    assert prune(book, [], gone=places, drop=True).unused
    assert prune(book, [], drop=True) == Pruning([], [])
    assert asked_anew(kept) == 0


def test_f26_a_preview_uses_nothing_and_leaves_nothing_unknown(echo_recipe: Build) -> None:
    from pairsmith.building.previewing import preview

    recipe = echo_recipe(6)
    run(recipe)
    preview(echo_recipe(6, name="other", pool={"members": [{"name": "a", "backend": "echo", "model": "new"}]}), 2)
    book = Ledger(recipe.ledger_url)
    found = prune(book, [])
    assert found.unknown == []
    assert 0 < len(found.unused) < book.replies.count()


def test_f26_what_failed_is_asked_again_and_what_it_cost_stays(base_recipe: Build, endpoint: FakeEndpoint) -> None:
    recipe = base_recipe(endpoint, 6, members=2)
    endpoint.fail(Fault(200, json.dumps({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 5}})))
    run(recipe)
    book = Ledger(recipe.ledger_url)
    before = book.spending.spent("base")
    shutil.rmtree(recipe.workspace + "/base")
    assert len(prune(book, [recipe.workspace], drop=True).unused) == 6 * 2 + 6
    assert book.replies.count() == 0
    assert book.spending.spent("base") == before

"""Rows of a database: streamed, with their places, without writing there or telling a password."""

from __future__ import annotations

import json
import sqlite3
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pairsmith.config import Prompts, Recipe, Source
from pairsmith.config.loading import parse_recipe
from pairsmith.errors import ConfigError, DataError
from pairsmith.reporting.card import recipe_yaml
from pairsmith.sources.prompts import read_prompts
from tests.runs import run

Build = Callable[..., Recipe]
Rows = list[dict[str, Any]]


@pytest.fixture
def database(tmp_path: Path) -> str:
    """URL of a SQLite database with a table of tasks."""
    with sqlite3.connect(tmp_path / "base.sqlite") as connection:
        connection.execute("CREATE TABLE tasks (id INTEGER, text TEXT, gold TEXT, weight NUMERIC)")
        tasks = [(1, "Ask: 100% of :x?", "yes", 1.5), (2, None, None, 2), (3, "More?", None, 3)]
        connection.executemany("INSERT INTO tasks VALUES (?, ?, ?, ?)", tasks)
    connection.close()
    return f"sqlite:///{tmp_path}/base.sqlite"


def read(url: str, query: str = "SELECT text, gold FROM tasks ORDER BY id", **more: Any) -> tuple[Rows, Rows]:
    columns = {"prompt": "text", "reference": "gold"}
    source = Source.model_validate({"sql": {"url": url, "query": query}, "columns": columns, **more})
    found = list(read_prompts(Prompts(sources=(source,))))
    return [row for row in found if "reason" not in row], [row for row in found if "reason" in row]


def test_rows_become_prompts_and_refusals_with_their_places(database: str) -> None:
    accepted, rejected = read(database)
    assert [json.loads(row["messages"])[0]["content"] for row in accepted] == ["Ask: 100% of :x?", "More?"]
    assert [(row["source"], row["reference"]) for row in accepted] == [("sql", "yes"), ("sql", None)]
    assert [row["detail"] for row in rejected] == ["sql:row 2: column text is absent or null"]
    assert len(read(database, limit=1)[0]) == 1
    assert len(read(database, sample=2)[0]) == len(read(database, sample=2)[0])


def test_a_colon_and_a_percent_sign_in_a_query_are_left_as_they_are(database: str) -> None:
    accepted, _ = read(database, "SELECT text, gold FROM tasks WHERE text LIKE '%100% of :x%'")
    assert len(accepted) == 1


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT absent FROM tasks", "sql:row 1 or later: sqlite:.*no such column: absent"),
        ("SELECT text, text FROM tasks", r"the query names \['text'\] more than once"),
        ("DELETE FROM tasks", "attempt to write a readonly database"),
        ("PRAGMA user_version = 3", "the query gives no rows|readonly"),
        ("SELECT abs(iif(id = 3, -9223372036854775807 - 1, id)) AS text FROM tasks", "or later: .*integer overflow"),
    ],
)
def test_what_goes_wrong_names_the_row(database: str, query: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read(database, query)
    assert len(read(database)[0]) == 2


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such SQLite file"):
        read(f"sqlite:///{tmp_path}/absent.sqlite")
    assert not list(tmp_path.iterdir())
    for url, told in (("nonsense", "not a SQLAlchemy URL"), ("nosuch://host/base", "not a usable database URL")):
        with pytest.raises(ConfigError, match=told):
            read(url)


def test_a_large_result_is_not_held_in_memory(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "large.sqlite") as connection:
        connection.execute("CREATE TABLE tasks (text TEXT, gold TEXT)")
        rows = ((f"{number} " + "x" * 10_000, None) for number in range(3000))
        connection.executemany("INSERT INTO tasks VALUES (?, ?)", rows)
    connection.close()
    sql = {"url": f"sqlite:///{tmp_path}/large.sqlite", "query": "SELECT * FROM tasks"}
    source = Source.model_validate({"sql": sql, "columns": {"prompt": "text"}})
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_prompts(Prompts(sources=(source,)))) == 3000
        assert tracemalloc.get_traced_memory()[1] < 16_000_000  # of 30 million
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({"sql": {"url": "postgresql://me:secret@host/base", "query": "q"}}, "a password in it would be stored"),
        ({"sql": {"url": "postgresql://host/base?password=secret", "query": "q"}}, "a password in it would be stored"),
        ({"sql": {"query": "q"}}, "name either url or url_env"),
        ({"sql": {"url": "sqlite:///x", "url_env": "X", "query": "q"}}, "name either url or url_env"),
        ({"sql": {"url": "sqlite:///x", "query": "q"}, "path": "x.jsonl"}, "either a path or sql"),
        ({}, "either a path or sql"),
    ],
)
def test_sources_that_cannot_be_are_refused(source: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told) as refused:
        Source.model_validate(source)
    assert "secret" not in str(refused.value)


def test_an_url_from_the_environment_is_never_told(
    echo_recipe: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql = {"url_env": "PAIRSMITH_TEST_URL", "query": "SELECT 1"}
    recipe = echo_recipe(1, prompts={"sources": [{"sql": sql}]})
    with pytest.raises(ConfigError, match="the environment variable PAIRSMITH_TEST_URL holds no URL"):
        run(recipe)
    monkeypatch.setenv("PAIRSMITH_TEST_URL", "postgresql://me:canary@127.0.0.1:9/canary-base")
    with pytest.raises(DataError, match=r"me:\*\*\*@127\.0\.0\.1:9") as failed:
        run(recipe)
    assert "canary@" not in str(failed.value)
    assert ":canary" not in str(failed.value)


def test_a_whole_run_over_a_query_with_a_relative_database(database: str, tmp_path: Path, echo_recipe: Build) -> None:
    sql = {"url": "sqlite:///base.sqlite", "query": "SELECT text, gold FROM tasks"}
    data = echo_recipe(1).model_dump(mode="json")
    data["prompts"] = {"sources": [{"sql": sql, "columns": {"prompt": "text"}}]}
    recipe = parse_recipe(data, base=tmp_path)
    published, summary, _ = run(recipe)
    assert (summary.loaded, summary.load_reasons["missing"]) == (2, 1)
    assert str(tmp_path) not in recipe_yaml(recipe)
    assert "SELECT text, gold FROM tasks" in Path(published.folder, "recipe.yaml").read_text()
    with sqlite3.connect(tmp_path / "base.sqlite") as connection:
        connection.execute("UPDATE tasks SET text = 'Less?' WHERE id = 3")
    connection.close()
    _, summary, calls = run(recipe)
    assert (summary.loaded, calls["generate"]) == (2, 2)


@pytest.fixture
def postgres_tasks(postgres: str) -> Iterator[str]:
    import psycopg

    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE TABLE tasks (id int, text jsonb, gold text, made timestamptz, weight numeric)")
        chat = json.dumps([{"role": "user", "content": "Hi"}])
        connection.execute("INSERT INTO tasks VALUES (1, %s, 'g', now(), 1.50), (2, '[]', NULL, now(), 2)", (chat,))
        connection.execute("CREATE SEQUENCE numbers")
        yield postgres
        connection.execute("DROP SEQUENCE numbers")
        connection.execute("DROP TABLE tasks")


@pytest.mark.postgres
def test_postgresql_gives_chats_by_a_cursor_of_its_own_and_lets_nothing_be_written(postgres_tasks: str) -> None:
    columns = {"messages": "text", "reference": "gold"}
    query = "SELECT text, gold, made, weight::numeric AS weight FROM tasks ORDER BY id"
    accepted, rejected = read(postgres_tasks, query, columns=columns)
    assert [json.loads(row["messages"]) for row in accepted] == [[{"role": "user", "content": "Hi"}]]
    assert [row["detail"] for row in rejected] == ["sql:row 2: text: no messages"]
    assert len(read(postgres_tasks, "SELECT n::text AS text, NULL AS gold FROM generate_series(1, 2500) n")[0]) == 2500
    with pytest.raises(DataError, match="read-only transaction"):
        read(postgres_tasks, "SELECT nextval('numbers')::text AS text, NULL AS gold")
    with pytest.raises(DataError, match=r"sql:row \d+ or later: .*division by zero"):
        read(postgres_tasks, "SELECT (1 / (1500 - n))::text AS text, NULL AS gold FROM generate_series(1, 2500) n")

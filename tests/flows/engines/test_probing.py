"""What is looked at on workers before a run: each of what they may lack is named, with what to do."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from pairsmith.config import Recipe
from pairsmith.errors import ConfigError
from pairsmith_flows.engines import probing
from pairsmith_flows.engines.probing import Mark, problems_here, require_ready
from pairsmith_tasks.recipes import text_of

Build = Callable[..., Recipe]
UNREACHED = "http://127.0.0.1:9/api"


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def api() -> Any:
    server = HTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/api"
    server.shutdown()


def here(function: Any, *words: Any) -> Mapping[str, Any]:
    """As an engine asks its workers: what they raise is returned."""
    try:
        return {"one": function(*words), "two": function(*words)}
    except Exception as error:
        return {"one": error}


def elsewhere(changed: dict[Any, Any]) -> Callable[..., Mapping[str, Any]]:
    """Workers of which the second answers otherwise."""

    def ask(function: Any, *words: Any) -> Mapping[str, Any]:
        return {
            **here(function, *words),
            **({"two": changed[(function, *words)]} if (function, *words) in changed else {}),
        }

    return ask


def test_workers_that_have_all_are_ready_and_no_mark_stays(echo_recipe: Build, tmp_path: Path, api: str) -> None:
    from pairsmith.ledger.ledger import Ledger

    recipe = echo_recipe(2)
    require_ready(here, recipe, api)
    assert [name for _, _, names in os.walk(recipe.workspace) for name in names if name.startswith(".seen")] == []
    with Ledger(recipe.ledger_url)._database.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM reservations").scalar() == 0


@pytest.mark.parametrize(
    ("question", "answer", "told"),
    [
        ((metadata.version, "pairsmith"), "0.0.1", r"two: pairsmith 0\.0\.1 is there, and .* here; install"),
        (
            (metadata.version, "prefect"),
            metadata.PackageNotFoundError("prefect"),
            "two: prefect is not installed there",
        ),
        ((platform.python_version_tuple,), ("3", "9", "1"), r"two: Python 3\.9 is there, and 3\.1\d here"),
    ],
)
def test_other_versions_are_named(echo_recipe: Build, api: str, question: Any, answer: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=f"a run cannot begin on these workers:\n  {told}"):
        require_ready(elsewhere({question: answer}), echo_recipe(2), api)


def test_a_server_that_workers_cannot_reach_is_named_once_for_all(echo_recipe: Build) -> None:
    with pytest.raises(
        ConfigError, match=f"\n  one, two: the Prefect server at {UNREACHED} cannot be reached from there"
    ):
        require_ready(here, echo_recipe(2), UNREACHED)


def mark_of(recipe: Recipe, api: str) -> Mark:
    return Mark("never-left", socket.gethostname(), text_of(recipe), api)


def test_a_workspace_and_a_ledger_that_are_others_there_are_named(echo_recipe: Build, api: str) -> None:
    recipe = echo_recipe(2)
    store, ledger = problems_here(asdict(mark_of(recipe, api)))
    assert store.startswith(f"the workspace {recipe.workspace} is not the run's own there: put it on a disk")
    assert (
        ledger
        == f"the ledger {recipe.ledger_url} is not there; name its file by an absolute path, or a ledger on PostgreSQL"
    )
    assert not Path(recipe.workspace).exists()  # a look leaves nothing behind
    with probing._marked(recipe, api) as mark:
        assert problems_here(asdict(mark)) == []
        (problem,) = problems_here(asdict(replace(mark, host="another")))
        assert "is a file of SQLite, which one machine alone can use; name one on PostgreSQL" in problem
    (store, ledger) = problems_here(asdict(mark_of(recipe, api)))
    assert ledger.endswith("is another one there than the run's; name one that all can reach")


def test_a_key_that_a_worker_lacks_is_named_and_one_that_the_run_lacks_too_is_not(
    echo_recipe: Build, api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = {"base_url": "http://127.0.0.1:9/v1", "api_key_env": "A_KEY_OF_TESTS"}
    member = {"name": "a", "backend": "openai", "model": "a", "samples": 2, "endpoint": where}
    recipe = echo_recipe(2, pool={"members": [member]}, evolution=None)
    monkeypatch.delenv("A_KEY_OF_TESTS", raising=False)
    require_ready(here, recipe, api)
    monkeypatch.setenv("A_KEY_OF_TESTS", "key")
    require_ready(here, recipe, api)

    def without_it(function: Any, *words: Any) -> Mapping[str, Any]:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("A_KEY_OF_TESTS")
            return here(function, *words)

    with pytest.raises(ConfigError, match="\n  one, two: A_KEY_OF_TESTS in the environment has no key there"):
        require_ready(without_it, recipe, api)


def test_code_that_a_worker_lacks_is_named(echo_recipe: Build, api: str, tmp_path: Path) -> None:
    code = tmp_path / "mine.py"
    code.write_text("def best(candidates, pairing):\n    return iter(())\n")
    recipe = echo_recipe(2, pairing={"strategy": "mine:best"})
    require_ready(here, recipe, api)
    code.unlink()
    with pytest.raises(ConfigError, match="\n  one, two: .*mine"):
        require_ready(here, recipe, api)

"""What a command does before it starts Prefect: it looks whether the run can go well, unless it is told not to."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from pairsmith.errors import RunError
from pairsmith.testing import FakeEndpoint
from pairsmith_flows.__main__ import main


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe whose runs end where Prefect would start; `write` fills it."""

    def end(_: bool) -> None:
        raise RunError("now Prefect would start")

    monkeypatch.setattr("pairsmith_flows.cli.running.prepare_prefect", end)
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Why?"}\n')
    return tmp_path / "recipe.yaml"


def write(recipe: Path, url: str) -> None:
    def at(name: str) -> dict[str, object]:
        return {"name": name, "backend": "openai", "model": name, "endpoint": {"base_url": url, "api_key_env": None}}

    data = {
        "name": "checked",
        "workspace": str(recipe.parent / "data"),
        "prompts": {"sources": [{"path": "prompts.jsonl"}]},
        "pool": {"members": [at("a"), at("b")]},
        "rating": {"judges": [at("j")]},
    }
    recipe.write_text(yaml.safe_dump(data))


@pytest.mark.parametrize(("command", "asked"), [("run", ["a", "b", "j"]), ("rate", ["j"]), ("pair", [])])
def test_no_check_leaves_out_the_calls_before_a_run(recipe: Path, command: str, asked: list[str]) -> None:
    with FakeEndpoint() as endpoint:
        write(recipe, endpoint.url)
        for words, models in ((["--no-check"], []), ([], asked)):
            told = CliRunner().invoke(main, [command, str(recipe), *words])
            assert (told.exit_code, "error: now Prefect would start" in told.output) == (1, True), told.output
            assert sorted(call["model"] for call in endpoint.journal) == models


def test_no_check_leaves_out_what_is_looked_at_without_a_call(recipe: Path) -> None:
    write(recipe, "http://127.0.0.1:9/v1")
    words = ["pair", str(recipe), "--set", f"workspace={recipe}"]
    assert "recipe.yaml is a file, not a folder: name another" in CliRunner().invoke(main, words).output
    assert "now Prefect would start" in CliRunner().invoke(main, [*words, "--no-check"]).output

"""What a person reads who has made a mistake outside a recipe's own fields, word by word, typed as a user types it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pairsmith_flows.__main__ import main
from tests.config.test_messages import ECHO_X, RECIPE
from tests.flows.cli.signals import signals_kept

COMMIT = "0123456789" * 4
CHECK = "rating: {checks: [{name: shouty, kind: python, callable: 'shout:loud'}], judges: "
Typed = Callable[..., Result]


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Typed]:
    """Types a command of pairsmith in a folder with a recipe and its data."""
    monkeypatch.chdir(tmp_path)
    Path("data.jsonl").write_text('{"prompt": "Hi"}\n')
    Path("recipe.yaml").write_text(RECIPE)
    with signals_kept():
        yield lambda *words: CliRunner().invoke(main, words, prog_name="pairsmith")


def with_change(was: str, becomes: str) -> None:
    Path("recipe.yaml").write_text(RECIPE.replace(was, becomes, 1))


def refused(result: Result, code: int = 2) -> str:
    assert result.exit_code == code, result.output
    assert not re.search("Traceback|Retrying", result.output)
    return result.stderr.removesuffix("\n")


def test_a_recipe_that_is_not_there(typed: Typed, tmp_path: Path) -> None:
    assert refused(typed("validate", "recipes.yaml")) == (
        "error: recipes.yaml: no such recipe; did you mean recipe.yaml?"
    )
    Path("other.yml").write_text("")
    assert refused(typed("run", "zzz")) == "error: zzz: no such recipe; in its folder are other.yml, recipe.yaml"
    assert refused(typed("run", "gone/recipe.yaml")) == (
        "error: gone/recipe.yaml: no such recipe; there is no folder gone"
    )


def test_an_empty_recipe_and_characters_that_are_no_yaml(typed: Typed) -> None:
    for text, told in (
        ("", "1: the file is empty; a recipe has name, prompts, pool, ...; see recipes/echo.yaml"),
        ("# later\n", "1: the file is empty; a recipe has name, prompts, pool, ...; see recipes/echo.yaml"),
        ("name: t\npool: ti\0ny\n", "2: not valid YAML: a character that is not text stands here; save the file as "
         "UTF-8 text"),
        ("name: t\n\tpool: 1\n", "2: not valid YAML: indent with spaces, not with tabs, and put text that begins with "
         "@, ` or % in quotes"),
    ):  # fmt: skip
        Path("recipe.yaml").write_text(text)
        assert refused(typed("validate", "recipe.yaml")) == f"error: recipe.yaml:{told}"


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("pool.members.0.nam=x",
         "recipe.yaml:\n  --set pool.members.0.nam: there is no such field; did you mean name?"),
        ("pol.members=x", "recipe.yaml:\n  --set pol: there is no such field; did you mean pool?"),
        ("pool.members.5.name=x",
         "--set pool.members.5.name=x: pool.members has no item 5: the last of its items is pool.members.1"),
        ("pool.members.first.name=x", "--set pool.members.first.name=x: pool.members is a list; name an item by its "
         "number, such as pool.members.0"),
        ("name.first=x", "--set name.first=x: name holds no fields that could be set"),
        ("pairing.min_margin", "--set pairing.min_margin: write it as key=value, for example pairing.min_margin=0.5"),
    ],
)  # fmt: skip
def test_a_field_that_set_names_wrongly(typed: Typed, word: str, told: str) -> None:
    assert refused(typed("validate", "recipe.yaml", "--set", word)) == f"error: {told}"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("runn", "recipe.yaml"), "No such command 'runn'. Did you mean 'run'?"),
        (("run", "recipe.yaml", "--dryrun"), "No such option '--dryrun'. Did you mean '--dry-run'?"),
        (("run", "recipe.yaml", "--limit", "few"), "Invalid value for '--limit': 'few' is not a valid whole number."),
        (("run", "recipe.yaml", "--limit", "0"), "Invalid value for '--limit': 0 is not in the range x>=1."),
        (("run", "recipe.yaml", "--wait", "long"), "Invalid value for '--wait': 'long' is not a valid number."),
        (("run",), "Missing argument 'RECIPE'."),
        (("show", "nothing"), "Invalid value for 'DATASET': Directory 'nothing' does not exist."),
    ],
)
def test_a_command_or_an_option_that_is_wrong(typed: Typed, words: tuple[str, ...], told: str) -> None:
    usage, _, last = refused(typed(*words)).rpartition("\n\n")
    assert usage.startswith("Usage: pairsmith ")
    assert last == f"Error: {told}"


def test_help_about_a_ledger_needs_none(typed: Typed) -> None:
    shown = typed("ledger", "export", "--help")
    assert (shown.exit_code, shown.output.partition("\n")[0]) == (
        0, "Usage: pairsmith ledger export [OPTIONS] FILE"
    )  # fmt: skip
    assert refused(typed("ledger", "export", "x.jsonl"), code=3).startswith("error: pairsmith-data/ledger.sqlite: no ")


def test_a_check_of_ones_own_beside_the_recipe(typed: Typed, tmp_path: Path) -> None:
    where = "error: recipe.yaml:\n  line 4: rating.checks.0.callable: "
    with_change("rating: {judges: ", CHECK)
    absent = f"shout:loud: there is no module shout in {tmp_path} or on Python's path"
    assert refused(typed("validate", "recipe.yaml")) == (
        f"{where}{absent}; put shout.py there, or say in code_folder where it is"
    )
    Path("shot.py").write_text("def lod(messages, text, reference): return True\n")
    assert refused(typed("validate", "recipe.yaml")) == f"{where}{absent}; did you mean shot?"
    Path("shot.py").rename("shout.py")
    assert refused(typed("validate", "recipe.yaml")) == (
        f"{where}shout:loud: there is no loud in {tmp_path}/shout.py; did you mean lod?"
    )
    with_change("rating: {judges: ", CHECK.replace("'shout:loud'", "shout.py"))
    assert refused(typed("validate", "recipe.yaml")) == (
        f"{where}write a check of your own as module:function, such as shout:check for check in shout.py "
        "(given: 'shout.py')"
    )
    with_change("rating: {judges: ", CHECK.replace("shout:loud", "shout.py:lod"))
    assert refused(typed("validate", "recipe.yaml")) == (
        f"{where}shout.py:lod: there is no module shout.py in {tmp_path} or on Python's path; write it as shout:lod"
    )
    with_change("rating: {judges: ", CHECK.replace("callable", "python"))
    assert refused(typed("validate", "recipe.yaml")) == (
        "error: recipe.yaml:\n  line 4: rating.checks.0.python: there is no such field; did you mean callable?"
    )
    with_change("rating: {judges: ", CHECK.replace("shout:loud", "shout:lod"))
    assert typed("validate", "recipe.yaml").exit_code == 0


def test_a_name_that_is_an_aspect_and_a_check(typed: Typed) -> None:
    with_change("rating: {judges: ", "rating: {checks: [{name: overall, kind: regex, pattern: x}], judges: ")
    assert refused(typed("validate", "recipe.yaml")) == (
        "error: recipe.yaml:\n  line 4: rating.checks.0.name: the judges rate an aspect overall too; rename the "
        "check, or leave the aspect out of rating.aspects"
    )


@pytest.mark.parametrize("command", [("run",), ("run", "--no-check"), ("preview",), ("validate", "--check")])
def test_a_workspace_that_is_a_file(typed: Typed, tmp_path: Path, command: tuple[str, ...]) -> None:
    name, *options = command
    told = refused(typed(name, "recipe.yaml", *options, "--set", "workspace=data.jsonl"))
    assert told.endswith(f"{tmp_path}/data.jsonl is a file, not a folder: name another")
    assert re.search(r"(workspace|ledger): ", told)


def test_a_workspace_that_this_user_cannot_write(typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = f"workspace: {tmp_path} cannot be written by this user: name another, or change its rights"

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / "pairsmith-data"))

    monkeypatch.setattr(Path, "mkdir", forbidden)
    monkeypatch.setattr("os.access", lambda _, mode: mode == os.R_OK)
    assert refused(typed("validate", "recipe.yaml", "--check")) == f"error: a run cannot begin:\n  {problem}"
    assert refused(typed("run", "recipe.yaml")) == f"error: {problem}"


@pytest.mark.parametrize("revision", [None, COMMIT])
@pytest.mark.parametrize("offline", [True, False])
def test_an_unknown_model_without_a_hub(
    typed: Typed,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    revision: str | None,
    offline: bool,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with_change(
        ECHO_X, f"backend: transformers, model: no-such/m{offline:d}{(revision and f', revision: {revision!r}') or ''}"
    )
    reason = "HF_HUB_OFFLINE is set" if offline else "[Errno 111] Connection refused"
    assert refused(typed("run", "recipe.yaml")) == (
        f"error: a run cannot begin:\n  pool.members.0 (a): no-such/m{offline:d}: revision {revision or 'main'} cannot "
        f"be loaded: the hub cannot be reached ({reason}), and it is not on this machine: name a model that is, or its "
        "folder, or go online to fetch it"
    )
    assert "Retrying" not in capfd.readouterr().err


def test_a_key_that_is_not_set(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    endpoint = "{base_url: 'http://127.0.0.1:9/v1', api_key_env: MY_KEY}"
    with_change(ECHO_X, f"backend: openai, model: x, endpoint: {endpoint}")
    assert refused(typed("run", "recipe.yaml")) == (
        "error: a run cannot begin:\n  pool.members.0 (a): endpoint: the environment variable MY_KEY holds no key for "
        "http://127.0.0.1:9/v1: set it, as by export MY_KEY=..., or name another in api_key_env (null where none is "
        "needed)"
    )


def test_a_value_of_the_wrong_kind_in_a_file_of_prompts(typed: Typed, tmp_path: Path) -> None:
    """Exit code 3: the data is wrong, and not the recipe."""
    Path("data.jsonl").write_text('{"prompt": 3}\n{"prompt": \n')
    assert refused(typed("run", "recipe.yaml", "--dry-run"), code=3) == (
        f"error: no prompts: 2 rows read, none accepted. {tmp_path}/data.jsonl:1: column prompt holds int, not text or "
        f"a list of messages; {tmp_path}/data.jsonl:2: not valid JSON: Expecting value: line 2 column 1 (char 12)"
    )

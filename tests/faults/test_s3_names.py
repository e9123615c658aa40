"""S3: no name in a recipe or in data makes pairsmith write outside its workspace.

Names that are paths, that hold NUL or that are too long are refused, and the refusal names the field. A link that
stands in the workspace and leads out of it is not written through: a run that meets one ends with an error, and what
the link leads to is as it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pairsmith.config import Recipe
from pairsmith.config.loading import load_recipe, parse_recipe
from pairsmith.errors import ConfigError, DataError, PairsmithError
from pairsmith.ledger.replies import open_ledger
from pairsmith.session import process_session
from pairsmith.stages.base import open_store
from tests.runs import run

Build = Callable[..., Recipe]
Tally = Callable[..., None]
LONG = "x" * 300
BAD = [
    "../x", "..", ".", "/abs", "a/b", "a\\b", "~", "~root", "C:\\x", "x\0y", "\0", "x\n", "x y", "", LONG, ".hidden",
    "-x", "x/../../y", "%2e%2e%2f", "X", "ünï", "x:y", "file:///x", "..\u2044x",
]  # fmt: skip
PLACES = {
    "name": ("name",),
    "member": ("pool", "members", 0, "name"),
    "judge": ("rating", "judges", 0, "name"),
    "evolver": ("evolution", "evolver", "name"),
    "method": ("evolution", "methods", 0),
    "member_order": ("pairing", "member_order", 0),
}


def changed(recipe: Recipe, place: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """The recipe's data with another value in one place."""
    data: Any = recipe.model_dump(mode="json")
    data["pairing"]["member_order"] = [member["name"] for member in data["pool"]["members"]]
    target = data
    for part in place[:-1]:
        target = target[part]
    target[place[-1]] = value
    return dict(data)


def files(folder: Path) -> dict[str, bytes]:
    """All files of a folder, and what they hold."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.parametrize("name", BAD, ids=lambda name: ascii(name[:20]))
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_s3_a_name_that_is_none_is_refused_with_its_field(
    echo_recipe: Build, tmp_path: Path, place: tuple[str | int, ...], name: str
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(changed(echo_recipe(1), place, name)))
    before = files(tmp_path)
    with pytest.raises(ConfigError) as error:
        load_recipe(path)
    field = ".".join(str(part) for part in place)
    assert field in str(error.value)
    assert len(str(error.value)) < 2000
    assert files(tmp_path) == before


def test_s3_a_name_of_a_template_or_repository_is_held_to_that(echo_recipe: Build, tmp_path: Path) -> None:
    for name in BAD:
        data = changed(echo_recipe(1), ("evolution", "templates"), {name: "Make it rhyme."})
        with pytest.raises(ConfigError, match=r"evolution\.templates"):
            parse_recipe(data, base=tmp_path)
    for name in (*BAD, "me/..", "../me", "me/x/../y", "./x", "me/x\n", f"me/{LONG}"):
        if name != "a/b":
            data = changed(echo_recipe(1), ("publishing", "hub"), {"repo_id": name})
            with pytest.raises(ConfigError, match=r"publishing\.hub\.repo_id"):
                parse_recipe(data, base=tmp_path)


def test_s3_names_that_are_allowed_stay_in_the_workspace(echo_recipe: Build, tmp_path: Path) -> None:
    odd = "0..a-_.b" + "x" * 56
    model = {"backend": "echo"}
    members = [{"name": odd, "model": "../../../m", **model}, {"name": "x..", "model": "/m\0", **model}]
    judges = [{"name": "versions", "model": "~/m", **model}]
    evolved = {"evolver": {"name": "latest", "model": "..", **model}}
    before = files(tmp_path)
    recipe = echo_recipe(4, name=odd, pool={"members": members}, rating={"judges": judges}, evolution=evolved)
    published, _, _ = run(recipe)
    assert Path(published.folder).is_relative_to(tmp_path / "data" / odd)
    made = set(files(tmp_path)) - set(before) - {"prompts.jsonl"}
    assert made
    assert all(name.startswith((f"data/{odd}/", "data/ledger.sqlite")) for name in made)


def test_s3_what_data_say_names_no_file(echo_recipe: Build, tmp_path: Path) -> None:
    names = ["../../../x", "/abs", "x\0y", LONG, "C:\\x", "~root", "versions/v0001"]
    path = tmp_path / "named.jsonl"
    rows = [{"prompt": f"Question {n}?", "prompt_id": n, "id": n, "shard": n, "source": n} for n in names]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = files(tmp_path)
    published, summary, _ = run(echo_recipe(1, prompts={"sources": [{"path": str(path)}]}))
    assert summary.loaded == len(names)
    made = set(files(tmp_path)) - set(before) - {"prompts.jsonl"}
    assert all(name.startswith("data/") for name in made)
    data = ["data", f"train-{published.digest[:12]}.parquet"]
    found = {path.name for path in Path(published.folder).rglob("*")}
    assert found == {"README.md", "recipe.yaml", "report.html", "version.json", *data}


@pytest.mark.parametrize("workspace", ["ws\0", "\0", LONG, f"a/{LONG}/b"], ids=["NUL", "only NUL", "long", "long part"])
def test_s3_a_workspace_that_cannot_be_is_named(
    echo_recipe: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workspace: str
) -> None:
    monkeypatch.chdir(tmp_path)
    data = echo_recipe(2).model_dump(mode="json") | {"workspace": workspace}
    before = files(tmp_path)
    with pytest.raises((ConfigError, DataError), match="workspace|ledger"):
        recipe = parse_recipe(data, base=tmp_path)
        with open_store(recipe).lock():
            run(recipe)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    "path",
    ["p\0.jsonl", f"{LONG}.jsonl", f"{LONG}/p.jsonl", LONG, "~no-such-user/p.jsonl"],
    ids=["NUL", "long", "long folder", "long id", "no user"],
)
def test_s3_a_source_that_cannot_be_is_named(echo_recipe: Build, tmp_path: Path, path: str) -> None:
    data = changed(echo_recipe(1), ("prompts", "sources", 0, "path"), path)
    with pytest.raises((ConfigError, DataError)) as error:
        run(parse_recipe(data, base=tmp_path))
    assert path[:20].replace("\0", "") in str(error.value).replace("\0", "").replace("\\x00", "")


def test_s3_a_model_of_any_name_is_looked_for_and_not_taken_for_a_path(echo_recipe: Build, tmp_path: Path) -> None:
    for model in ("m\0", LONG, f"{LONG}/m", "~no-such-user/m"):
        data = changed(echo_recipe(1), ("pool", "members", 0, "model"), model)
        assert parse_recipe(data, base=tmp_path).pool.members[0].model == model


@pytest.mark.parametrize("name", ["", "tables", "versions", "tables/load", "versions/v0001"], ids=ascii)
def test_s3_a_folder_that_leads_out_of_the_workspace_is_not_written_through(
    echo_recipe: Build, tmp_path: Path, tally: Tally, name: str
) -> None:
    recipe = echo_recipe(4)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine.txt").write_text("mine")
    link = Path(recipe.workspace, recipe.name, name)
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    error = ""
    try:
        with open_store(recipe).lock():
            run(recipe)
    except PairsmithError as problem:
        error = str(problem)
    tally()
    assert files(outside) == {"mine.txt": b"mine"}
    assert not error or str(link) in error or str(outside) in error
    assert error or name == "versions/v0001"  # that name is taken, so the next is


@pytest.mark.parametrize(
    "name", [".lock", "pushed.json", "latest", "tables/load/rejections.all.parquet", "versions/v0001/version.json"]
)
@pytest.mark.parametrize("there", [True, False], ids=["to a file", "to nothing"])
def test_s3_a_file_that_leads_out_of_the_workspace_is_not_written_through(
    echo_recipe: Build, tmp_path: Path, tally: Tally, name: str, there: bool
) -> None:
    recipe = echo_recipe(4)
    outside = tmp_path / "outside"
    outside.mkdir()
    if there:
        (outside / "mine.txt").write_text("mine")
    link = Path(recipe.workspace, recipe.name, name)
    link.parent.mkdir(parents=True)
    link.symlink_to(outside / "mine.txt")
    try:
        with open_store(recipe).lock():
            run(recipe)
            open_store(recipe).write_json("pushed.json", {})
    except PairsmithError as error:
        assert str(link) in str(error)
    tally()
    assert files(outside) == ({"mine.txt": b"mine"} if there else {})


def test_s3_a_ledger_that_leads_out_of_the_workspace_is_not_written_through(echo_recipe: Build, tmp_path: Path) -> None:
    recipe = echo_recipe(2)
    outside = tmp_path / "outside"
    outside.mkdir()
    Path(recipe.workspace).mkdir()
    Path(recipe.workspace, "ledger.sqlite").symlink_to(outside / "mine.sqlite")
    with pytest.raises((ConfigError, DataError), match="ledger"):
        open_ledger(recipe.ledger_url, process_session())
    assert not list(outside.iterdir())


def test_s3_a_workspace_that_is_a_link_is_where_it_leads(echo_recipe: Build, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    before = files(tmp_path)
    recipe = echo_recipe(3, workspace=str(tmp_path / "link"))
    published, _, _ = run(recipe)
    assert Path(published.folder).is_relative_to(tmp_path / "disk")
    made = set(files(tmp_path)) - set(before) - {"prompts.jsonl"}
    assert all(name.startswith("disk/") for name in made)

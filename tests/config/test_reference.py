"""The schema of recipes and docs/recipe.md: as the models are today, complete, and fit for editors."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from pairsmith.config import Recipe
from pairsmith.config.reference import editor_schema, markdown
from pairsmith_flows.__main__ import main
from tests.conftest import ROOT, clean_environment

SCHEMA = Recipe.model_json_schema()
EDITORS = Draft202012Validator(json.loads(editor_schema(SCHEMA)))
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
FIELDS = [
    (name, field, value)
    for name, part in {"Recipe": SCHEMA, **SCHEMA["$defs"]}.items()
    for field, value in part.get("properties", {}).items()
]


@pytest.mark.parametrize(
    ("file", "words"),
    [("recipe.schema.json", "schema"), ("recipe.md", "schema --markdown")],
    ids=["schema", "markdown"],
)
def test_the_file_in_docs_is_what_the_command_prints(file: str, words: str) -> None:
    printed = CliRunner().invoke(main, words.split(), catch_exceptions=False).stdout
    assert (ROOT / "docs" / file).read_text() == printed, f"renew it: pairsmith {words} > docs/{file}"


def test_the_command_needs_neither_prefect_nor_pandas() -> None:
    code = (
        "import sys; from flows.__main__ import main; main(['schema'], standalone_mode=False); "
        "print([m for m in ('prefect', 'pandas', 'torch') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=clean_environment(), check=True
    )
    assert json.loads(done.stdout)["title"] == "pairsmith recipe"
    assert done.stderr == "[]\n"


def test_every_field_and_every_part_says_what_it_is() -> None:
    assert len(FIELDS) > 200
    assert [f"{part}.{field}" for part, field, value in FIELDS if not value.get("description", "").strip()] == []
    parts = {name: part for name, part in SCHEMA["$defs"].items() if "properties" in part}
    assert [name for name, part in parts.items() if not part.get("description")] == []


def test_the_schema_is_sound_and_names_no_address_that_leads_nowhere() -> None:
    Draft202012Validator.check_schema(EDITORS.schema)
    assert EDITORS.schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "$id" not in EDITORS.schema


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_an_editor_finds_the_schema_of_every_recipe_and_no_fault_in_it(path: Path) -> None:
    first, _, rest = path.read_text().partition("\n")
    named = first.removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / named).resolve() == ROOT / "docs" / "recipe.schema.json"
    assert list(EDITORS.iter_errors(yaml.safe_load(rest))) == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ((), {"pairng": {}}),
        (("pool", "members", 0), {"modell": "x"}),
        (("evolution", "evolver", "sampling"), {"temprature": 1}),
        (("rating", "judges", 0), {"readout": "yaml"}),
        ((), {"pairing": {"min_margin": -1}}),
        ((), {"format": 2}),
    ],
)
def test_an_editor_marks_a_misspelt_field_and_a_wrong_value(place: tuple[str | int, ...], value: Any) -> None:
    data: Any = yaml.safe_load((ROOT / "recipes" / "demo.yaml").read_text())
    target = data
    for key in place:
        target = target[key]
    target.update(value)
    (error,) = EDITORS.iter_errors(data)
    assert str(next(iter(value))) in f"{error.message} {error.json_path}"


def test_every_part_has_a_section_and_every_field_a_row() -> None:
    text = markdown(SCHEMA)
    assert text.count("\n## ") == 1 + sum("properties" in part for part in SCHEMA["$defs"].values())
    rows = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert sorted(rows) == sorted(field for _, field, _ in FIELDS)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")} == {5}


def test_sections_stand_in_the_order_of_a_recipe() -> None:
    headings = re.findall(r"^## (.*)$", markdown(SCHEMA), re.MULTILINE)
    wanted = [
        "The recipe", "`budget`", "`prompts`", "`prompts.sources.*`", "`prompts.sources.*.columns`", "`pool`",
        "`pool.members.*`", "`pool.members.*.sampling`", "`pool.members.*.endpoint`", "`evolution`", "`rating`",
        "`rating.judges.*`", "`rating.checks.*`, kind `regex`", "`rating.rubrics.*`", "`pairing`", "`pairing.guard`",
        "`gates`", "`publishing`", "`publishing.hub`",
    ]  # fmt: skip
    assert [heading for heading in headings if heading in wanted] == wanted


def test_every_link_leads_to_a_heading_as_a_reader_of_markdown_finds_it() -> None:
    text = markdown(SCHEMA)
    plain = [re.sub(r"[`.*,]", "", heading) for heading in re.findall(r"^## (.*)$", text, re.MULTILINE)]
    anchors = [heading.lower().replace(" ", "-") for heading in plain]
    assert len(anchors) == len(set(anchors))
    links = re.findall(r"\]\(#([^)]*)\)", text)
    assert set(links) == set(anchors) - {"the-recipe"}


@pytest.mark.parametrize(
    "row",
    [
        "| `format` | `1` | `1` |",
        "| `ledger` | text or `null` | `null` |",
        "| `description` | text | `\"\"` |",
        "| `workspace` | text (1 or more characters) | `pairsmith-data` |",
        "| `pattern` | text (1 to 10000 characters) | required |",
        "| `budget` | [`budget`](#budget) | `{}` |",
        "| `sources` | list of [`prompts.sources.*`](#promptssources) (1 or more) | required |",
        "| `top_p` | number > 0 and <= 1 or `null` | `1.0` |",
        "| `min_agreement` | number >= -1 and <= 1 or `null` | `null` |",
        "| `keep` | one of `all`, `last` | `all` |",
        "| `methods` | list of names (1 or more) | `[\"helpfulness\", \"relevance\",",
        "| `weights` | mapping of texts to mappings of texts to numbers | required |",
        "| `rubrics` | mapping of names to [`rating.rubrics.*`](#ratingrubrics) | `{}` |",
        "| `scale` | [number, number] or `null` | `null` |",
        "| `sampling` | [`pool.members.*.sampling`](#poolmemberssampling) | `{\"temperature\": 0.0}` |",
        "| `schema` | mapping of texts to any JSON value | required |",
        "| `checks` | list of [`exact-match`](#ratingchecks-kind-exact-match) or [`regex`](",
        "| `private` | `true` or `false` | `true` |",
    ],
)  # fmt: skip
def test_types_and_defaults_are_said_in_words(row: str) -> None:
    assert f"\n{row}" in markdown(SCHEMA)


def test_a_part_in_several_places_is_described_once_and_says_where_else() -> None:
    text = markdown(SCHEMA)
    assert text.count("## `pool.members.*.sampling`\n") == 1
    assert (
        "\nAlso at `evolution.evolver.sampling`, `rating.judges.*.sampling`, `rating.criteria.author.sampling`.\n"
        in text
    )
    assert "\nAlso at `prompts.decontaminate.against.*`.\n" in text


def test_parts_that_hold_themselves_and_bars_in_texts_are_no_trouble() -> None:
    class Branch(BaseModel):
        """A branch."""

        twigs: list[Branch] = Field([], max_length=3, description="this | that")

    class Tree(BaseModel):
        """A tree."""

        branch: Branch = Field(description="its first")

    Branch.model_rebuild(_types_namespace={"Branch": Branch})
    text = markdown(Tree.model_json_schema())
    assert "\n| `twigs` | list of [`branch`](#branch) (0 to 3) | `[]` | this \\| that |\n" in text
    assert "\nAlso at `branch.twigs.*`.\n" in text

"""What a person reads who has made a mistake in a recipe, word by word, typed as a user types it."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, TypeAdapter

from pairsmith.building.rows import column_names
from pairsmith.config import Recipe
from pairsmith.config.complaints import PATTERNS
from pairsmith.config.loading import as_recipe, load_recipe
from pairsmith.config.places import Place
from pairsmith.config.plugins import PATH
from pairsmith.errors import ConfigError, WrongFields

RECIPE = """\
name: tiny
prompts: {sources: [{path: data.jsonl}]}
pool: {members: [{name: a, backend: echo, model: x}, {name: b, backend: echo, model: y}]}
rating: {judges: [{name: j, backend: echo, model: z}]}
"""
ECHO_X = "backend: echo, model: x"
PYDANTIC = re.compile(
    r"valid (tuple|list|dict|string|integer|number|boolean)|Input should|[Ee]xtra inputs|union|discriminator|"
    r"value_error|type=|unicode string|pydantic|function-(after|before|wrap)"
)
MISTAKES = [  # what is replaced in RECIPE ("" puts it at the end), by what, and the message below the file's name
    ("prompts:", "promts:", ":\n  line 2: promts: there is no such field; did you mean prompts?"),
    (ECHO_X, "bakend: echo, model: x",
     ":\n  line 3: pool.members.0.bakend: there is no such field; did you mean backend?"),
    ("[{name: j, backend: echo, model: z}]", "j",
     ":\n  line 4: rating.judges: must be a list, such as [a, b] (given: 'j')"),
    (ECHO_X, "backend: openai, model: x, endpoint: {base_url: 'localhost:80/v1'}",
     ":\n  line 3: pool.members.0.endpoint.base_url: is an address that begins with http:// or https://, without a "
     "password, '?' or '#'"),
    (ECHO_X, ECHO_X + ", endpoint: {base_url: 'http://localhost:80/v1'}",
     ":\n  line 3: pool.members.0.endpoint: goes with backend openai, and only with it"),
    ("", "pairing:\n", ":\n  line 5: pairing: must be fields with values (nothing is given)"),
    ("", "pairing: {min_margin: big}\n", ":\n  line 5: pairing.min_margin: must be a number (given: 'big')"),
    ("model: x}", "model: x, samples: two}",
     ":\n  line 3: pool.members.0.samples: must be a whole number (given: 'two')"),
    ("", "publishing: {license: 3}\n", ":\n  line 5: publishing.license: must be text (given: 3)"),
    ("]}\npool", "], limit: -2}\npool",
     ":\n  line 2: prompts.limit: must be greater than or equal to 1 (given: -2)"),
    ("tiny", "Tiny Set", ":\n  line 1: name: takes small letters, digits, '.', '_' and '-', at most 64, a letter or "
     "digit first (given: 'Tiny Set')"),
    ("", "3: x\n", ":\n  line 1: 3: names of fields are text; put this one in quotes (given: 3)"),
    ("", "name: again\n", ":5: name: stands here and in line 1; keep one of them"),
    ("", "pairing:\n\tmin_margin: 1\n",
     ":6: not valid YAML: indent with spaces, not with tabs, and put text that begins "
     "with @, ` or % in quotes"),
    ("", "pairing: *x\n", ":5: not valid YAML: an alias (*name) stands for an anchor (&name) that is not there; text "
     "with * needs quotes"),
    ("tiny", "a: b", ":1: not valid YAML: a colon stands where none can; put text that holds ': ' in quotes"),
    (RECIPE, "", ":1: the file is empty; a recipe has name, prompts, pool, ...; see recipes/echo.yaml"),
    (RECIPE, "- a\n", ":1: this is a list; a recipe is a mapping with name, prompts, pool, ...; see recipes/echo.yaml"),
]  # fmt: skip


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "data.jsonl").write_text('{"prompt": "Hi"}\n')
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "recipe.yaml"


def refused(recipe: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_recipe(recipe, overrides)
    return str(caught.value).removeprefix(str(recipe))


@pytest.mark.parametrize(("was", "becomes", "told"), MISTAKES)
def test_a_mistake_in_a_recipe_is_told_in_these_words(recipe: Path, was: str, becomes: str, told: str) -> None:
    recipe.write_text(RECIPE.replace(was, becomes, 1) if was else RECIPE + becomes)
    assert refused(recipe) == told


def test_a_folder_and_a_file_that_is_not_text_are_told(recipe: Path) -> None:
    assert refused(recipe.parent) == f": this is a folder; name the recipe's file, such as {recipe}"
    recipe.write_bytes(b"name: tiny\nprompts: \xff\n")
    assert refused(recipe) == ":2: the file is not UTF-8 text; save it as UTF-8"


def test_a_file_that_is_not_there_is_told_with_where_it_was_looked_for(recipe: Path) -> None:
    recipe.write_text(RECIPE.replace("data.jsonl", "absent.jsonl"))
    assert refused(recipe) == (f": prompts.sources: absent.jsonl is neither in {recipe.parent} nor in {Path.cwd()}")


def test_a_mark_that_editors_put_before_utf_8_text_does_no_harm(recipe: Path) -> None:
    recipe.write_text("\ufeff" + RECIPE)
    assert load_recipe(recipe).name == "tiny"


def test_what_set_gets_wrong_is_not_put_to_a_line_of_the_file(recipe: Path) -> None:
    assert refused(recipe, "pairing.min_margin=big") == (
        ":\n  --set pairing.min_margin: must be a number (given: 'big')"
    )


def test_the_command_line_says_it_so_and_ends_with_2(recipe: Path) -> None:
    recipe.write_text(RECIPE.replace("prompts:", "promts:"))
    command = [sys.executable, "-m", "pairsmith_flows", "validate", str(recipe)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr == f"error: {recipe}:\n  line 2: promts: there is no such field; did you mean prompts?\n"


def test_a_recipe_that_a_program_makes_is_told_in_the_same_words() -> None:
    wrong = yaml.safe_load(RECIPE.replace("model: x", "modle: x"))
    told = "recipe:\n  pool.members.0.modle: there is no such field; did you mean model?"
    made: list[Callable[[], object]] = [
        lambda: Recipe(**wrong),
        lambda: Recipe.model_validate(wrong),
        lambda: as_recipe(wrong),
        lambda: TypeAdapter(list[Recipe]).validate_python([wrong]),
    ]
    for make in made:
        with pytest.raises(WrongFields) as caught:
            make()
        assert str(caught.value) == told
        assert caught.value.mistakes == [(("pool", "members", 0, "modle"), told.partition(".modle: ")[2])]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"promt": "q"}, "columns.promt: there is no such field; did you mean prompt?"),
        ({"prompt": 3}, "columns.prompt: must be text (given: 3)"),
        ({"prompt": "q", "messages": "m"}, "columns: name either prompt or messages, not both"),
    ],
)
def test_columns_that_a_program_names_wrongly(columns: Any, told: str) -> None:
    parts = "prompt, messages, system_prompt, reference, source, instructions, instruction_kwargs, turns"
    with pytest.raises(ConfigError) as caught:
        column_names(columns)
    assert str(caught.value) == f"{told}\nThe keys are {parts}; the values say where each stands"


WHOLE = """\
name: whole
budget: {tokens: 9}
prompts:
  sources:
  - {path: data.jsonl, columns: {prompt: q}, completions: {columns: {a: {text: t, ratings: {overall: r}}, b: u}}}
  - {sql: {url: "sqlite:///x.db", query: select 1}}
  - {path: "https://example.org/x.csv", http: {headers_env: {X-Me: ME}}}
  decontaminate: {against: [{path: data.jsonl}]}
pool:
  members:
  - {name: a, backend: echo, model: x, local: {batch_size: 1}, sampling: {stop: [x]}, price: {prompt: 1}}
  - {name: b, backend: openai, model: y, principles: {weights: {default: {honesty: 1}}},
     endpoint: {base_url: "http://127.0.0.1:9/v1", headers: {a: b}}}
  - {name: c, backend: given}
evolution: {evolver: {backend: echo, model: z}, templates: {mine: Be kind.}}
rating:
  judges:
  - {name: j, backend: echo, model: z, protocol: pairwise, comparisons: {rounds: 2}, format: {
     user: "{{ first }} or {{ second }}?", answer: "(?P<first>1)|(?P<second>2)"}, aspects: [overall, own]}
  - {name: k, backend: echo, model: u, aspects: [criteria]}
  checks:
  - {name: e, kind: exact-match, gate: true}
  - {name: r, kind: regex, pattern: x, gate: true}
  - {name: s, kind: json-schema, schema: {type: object}, gate: true}
  - {name: i, kind: ifeval, gate: true}
  - {name: p, kind: python, callable: "os.path:join", gate: true}
  calibration:
    made_at: 2026-01-01T00:00:00Z
    gold: {name: gold.jsonl, pairs: 3, digest: d}
    judges: {j: {weight: 1, offset: 0, model: z, form: "pairwise, text", mark: m},
      k: {weight: 1, offset: 0, model: u, form: "criteria, text", mark: m}}
    right: {count: 2, of: 3, low: 0.1, high: 0.9}
  rubrics: {own: {criterion: how good it is, items: [short]}}
  criteria: {author: {backend: echo, model: w}}
  aspects: [overall, own, criteria]
pairing: {aspect_weights: {own: 2}, guard: {repeated: 2}, similarity: {model: x}, max_length_difference: {most: 9},
  signals: [{name: s, min_margin: 0.5}]}
gates: {min_pairs: 1}
publishing: {hub: {repo_id: me/pairs}, screen: {kinds: [email]}, exports: [kto]}
"""
WRONG: dict[Any, list[Any]] = {  # the kind of a field: values of other kinds
    str: [3, True, [1], {"x": 1}], int: ["many", [1], {"x": 1}, 1.5], float: ["many", [1], {"x": 1}],
    bool: ["maybe", 3, [1]], tuple: [3, "word", {"x": 1}], dict: [3, "word", [1]], Literal: ["no such word", 3, [1]],
    AwareDatetime: ["yesterday", "2026-01-01", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z", float("nan"), True, [1]],
}  # fmt: skip


def kinds_in(annotation: Any) -> set[Any]:
    """The kinds of a field's values, as WRONG calls them."""
    if get_origin(annotation) in (Union, UnionType, Annotated):
        parts = get_args(annotation)[: 1 if get_origin(annotation) is Annotated else None]
        return {kind for part in parts for kind in kinds_in(part)}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {dict}
    return {get_origin(annotation) or annotation} - {type(None)}


def fields_in(value: Any, data: Any, place: Place = ()) -> Iterator[tuple[Place, set[Any], bool]]:
    """All fields of the parts that a recipe's data has: the place of each, the kinds of its values, if it is there."""
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            key = field.alias or name
            yield (*place, key), kinds_in(field.annotation), key in data
            yield from fields_in(getattr(value, name), data[key], (*place, key)) if key in data else ()
    elif isinstance(value, dict | tuple):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from fields_in(part, data[key], (*place, key))


DATA = yaml.safe_load(WHOLE)
FIELDS = list(fields_in(Recipe.model_validate(DATA), DATA))


def broken(place: Place, change: Callable[[Any], None]) -> tuple[str, str]:
    """The whole recipe's text with one change beside a place, and the path of the field that it says is wrong."""
    data = copy.deepcopy(DATA)
    around = data
    for part in place[:-1]:
        around = around[part]
    change(around)
    return yaml.safe_dump(data, sort_keys=False), ".".join(map(str, place))


def only_mistake(recipe: Path, text: str) -> tuple[str, str, str]:
    """What stands in the line that the message names, the field and the sentence of the one mistake in a recipe."""
    recipe.write_text(text)
    told = refused(recipe)
    found = re.fullmatch(r":\n  line (\d+): ([^ ]+): (.+)", told)
    assert found, told
    assert not PYDANTIC.search(told), told
    return text.splitlines()[int(found[1]) - 1].lstrip(" -"), found[2], found[3]


def test_what_a_text_has_to_match_is_said_in_words() -> None:
    def patterns(schema: Any) -> Iterator[str]:
        if isinstance(schema, dict | list):
            for name, part in schema.items() if isinstance(schema, dict) else enumerate(schema):
                yield from [part] if name == "pattern" and isinstance(part, str) else patterns(part)

    assert set(patterns(Recipe.model_json_schema())) - {PATH} == set(PATTERNS)


def test_the_whole_recipe_has_a_part_of_every_kind() -> None:
    def parts(model: Any) -> Iterator[Any]:
        for part in get_args(model):
            yield from parts(part)
        if isinstance(model, type) and issubclass(model, BaseModel) and not get_args(model):
            yield model
            for field in model.model_fields.values():
                yield from parts(field.annotation)

    def had(value: Any) -> Iterator[Any]:
        if isinstance(value, BaseModel):
            yield type(value)
            for name in type(value).model_fields:
                yield from had(getattr(value, name))
        elif isinstance(value, dict | tuple):
            for part in value.values() if isinstance(value, dict) else value:
                yield from had(part)

    assert set(parts(Recipe)) == set(had(Recipe.model_validate(DATA)))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_wrong_kind_of_value_in_any_field_is_one_mistake_of_that_field(recipe: Path, data: st.DataObject) -> None:
    place, kinds, _ = data.draw(st.sampled_from(FIELDS))
    is_told(recipe, place, data.draw(st.sampled_from(wrong_for(kinds))))


def test_each_wrong_value_is_told_of_a_field_of_each_kind(recipe: Path) -> None:
    one_of_each = {frozenset(kinds): place for place, kinds, _ in FIELDS}
    for kinds, place in one_of_each.items():
        for value in wrong_for(set(kinds)):
            is_told(recipe, place, value)


def is_told(recipe: Path, place: Place, wrong: Any) -> None:
    text, field = broken(place, lambda around: around.__setitem__(place[-1], wrong))
    line, told, sentence = only_mistake(recipe, text)
    assert told == field
    assert line.startswith(f"{place[-1]}:"), line
    assert re.search("must be|needs|its kind", sentence), sentence


def wrong_for(kinds: set[Any]) -> list[Any]:
    return [value for value in WRONG[min(kinds, key=list(WRONG).index)] if is_wrong(value, kinds)]


def is_wrong(value: Any, kinds: set[Any]) -> bool:
    kind = Literal if isinstance(value, str) and Literal in kinds else type(value)
    return kind is Literal or {list: tuple}.get(kind, kind) not in kinds


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_misspelt_field_is_one_mistake_that_names_the_right_one(recipe: Path, data: st.DataObject) -> None:
    place, _, _ = data.draw(st.sampled_from([field for field in FIELDS if field[2]]))
    name = str(place[-1])
    cut = data.draw(st.integers(1, max(1, len(name) - 1)))
    wrong = name[:cut] + data.draw(st.sampled_from("qz_")) + name[cut:]
    text, field = broken((*place[:-1], wrong), lambda around: around.__setitem__(wrong, around.pop(name)))
    line, told, sentence = only_mistake(recipe, text)
    assert told == field
    assert line.startswith(f"{wrong}:")
    assert sentence.startswith("there is no such field; ")

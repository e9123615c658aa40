from __future__ import annotations

from pathlib import Path

import pytest

from pairsmith.config import Recipe
from pairsmith.config.loading import load_recipe
from pairsmith.errors import ConfigError
from tests.conftest import ROOT

RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
MINIMAL = """
name: tiny
prompts: {sources: [{path: data.jsonl}]}
pool: {members: [{name: a, backend: echo, model: x}, {name: b, backend: echo, model: y}]}
rating: {judges: [{name: j, backend: echo, model: z}]}
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    (tmp_path / "data.jsonl").write_text('{"prompt": "Hi"}\n')
    path = tmp_path / "recipe.yaml"
    path.write_text(MINIMAL)
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_that_ships_is_valid_and_commented(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert path.read_text().startswith("# ")
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


def test_the_recipes_asked_for_are_there() -> None:
    assert {"demo", "echo", "ultrafeedback", "tulu3", "simpo", "delta", "olmo3", "re-pair"} <= {
        path.stem for path in RECIPES
    }


def test_a_path_is_found_beside_the_recipe(recipe_file: Path) -> None:
    recipe = load_recipe(recipe_file)
    assert recipe.prompts.sources[0].path == str(recipe_file.parent / "data.jsonl")


def test_overrides_reach_nested_fields_and_lists(recipe_file: Path) -> None:
    recipe = load_recipe(
        recipe_file, ["pairing.min_margin=0.5", "pool.members.1.sampling.temperature=0", "prompts.limit=3"]
    )
    assert recipe.pairing.min_margin == 0.5
    assert recipe.pool.members[1].sampling.temperature == 0
    assert recipe.prompts.limit == 3


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("pairing.min_margn=1", "pairing.min_margn: there is no such field"),
        ("pool.members.0.sampling.temperature=hot", "pool.members.0.sampling.temperature"),
        ("pool.members.0.sampling.temperature=-1", "greater than or equal to 0"),
        ("pool.members.1.name=a", "named more than once"),
        ("pool.draw=3", "there are 2 members"),
        ("pairing.strategy=member-order", "member_order"),
        ("pairing.strategy=evolved-vs-original", "evolution section"),
        ("pairing.aspect_weights={honesty: 2}", "pairing.aspect_weights: there is no honesty; there is overall"),
        ("rating.judges.0.readout=logprobs", "needs protocol pointwise"),
        ("rating=null", "needs a rating section"),
        ("pool.members.0.samples=2", None),
        ("workspace=s3://bucket/x", "ledger"),
        ("pool.members.9.name=x", "pool.members has no item 9: the last of its items is pool.members.1"),
        ("nonsense", "write it as key=value"),
        ("evolution={evolver: {model: m, backend: echo}, methods: [magic]}", "there is no magic; built in are helpf"),
    ],
)
def test_a_wrong_field_is_named(recipe_file: Path, override: str, told: str | None) -> None:
    if told is None:
        load_recipe(recipe_file, [override])
        return
    with pytest.raises(ConfigError) as error:
        load_recipe(recipe_file, [override])
    assert told in str(error.value)


def test_an_override_changes_no_other_place_that_shares_an_anchor() -> None:
    recipe = load_recipe(ROOT / "recipes" / "demo.yaml", ["pool.members.0.sampling.max_tokens=50"])
    assert [member.sampling.max_tokens for member in recipe.pool.members] == [50, 96]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("prompts.sources.0.columns.prompt='{{ broken'", "not a valid template"),
        (
            "evolution={evolver: {model: m, backend: echo}, methods: [a], templates: {a: '{{ broken'}}",
            "not a valid template",
        ),
        ("pool.members.0.principles={weights: {default: {kindness: 1}}}", "there is no kindness"),
        ("rating.judges=[{name: a, backend: echo, model: z}, {name: b, backend: echo, model: z}]", "same answers"),
    ],
)
def test_what_would_fail_later_is_refused_now(recipe_file: Path, override: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_recipe(recipe_file, [override])
    assert told in str(error.value)


def test_a_model_folder_is_made_absolute_and_templates_must_be_read_in(recipe_file: Path) -> None:
    (recipe_file.parent / "ckpt").mkdir()
    recipe = load_recipe(recipe_file, ["pool.members.0.model=./ckpt"])
    assert recipe.pool.members[0].model == str((recipe_file.parent / "ckpt").resolve())
    data = recipe.model_dump(mode="json") | {
        "evolution": {"evolver": {"model": "m"}, "methods": ["a"], "templates": {"a": "mine.jinja"}}
    }
    with pytest.raises(ConfigError, match="was not read in"):
        Recipe.model_validate(data)


def test_members_that_would_answer_alike_are_refused(recipe_file: Path) -> None:
    with pytest.raises(ConfigError, match="would give the same answers"):
        load_recipe(recipe_file, ["pool.members.1.model=x"])
    load_recipe(recipe_file, ["pool.members.1.model=x", "pool.members.1.sampling.seed=1"])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such recipe"):
        load_recipe(tmp_path / "nowhere.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_recipe(broken)
    broken.write_text(MINIMAL)
    with pytest.raises(ConfigError, match=r"data\.jsonl is neither in"):
        load_recipe(broken)


def test_templates_are_read_in(recipe_file: Path) -> None:
    (recipe_file.parent / "own.txt").write_text("Make it rhyme.")
    recipe = load_recipe(
        recipe_file,
        ["evolution={evolver: {model: m, backend: echo}, methods: [rhyme], templates: {rhyme: own.txt}}"],
    )
    assert recipe.evolution is not None
    assert recipe.evolution.templates == {"rhyme": "Make it rhyme."}


def test_an_error_in_the_item_of_a_list_is_told_once(recipe_file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(recipe_file, ["prompts.sources.0.layuot=alpaca"])
    assert str(caught.value).splitlines()[1:] == [
        "  --set prompts.sources.0.layuot: there is no such field; did you mean layout?"
    ]
    with pytest.raises(ConfigError, match="at least 1 item"):
        load_recipe(recipe_file, ["prompts.sources=[]"])

"""What a data set's card tells the Hub and the people who load it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pairsmith.config import Recipe
from pairsmith.config.loading import parse_recipe
from pairsmith.reporting.card import render_card
from pairsmith.reporting.summary import Summary
from tests.runs import run

COUNTED = Summary(rows_read=1, loaded=1, paired=1, pairs=1)
ECHO = {"name": "judge", "backend": "echo", "model": "e"}


def rated_by(folder: Path, *judges: dict[str, Any], **changes: Any) -> Recipe:
    """A recipe over pairs that a file in a folder brings, with ratings."""
    (folder / "rows.jsonl").write_text(
        "".join(
            json.dumps({"prompt": f"{n}?", "yes": "So it is.", "no": "Never.", "a": 5, "b": 2}) + "\n" for n in "123"
        )
    )
    columns = {"yes": {"text": "yes", "ratings": {"overall": "a"}}, "no": {"text": "no", "ratings": {"overall": "b"}}}
    source = {"path": str(folder / "rows.jsonl"), "completions": {"columns": columns}}
    recipe = {
        "name": "set", "workspace": str(folder / "data"), "prompts": {"sources": [source]},
        "pool": {"members": [{"name": "given", "backend": "given"}]}, "rating": {"judges": list(judges)},
    }  # fmt: skip
    return parse_recipe(recipe | changes, base=folder)


def front_of(card: str) -> dict[str, Any]:
    front: dict[str, Any] = yaml.safe_load(card.split("---")[1])
    return front


def test_a_card_names_no_folder_of_this_machine_and_loads_from_its_own(tmp_path: Path) -> None:
    published, _, _ = run(rated_by(tmp_path, {"name": "people", "backend": "given"}))
    for page in ("README.md", "recipe.yaml"):
        assert str(tmp_path) not in Path(published.folder, page).read_text()
    card = Path(published.folder, "README.md").read_text()
    assert 'dataset = load_dataset("set")  # the folder that holds this file\n```' in card


def test_a_card_on_the_hub_or_in_a_bucket_says_what_to_load(tmp_path: Path) -> None:
    recipe = rated_by(tmp_path, ECHO)
    at_hub, in_bucket = (
        render_card(recipe, COUNTED, where, {"data/train": 1}, "0", []) for where in ("me/pairs", "s3://bucket/set")
    )
    assert 'load_dataset("me/pairs")\n```' in at_hub
    assert "pairsmith export s3://bucket/set set" in in_bucket
    assert 'load_dataset("set")\n```' in in_bucket


@pytest.mark.parametrize(
    ("judges", "said", "unsaid"),
    [
        ([{"name": "people", "backend": "given"}], "by people came with the sources", "were written by models"),
        ([ECHO], "by judge were written by models", "ratings by people"),
        ([{"name": "people", "backend": "given"}, ECHO], "by people came with the sources", "by people were written"),
    ],
)
def test_a_card_says_who_rated(tmp_path: Path, judges: list[dict[str, Any]], said: str, unsaid: str) -> None:
    card = render_card(rated_by(tmp_path, *judges), COUNTED, "", {"data/train": 1}, "0", [])
    assert said in card
    assert unsaid not in card


def test_each_form_is_a_configuration_of_its_own_and_a_tag_tells_whom_it_serves(tmp_path: Path) -> None:
    groups = {"data/train": 2, "data/test": 1, "kto/train": 1, "reward/train": 1}
    front = front_of(render_card(rated_by(tmp_path, ECHO), COUNTED, "", groups, "0" * 64, []))
    assert {one["config_name"]: [file["path"] for file in one["data_files"]] for one in front["configs"]} == {
        "default": [f"data/train-*-{'0' * 12}.parquet", f"data/test-{'0' * 12}.parquet"],
        "kto": [f"kto/train-{'0' * 12}.parquet"],
        "reward": [f"reward/train-{'0' * 12}.parquet"],
    }
    assert {"preference", "dpo", "kto", "reward-model", "rlhf", "trl"} <= set(front["tags"])
    assert front["task_categories"] == ["text-generation"]
    alone = front_of(render_card(rated_by(tmp_path, ECHO), COUNTED, "", {"data/train": 1}, "0" * 64, []))
    assert not {"kto", "reward-model"} & set(alone["tags"])

"""F22: a check that lacks what it needs from outside is refused before anything is asked; later it judges anew.

The check is `ifeval`, whose package needs data of NLTK that no package brings.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pairsmith import build, preview, rate
from pairsmith.config import Recipe
from pairsmith.config.check_kinds import IfEval
from pairsmith.errors import ConfigError, RunError
from pairsmith.judging import checks
from pairsmith.judging.readouts import Read
from pairsmith.planning.dry_run import plan_run
from pairsmith.stages.base import open_store
from pairsmith.storage.store import TableRef
from pairsmith.testing import FakeEndpoint
from tests.nltk_data import install_nltk_data

Build = Callable[..., Recipe]
Tally = Callable[..., None]
COMMAND = "python -m nltk.downloader punkt_tab"
ASKED = {"instruction_id_list": ["change_case:capital_word_frequency"],
         "kwargs": [{"capital_frequency": 1, "capital_relation": "at least"}]}  # fmt: skip

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("if_verifiable") is None, reason="the extra `ifeval` is not installed"
)


@pytest.fixture
def look_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets NLTK look for its data in some folders alone, at first in none."""

    def look(*folders: Path) -> None:
        monkeypatch.setattr(importlib.import_module("nltk.data"), "path", [str(folder) for folder in folders])
        importlib.import_module("nltk.tokenize")._get_punkt_tokenizer.cache_clear()  # of what other tests had there

    look()
    return look


@pytest.fixture
def recipe(base_recipe: Build, endpoint: FakeEndpoint, file: Callable[[str, str], Path]) -> Recipe:
    rows = "".join(json.dumps({"prompt": f"Question {n}?", **ASKED}) + "\n" for n in range(3))
    sources = {"sources": [{"path": str(file("asked.jsonl", rows))}]}
    model = {"backend": "openai", "model": "judge", "endpoint": {"base_url": endpoint.url, "api_key_env": None}}
    rating = {"aspects": ["overall"], "judges": [{"name": "judge", **model}],
              "checks": [{"kind": "ifeval", "name": "follows"}]}  # fmt: skip
    return base_recipe(endpoint, 1, members=2, prompts=sources, rating=rating)


def results(recipe: Recipe) -> list[dict[str, Any]]:
    store = open_store(recipe)
    tables = (store.read(TableRef("ratings", shard, "judge-checks")) for shard in store.shards())
    return [row for table in tables for row in table.to_dict("records")]


def test_f22_nothing_is_asked_where_a_check_cannot_run(
    recipe: Recipe, endpoint: FakeEndpoint, look_in: Callable[..., None], tally: Tally
) -> None:
    frame = [{"prompt": "Why?", "completion": "Because."}]
    rating = {"rating": recipe.rating.model_dump(mode="json") if recipe.rating else None}
    for begin in (build, preview, plan_run, lambda _: rate(frame, rating)):
        with pytest.raises(ConfigError, match=COMMAND):
            begin(recipe)
    assert not endpoint.journal
    assert not Path(recipe.workspace, recipe.name).exists()
    tally(trials=4)


def test_f22_a_check_of_instructions_that_need_no_data_needs_none(look_in: Callable[..., None]) -> None:
    def judged(only: list[str], asked: str) -> Read:
        check = IfEval(kind="ifeval", name="follows", instructions=tuple(only))
        checks.require([check])
        return checks.judge_text(check, "No comma here.", [], None, {"instructions": [{"id": asked}]})

    assert judged(["punctuation:no_comma"], "punctuation:no_comma").rating == 1
    other = judged(["punctuation:no_comma"], "startend:quotation")
    assert (other.rating, other.error) == (None, "instruction that the check does not name: startend:quotation")
    for name in ("change_case:capital_word_frequency", "length_constraints:number_sentences"):
        with pytest.raises(ConfigError, match=COMMAND):
            judged(["punctuation:no_comma", name], name)
    with pytest.raises(ConfigError, match=r"check follows: instructions: no such instruction: punctuation:no_coma"):
        judged(["punctuation:no_coma"], "punctuation:no_comma")


def test_f22_ratings_that_are_null_for_that_are_made_anew(
    recipe: Recipe,
    endpoint: FakeEndpoint,
    look_in: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tally: Tally,
) -> None:
    with monkeypatch.context() as before:
        before.setattr(checks, "_punkt_digest", lambda: "")  # as when nobody looked
        with pytest.raises(RunError, match=r"a judge gave no usable rating \(6\)"):
            build(recipe)
    nulls = results(recipe)
    assert nulls
    assert all("NLTK's data" in row["error"] for row in nulls)
    calls = len(endpoint.journal)
    look_in(install_nltk_data(tmp_path / "nltk"))
    build(recipe)
    made = results(recipe)
    assert len(made) == len(nulls)
    assert all(row["rating"] in (0, 1) for row in made)
    assert len(endpoint.journal) == calls
    tally(trials=2, lost=sum(row["rating"] is None for row in made))


def test_f22_the_data_is_part_of_what_a_check_is(look_in: Callable[..., None], tmp_path: Path) -> None:
    check = IfEval(kind="ifeval", name="follows")
    found = []
    for name, abbreviations in (("one", ""), ("same", ""), ("other", "dr\n")):
        look_in(install_nltk_data(tmp_path / name, abbreviations))
        found.append(checks.check_hash(check))
    assert found[0] == found[1] != found[2]
    (tmp_path / "other" / checks._PUNKT / "ortho_context.tab").unlink()
    with pytest.raises(ConfigError, match=COMMAND):
        checks.check_hash(check)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pairsmith.config import Pairing
from pairsmith.config.loading import load_recipe
from pairsmith.errors import ConfigError, ModelNotFound
from pairsmith.llms.local.token_counts import token_counter
from pairsmith.planning.preflight import require_all
from pairsmith.reporting.card import recipe_yaml
from pairsmith.session import Session
from pairsmith.stages.plan import plan_fingerprint
from pairsmith.storage.schemas import Reason
from tests.pairing.cases import ids, long_pool, reason, selected
from tests.tiny import tokenizer_at

RECIPE = """
name: lengths
prompts: {sources: [{path: p.jsonl}]}
pool: {members: [{name: a, backend: echo, model: a}, {name: b, backend: echo, model: b}]}
pairing: {strategy: member-order, member_order: [a, b], max_length_difference: %s}
"""


def test_the_next_pair_of_like_lengths_takes_the_place_of_an_unequal_one() -> None:
    made, table = long_pool((5.0, 100), (1.0, 151), (2.0, 150))
    selection = selected(made, table, Pairing(max_length_difference=50), True)
    assert ids(selection) == [("c0", "c2")]
    (passed,) = selection.rejections
    assert (passed["reason"], passed["completion_id"]) == (Reason.LENGTHS, "c0")
    assert passed["detail"] == "as chosen against c1: 100 and 151 characters, more than 50 apart"
    none = selected(made, table, Pairing(max_length_difference=0), True)
    assert reason(none) == Reason.LENGTHS


def test_lengths_are_counted_in_tokens_where_a_tokenizer_is_named(tmp_path: Path) -> None:
    tokenizer_at(tmp_path)
    pairing = Pairing.model_validate({"max_length_difference": {"most": 3, "tokenizer": str(tmp_path)}})
    count, gap = token_counter(Session()), pairing.length_gap
    assert gap is not None
    assert count(gap, "für") == 4  # bytes, and no BOS
    made, table = long_pool((5.0, 4), (1.0, 4))
    made[1]["text"] = "üüüü"
    assert ids(selected(made, table, Pairing(max_length_difference=3), True)) == [("c0", "c1")]
    assert ids(selected(made, table, pairing, True, length=count)) == []


def recipe(folder: Path, gap: str) -> Any:
    (folder / "p.jsonl").write_text('{"prompt": "x"}\n')
    (folder / "r.yaml").write_text(RECIPE % gap)
    return load_recipe(folder / "r.yaml")


def test_a_tokenizer_is_found_beside_its_recipe_and_is_part_of_the_plan(tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    tokenizer_at(tmp_path / "words")
    loaded = recipe(tmp_path, "{most: 3, tokenizer: words}")
    assert loaded.pairing.length_gap.tokenizer == str(tmp_path / "words")
    assert str(tmp_path) not in recipe_yaml(loaded)
    require_all(loaded)
    before = plan_fingerprint(loaded)
    tokenizer_at(tmp_path / "words", pairs=True)
    assert plan_fingerprint(loaded) != before
    assert len({plan_fingerprint(recipe(tmp_path, gap)) for gap in ("3", "4", "null")}) == 3


@pytest.mark.parametrize(("gap", "words"), [("-1", "greater than or equal"), ("{most: 3, revision: x}", "goes with")])
def test_a_bound_that_means_nothing_is_refused(tmp_path: Path, gap: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        recipe(tmp_path, gap)


def test_a_tokenizer_that_cannot_be_had_is_found_before_a_run(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="nobody/nothing"):
        require_all(recipe(tmp_path, "{most: 3, tokenizer: nobody/nothing}"))

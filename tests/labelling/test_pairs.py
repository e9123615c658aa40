"""Published rows as pairs that people are asked about, and what judges say of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pairsmith.config import Recipe
from pairsmith.labelling.pairs import VersionPairs, pair_of, pairs_in, verdicts
from tests.labelling.made import label, published
from tests.runs import run


def test_a_pair_says_what_data_set_and_judges_prefer_wherever_the_answers_stand() -> None:
    for number in range(8):
        row = published(number, judges=("one", "two"))
        row["rejected_ratings"][1]["score"] = 5.0
        pair = pair_of(row, "near_tie")
        texts = {"a": pair.gold.a, "b": pair.gold.b}
        assert texts[pair.chosen] == f"chosen answer {number}"
        assert texts[pair.judges["one"]] == f"chosen answer {number}"
        assert texts[pair.judges["two"]] == f"rejected answer {number}"
        assert pair.gold.drawn == "near_tie"


def test_a_system_prompt_is_kept_apart() -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    gold = pair_of(published(1, prompt=chat), "random").gold
    assert (gold.system_prompt, [*gold.messages]) == ("Be brief.", chat[1:])


def test_a_judge_is_compared_in_the_aspects_in_which_it_scored_both() -> None:
    def rated(**scores: float | None) -> list[dict[str, object]]:
        return [{"judge": "one", "aspect": aspect, "score": score} for aspect, score in scores.items()]

    assert verdicts(rated(x=1.0, y=5.0, critique=9.0), rated(x=2.0, critique=1.0)) == {"one": "b"}
    assert verdicts(rated(x=0.1, y=0.2), rated(x=0.2, y=0.1)) == {"one": "tie"}
    assert verdicts(rated(x=None), rated(x=1.0)) == {}


@pytest.fixture
def version(echo_recipe: Callable[..., Recipe]) -> VersionPairs:
    recipe = echo_recipe(30)
    run(recipe)
    return pairs_in(f"{recipe.workspace}/{recipe.name}")


def test_drawn_pairs_are_found_again_with_why_they_were_drawn(version: VersionPairs) -> None:
    few, many = version.draw(6, 0), version.draw(20, 0)
    assert few.pairs.keys() <= many.pairs.keys()
    given = [label(key, drawn=pair.gold.drawn, asked=6) for key, pair in few.pairs.items()]
    assert version.labelled(given) == few.pairs
    later = next(key for key in many.pairs if key not in few.pairs)
    found = version.labelled([*given, label(later, drawn=many.pairs[later].gold.drawn, asked=20)])
    assert found.keys() == few.pairs.keys() | {later}
    for key in few.pairs:  # a near tie of the first six that is in the random sample of twenty
        assert found[key] == many.pairs[key]
    assert version.labelled([label("of another version")]) == {}

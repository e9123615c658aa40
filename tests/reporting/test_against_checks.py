"""How far judges and pairs agree with the checks: every prompt once, every tie as half, whatever the shards."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from pairsmith.config import Pairing, Rating
from pairsmith.judging.readouts import NOT_APPLICABLE
from pairsmith.reporting.against_checks import (
    agreement_text,
    agreement_with_checks,
    counted,
    pairs_by_checks,
    pairs_text,
)
from pairsmith.reporting.agreement import Trust
from pairsmith.reporting.ratios import Share
from tests.reporting.test_agreement import shard
from tests.runs import completion, rating

RATING = Rating.model_validate(
    {
        "aspects": ["helpfulness", "honesty"],
        "judges": [{"name": name, "backend": "echo", "model": name} for name in ("good", "other")],
        "checks": [
            {"kind": "regex", "name": "polite", "pattern": "please"},
            {"kind": "regex", "name": "short", "pattern": "^.{9}$"},
        ],
    }
)
Prompt = dict[str, tuple[float | None, float | None, float | None]]  # answer -> scores by checks, good and other
PROMPTS: dict[str, Prompt] = {
    "right": {"a": (1, 5, 1), "b": (0, 2, 4)},
    "halves": {"c": (1, 3, 3), "d": (0, 3, 4), "e": (0, 1, 3)},  # good: 1/2 and 1; other: 0 and 1/2
    "alike": {"f": (1, 5, 1), "g": (1, 1, 5)},
    "no check": {"h": (None, 5, 1), "i": (None, 1, 5)},
    "a null": {"j": (1, None, 2), "k": (0, 4, 1)},
}


def trust_in(*names: str, pairs: tuple[tuple[str, str], ...] = (), rated: Rating | None = RATING) -> Trust:
    texts, ratings = [], list[dict[str, Any]]()
    for name in names:
        for answer, (checks, good, other) in PROMPTS[name].items():
            texts.append(completion(answer, prompt_id=name))
            why = {"error": None if checks is not None else NOT_APPLICABLE}
            ratings.append(rating(answer, checks, "polite", "checks", prompt_id=name, **why))
            ratings.append(rating(answer, None, "short", "checks", prompt_id=name, error=NOT_APPLICABLE))
            for judge, score in (("good", good), ("other", other)):
                ratings += [rating(answer, score, aspect, judge, prompt_id=name) for aspect in RATING.aspects]
    return Trust(counted(shard(texts, ratings, pairs), rated, Pairing()))


def agreement(trust: Trust, judge: str) -> tuple[float, int]:
    share = agreement_with_checks(trust.sums, judge)
    return share.count, share.n


def test_a_prompt_counts_once_and_a_tie_as_half() -> None:
    trust = trust_in(*PROMPTS)
    assert agreement(trust, "good") == (1 + 0.75, 2)
    assert agreement(trust, "other") == (0 + 0.25 + 1, 3)
    (good, other) = trust.titled()["Judges against the checks"]
    assert (good["judge"], good["prompts"], good["agrees"], good["is"]) == ("good", 2, 0.875, "a coin")
    assert other["from"] < other["agrees"] < other["to"]


def test_shards_in_any_division_come_to_the_same() -> None:
    whole = trust_in(*PROMPTS).sums
    for number in range(5):
        names = random.Random(number).sample([*PROMPTS], len(PROMPTS))
        merged = Trust()
        for part in (names[:2], names[2:]):
            merged.merge(Trust.from_json(json.loads(json.dumps(trust_in(*part).to_json()))))
        for judge in ("good", "other"):
            assert agreement(merged, judge) == agreement(Trust(whole), judge)


def test_pairs_agree_differ_or_are_alike_by_the_checks() -> None:
    pairs = (("a", "b"), ("d", "c"), ("f", "g"), ("h", "i"), ("k", "j"))
    trust = trust_in(*PROMPTS, pairs=pairs)
    assert pairs_by_checks(trust.sums) == {"agree": 1, "differ": 2, "equal": 1}
    assert pairs_text(pairs_by_checks(trust.sums)) == (
        "1 of the 3 pairs that checks tell apart agree with them; of 1 more they find both sides alike."
    )


def test_the_judge_counts_by_what_its_aspects_weigh() -> None:
    texts = [completion(name, prompt_id="p") for name in ("a", "b")]
    ratings = [rating(name, score, "polite", "checks") for name, score in (("a", 1.0), ("b", 0.0))]
    for name, helpful, honest in (("a", 4.0, 1.0), ("b", 3.0, 5.0)):
        ratings += [rating(name, helpful, "helpfulness", "good"), rating(name, honest, "honesty", "good")]
    for weights, right in (({}, 0), ({"honesty": 0.0}, 1)):
        sums = counted(shard(texts, ratings), RATING, Pairing.model_validate({"aspect_weights": weights}))
        assert agreement(Trust(sums), "good") == (right, 1)


@pytest.mark.parametrize("rated", [None, RATING.model_copy(update={"checks": ()})])
def test_without_checks_there_is_nothing_to_agree_with(rated: Rating | None) -> None:
    trust = trust_in("right", pairs=(("a", "b"),), rated=rated)
    assert agreement(trust, "good") == (0, 0)
    assert not any(pairs_by_checks(trust.sums).values())


def test_gates_are_no_checks_to_agree_with() -> None:
    gates = tuple(check.model_copy(update={"gate": True}) for check in RATING.checks)
    trust = trust_in("right", pairs=(("a", "b"),), rated=RATING.model_copy(update={"checks": gates}))
    assert agreement(trust, "good") == (0, 0)


def test_the_sentence_says_coin_or_not() -> None:
    assert agreement_text("j", Share(14.5, 25)) == (
        "Judge j agrees with the checks in 58.0% (39% to 75%) of 25 prompts: a coin, as far as checks can tell."
    )
    assert "better than a coin" in agreement_text("j", Share(22, 25))
    assert "worse than a coin" in agreement_text("j", Share(3, 25))

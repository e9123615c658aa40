"""What a reviewer would say of a data set, and from which number on."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from pairsmith.config import Recipe
from pairsmith.reporting.agreement import Trust
from pairsmith.reporting.failures import OF
from pairsmith.reporting.reason_words import WORDS, called, in_words
from pairsmith.reporting.summary import Summary
from pairsmith.reporting.thresholds import THRESHOLDS
from pairsmith.reporting.verdict import FEWEST, Finding, in_short, verdict
from pairsmith.storage.schemas import Reason
from tests.reporting.shards import RECIPE

ONE_JUDGE = RECIPE.model_copy(
    update={"rating": RECIPE.rating.model_copy(update={"judges": RECIPE.rating.judges[:1]})} if RECIPE.rating else {}
)
EVOLVED = Recipe.model_validate(
    RECIPE.model_dump(exclude_defaults=True) | {"evolution": {"evolver": {"backend": "echo", "model": "e"}}}
)


def told(about: str, summary: Summary, recipe: Recipe = RECIPE, trust: Trust | None = None) -> Finding | None:
    found = [one for one in verdict(recipe, summary, trust or Trust()) if one.about == about]
    assert len(found) < 2
    return found[0] if found else None


def weight(about: str, summary: Summary, **of: Any) -> str | None:
    found = told(about, summary, **of)
    return found.weight if found else None


def with_margins(near: int, far: int) -> Summary:
    steps = Counter({("margin", 0): near, ("margin", 7): far})
    return Summary(n_margins=near + far, pairs=near + far, histograms=steps)


def agreeing(alpha: float) -> Trust:
    """Trust in judges whose alpha is this, to three digits."""
    n, within = 1000, round((1 - alpha) * 1000)
    sums = {"n": n, "sum": 0, "squares": 999, "within": within}
    return Trust(Counter({(name, "helpfulness", "all"): value for name, value in sums.items()}))


def failing(failed: int, asked: int, who: str = "judge judge", cause: str = "stays: status 401") -> Summary:
    return Summary(failures={who: {OF: asked, cause: failed} if failed else {OF: asked}})


@pytest.mark.parametrize(
    ("about", "summary", "expected"),
    [
        ("margins", with_margins(49, 51), None),
        ("margins", with_margins(50, 50), "bad"),
        ("margins", with_margins(20, 80), "good"),
        ("margins", with_margins(21, 79), None),
        ("margins", with_margins(FEWEST - 1, 0), None),  # too few to tell
        ("longer", Summary(pairs=100, longer=79, shorter=21), None),
        ("longer", Summary(pairs=100, longer=80, shorter=20), "bad"),
        ("longer", Summary(pairs=100, longer=20, shorter=80), "bad"),
        ("longer", Summary(pairs=100, longer=60, shorter=40), "good"),
        ("longer", Summary(pairs=100, longer=61, shorter=39), None),
        ("longer", Summary(pairs=FEWEST - 1, longer=FEWEST - 1), None),
        ("winner", Summary(wins=Counter({("a", "b"): 89, ("b", "a"): 11})), None),
        ("winner", Summary(wins=Counter({("a", "b"): 90, ("b", "a"): 10})), "bad"),
        ("winner", Summary(wins=Counter({("a", "b"): FEWEST - 1})), None),
        ("winner", Summary(wins=Counter({("a", "a"): 100})), None),  # over its own answers
        ("unpaired", Summary(loaded=100, paired=71, prompt_reasons=Counter(tie=29)), None),
        ("unpaired", Summary(loaded=100, paired=70, prompt_reasons=Counter(tie=30)), "bad"),
        ("unpaired", Summary(loaded=100, paired=90, prompt_reasons=Counter(tie=10)), "good"),
        ("unpaired", Summary(loaded=100, paired=89, prompt_reasons=Counter(tie=11)), None),
        ("failures", failing(9, 100), None),
        ("failures", failing(10, 100), "bad"),
        ("failures", failing(0, 100), "good"),
        ("failures", Summary(), None),
        ("pairs", Summary(pairs=499), "note"),
        ("pairs", Summary(pairs=500), None),
        ("pairs", Summary(pairs=5000), "good"),
        ("repeated", Summary(pairs=100, flags=Counter({("repeated", "chosen"): 4})), None),
        ("repeated", Summary(pairs=100, flags=Counter({("repeated", "rejected"): 5})), "bad"),
    ],
)  # fmt: skip
def test_each_finding_begins_at_its_threshold(about: str, summary: Summary, expected: str | None) -> None:
    assert weight(about, summary) == expected


@pytest.mark.parametrize(
    ("alpha", "expected"), [(0.399, "bad"), (0.4, None), (0.666, None), (0.667, "good"), (-0.3, "bad")]
)
def test_judges_disagree_or_agree_by_their_lowest_alpha(alpha: float, expected: str | None) -> None:
    trust = agreeing(alpha)
    assert trust.least_agreement() == alpha
    assert weight("agreement", Summary(), trust=trust) == expected


def test_agreement_about_zero_has_no_minus() -> None:
    found = told("agreement", Summary(), trust=agreeing(-0.001))
    assert found is not None
    assert found.text == "The judges disagree: Krippendorff's alpha is 0.00 at its lowest."


def test_a_judge_whose_verdicts_flip_is_told_and_with_probabilities_it_is_a_note() -> None:
    for readout, expected in (("text", "bad"), ("logprobs", "note")):
        judges = [{"name": "j", "backend": "echo", "model": "j", "protocol": "pairwise", "readout": readout}]
        recipe = Recipe.model_validate(RECIPE.model_dump(exclude_defaults=True) | {"rating": {"judges": judges}})
        for flips, weighed in ((49, None), (50, expected)):
            trust = Trust(Counter({("flips", "j"): flips, ("both", "j"): 100}))
            assert weight("flips", Summary(), recipe=recipe, trust=trust) == weighed


def test_one_judge_is_told_and_two_are_not() -> None:
    assert weight("judges", Summary(), recipe=ONE_JUDGE) == "note"
    assert weight("judges", Summary()) is None


def agreeing_with_checks(right: float, prompts: int) -> Trust:
    return Trust(Counter({("check credit", "first"): round(right * 10**9), ("check prompts", "first"): prompts}))


@pytest.mark.parametrize(
    ("right", "prompts", "expected"),
    [(FEWEST, FEWEST, "good"), (FEWEST / 2, FEWEST, "bad"), (0, FEWEST, "bad"), (FEWEST - 1, FEWEST - 1, "note")],
)
def test_one_judge_is_worth_what_its_agreement_with_the_checks_says(right: int, prompts: int, expected: str) -> None:
    found = told("judges", Summary(), recipe=ONE_JUDGE, trust=agreeing_with_checks(right, prompts))
    assert found is not None
    assert (found.weight, "agrees with the checks" in found.text) == (expected, prompts >= FEWEST)


@pytest.mark.parametrize(
    ("agree", "differ", "expected"), [(9, 1, "bad"), (19, 1, "note"), (9, 0, "good"), (0, 0, None)]
)
def test_pairs_against_the_checks_are_told_and_bad_from_a_tenth_on(
    agree: int, differ: int, expected: str | None
) -> None:
    trust = Trust(Counter({("check pairs", "agree"): agree, ("check pairs", "differ"): differ}))
    assert weight("checks", Summary(), trust=trust) == expected


def test_in_short_what_pairs_and_judges_are_worth_is_told_beside_what_is_poor() -> None:
    trust = agreeing_with_checks(FEWEST, FEWEST)
    trust.sums["check pairs", "agree"] = 9
    short = in_short(verdict(ONE_JUDGE, Summary(pairs=9, loaded=9, paired=9), trust))
    assert [line.split(":")[0] for line in short] == [
        "There are 9 pairs",
        "Judge first agrees with the checks in 100.0% (72% to 100%) of 10 prompts",
        "9 of the 9 pairs that checks tell apart agree with them.",
    ]


@pytest.mark.parametrize(("refused", "expected"), [(24, None), (25, "bad")])
def test_refused_rewrites_are_told_with_their_reasons_and_are_no_failures_of_the_model(
    refused: int, expected: str | None
) -> None:
    name = EVOLVED.evolution.evolver.name if EVOLVED.evolution else ""
    causes = {OF: 100, "stays: evolution_failed: unchanged": refused - 1, "stays: evolution_failed: refusal": 1}
    summary = Summary(members={name: {"completions": 100}}, failures={f"member {name}": causes})
    assert weight("evolution", summary, recipe=EVOLVED) == expected
    assert weight("failures", summary, recipe=EVOLVED) == "good"
    if found := told("evolution", summary, recipe=EVOLVED):
        assert found.text == (
            "25% of the rewritten answers (25 of 100) were refused: the rewrite is the answer unchanged (24), "
            "the evolver refused (1)."
        )


def test_the_sentences_say_numbers_and_reasons() -> None:
    reasons = Counter(tie=20, too_few=7, margin=2, similar=1)
    summary = Summary(
        loaded=100, paired=70, pairs=70, n_margins=70, longer=66, shorter=4, prompt_reasons=reasons,
        histograms=Counter({("margin", 0): 62, ("margin", 3): 8}), wins=Counter({("a", "b"): 69, ("b", "a"): 1}),
        failures={"judge judge": {OF: 50, "may pass: connection refused": 50}, "member b": {OF: 50}},
    )  # fmt: skip
    found = verdict(ONE_JUDGE, summary, Trust())
    assert [one.text for one in found] == [
        "The judge hardly tells the answers apart: 89% of the margins are under 0.1.",
        "The chosen answer is the longer one in 94% of the pairs.",
        "Member a nearly always wins: it is chosen in 99% of its 70 pairs with others.",
        "30% of the prompts (30 of 100) gave no pair: the best answers are tied (20), fewer than two answers to choose "
        "from (7), the margin is too small (2) and others.",
        "Judge gave nothing: 50 of 50 answers are missing.",
        "There is one judge, so nobody knows how far its ratings can be trusted.",
        "There are 70 pairs: enough to try a trainer, too few to train with.",
    ]
    assert [one.detail for one in found if one.detail] == ["Mostly: connection refused"]
    assert in_short(found) == [one.text for one in found]


def test_a_good_set_says_what_is_good_and_in_short_only_where_nothing_else_is_to_be_said() -> None:
    summary = Summary(
        loaded=6000, paired=5800, pairs=5800, n_margins=5800, longer=3000, shorter=2800,
        prompt_reasons=Counter(tie=200), histograms=Counter({("margin", 0): 300, ("margin", 9): 5500}),
        wins=Counter({("a", "b"): 3000, ("b", "a"): 2800}), failures={"member a": {OF: 6000}},
    )  # fmt: skip
    found = verdict(RECIPE, summary, agreeing(0.8))
    assert {one.weight for one in found} == {"good"}
    assert {one.about for one in found} == {"margins", "agreement", "longer", "unpaired", "failures", "pairs"}
    assert in_short(found) == [one.text for one in found]
    noted = [*found, Finding("pairs", "note", "Few.", "")]
    assert in_short(noted) == ["Few."]


def test_a_reward_model_in_units_of_its_own_has_no_small_margins() -> None:
    judge = {"name": "r", "backend": "reward", "model": "r"}
    recipe = Recipe.model_validate(RECIPE.model_dump(exclude_defaults=True) | {"rating": {"judges": [judge]}})
    assert weight("margins", with_margins(100, 0), recipe=recipe) is None


def test_every_threshold_is_explained_with_its_number_and_every_reason_has_words() -> None:
    assert all(one.why.startswith("Told ") for one in THRESHOLDS.values())
    assert set(Reason) <= set(WORDS)
    assert in_words("an endpoint's_own words") == "an endpoint's_own words"
    assert [called(who) for who in ("judge judge", "judge Judge-2", "member brief")] == [
        "judge", "Judge-2", "member brief",
    ]  # fmt: skip

"""Pairwise judges: what they compare, in which orders, and what their verdicts come to."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pairsmith.config import Judge, Pairing, Rating, Recipe
from pairsmith.judging.asking import judge_requests
from pairsmith.judging.pairwise import ALONE, divided, settled, won_in
from pairsmith.judging.rating import rate
from pairsmith.judging.scoring import scores
from pairsmith.llms.registry import open_llm
from pairsmith.planning.dry_run import plan_run
from pairsmith.protocol import Finished, Identity, Reply, Request
from pairsmith.session import process_session
from pairsmith.stages.base import model_fields
from pairsmith.storage.schemas import frame, rows
from pairsmith.storage.store import Store
from pairsmith.storage.tables import judge_ref
from tests.conftest import model_id
from tests.generation.test_pool import prompt
from tests.runs import completion, rating, run

Build = Callable[..., Recipe]
PROMPTS = [prompt(f"Question {n}?") for n in range(2)]
TEXTS = [
    completion(f"c{n}{m}", prompt_id=one["prompt_id"], text=f"worth {(n * 3 + m * 2) % 7}", member="ab"[n % 2])
    for m, one in enumerate(PROMPTS)
    for n in range(5)
]
_SHOWN = re.compile(r"\[TEXT (\w{6})\]\n(.*?)\n\[END \1\]", re.DOTALL)


class Judging:
    """A made-up judge: `decides` says of two texts how likely the first is better, and the second."""

    identity = Identity("echo", "judge")

    def __init__(self, decides: Callable[[str, str], tuple[float, float]]) -> None:
        self.decides, self.asked = decides, list[Request]()

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        self.asked += requests
        yield from ([(place, self.answer(request))] for place, request in enumerate(requests))

    def answer(self, request: Request) -> Reply:
        (one, text), (other, another) = _SHOWN.findall(request.messages[1]["content"])
        first, second = self.decides(text, another)
        if request.choices:
            weights = zip("ABC", (first, second, 1 - first - second), strict=True)
            return Reply("A", logprobs={letter: math.log(max(p, 1e-9)) for letter, p in weights})
        named = {first: one, second: other}[max(first, second)] if first != second else "tie"
        return Reply(json.dumps({"better": named}) if request.schema else f"Rationale: So.\nBetter: {named}", "stop")


def perfect(text: str, other: str) -> tuple[float, float]:
    more = int(text[-1]) - int(other[-1])
    return (0.8, 0.1) if more > 0 else (0.1, 0.8) if more < 0 else (0.2, 0.2)


def always_first(text: str, other: str) -> tuple[float, float]:
    return 0.9, 0.05


def judge(**fields: Any) -> Judge:
    return Judge(name="j", backend="echo", model="judge", protocol="pairwise", **fields)


def rated(one: Judge, llm: Any, texts: Sequence[Any] = TEXTS, prompts: Sequence[Any] = PROMPTS) -> list[dict[str, Any]]:
    table = rate(frame("prompts", prompts), frame("completions", texts), Rating(judges=(one,)), one, llm)
    return rows(table)


def totals(table: Any, one: Judge) -> dict[str, float | None]:
    return {name: found.total for name, found in scores(table, Pairing(), Rating(judges=(one,))).items()}


@pytest.mark.parametrize("readout", ["text", "json", "logprobs"])
def test_a_perfect_judge_orders_right_and_one_that_picks_the_first_place_makes_ties(readout: Any) -> None:
    one = judge(readout=readout)
    table = rated(one, Judging(perfect))
    assert len(table) == len(PROMPTS) * math.comb(5, 2) * 2 * 2
    found = totals(table, one)
    for each in PROMPTS:
        worth = {row["completion_id"]: row["text"] for row in TEXTS if row["prompt_id"] == each["prompt_id"]}
        assert sorted(worth, key=lambda name: found[name] or 0) == sorted(worth, key=worth.__getitem__)
        assert len({found[name] for name in worth}) == 5
    assert all(1 <= (score or 0) <= 5 for score in found.values())
    assert set(totals(rated(one, Judging(always_first)), one).values()) == {3.0}


def test_both_orders_of_each_comparison_stand_in_the_table_with_probabilities() -> None:
    table = rated(judge(readout="logprobs"), Judging(lambda text, other: (0.5, 0.2)), TEXTS[:2], PROMPTS[:1])
    seen = [(row["completion_id"], row["against"], row["order"], row["position"]) for row in table]
    assert seen == [("c00", "c10", 0, 0), ("c10", "c00", 0, 1), ("c10", "c00", 1, 0), ("c00", "c10", 1, 1)]
    assert [row["score"] for row in table] == pytest.approx([0.5, 0.2, 0.5, 0.2])
    assert [row["rating"] for row in table] == [1, 0, 1, 0]
    assert table[0]["request"] == table[1]["request"] != table[2]["request"]
    assert all(row["reply"] == "A" for row in table)


@pytest.mark.parametrize("comparisons", ["all", {"rounds": 3}, {"against": "a"}])
def test_the_order_of_rows_changes_nothing(comparisons: Any) -> None:
    one, rng = judge(comparisons=comparisons), random.Random(4)
    expected = rated(one, Judging(perfect))
    for _ in range(5):
        assert rated(one, Judging(perfect), rng.sample(TEXTS, len(TEXTS))) == expected
    parts = [row for each in PROMPTS for row in rated(one, Judging(perfect), TEXTS, [each])]
    assert parts == expected


@pytest.mark.parametrize(
    ("comparisons", "each"),
    [("all", 10), ({"rounds": 1}, 2), ({"rounds": 3}, 6), ({"rounds": 50}, 10), ({"against": "b"}, 6)],
)
def test_what_is_compared(comparisons: Any, each: int) -> None:
    llm = Judging(perfect)
    table = rated(judge(comparisons=comparisons), llm)
    twos = [(row["completion_id"], row["against"]) for row in table if row["order"] == 0 and row["position"] == 0]
    assert len(set(twos)) == len(twos)
    assert len(twos) <= each * len(PROMPTS)
    assert len(llm.asked) == 2 * len(twos)
    assert len(twos) == each * len(PROMPTS) or comparisons == {"rounds": 50}
    if comparisons == {"against": "b"}:
        assert all(("b" in (by[one], by[other])) and by[one] != by[other] for by in [_members()] for one, other in twos)


def _members() -> dict[str, str]:
    return {row["completion_id"]: row["member"] for row in TEXTS}


def test_later_rounds_follow_from_the_earlier_and_find_the_best() -> None:
    texts = [completion(f"c{n}", prompt_id=PROMPTS[0]["prompt_id"], text=f"worth {n}") for n in range(8)]
    one = judge(comparisons={"rounds": 3}, readout="logprobs")
    found = totals(rated(one, Judging(perfect), texts, PROMPTS[:1]), one)
    assert max(found, key=lambda name: found[name] or 0) == "c7"
    other = rated(one, Judging(always_first), texts, PROMPTS[:1])
    first = [(row["completion_id"], row["against"]) for row in rated(one, Judging(perfect), texts, PROMPTS[:1])]
    again = [(row["completion_id"], row["against"]) for row in other]
    assert first[:16] == again[:16]  # the first round: four comparisons, both orders and sides
    assert first[16:] != again[16:]


def test_no_round_is_drawn_from_one_that_failed() -> None:
    class Failing(Judging):
        def answer(self, request: Request) -> Reply:
            return Reply("", error="no connection")

    llm = Failing(perfect)
    table = rated(judge(comparisons={"rounds": 3}), llm, prompts=PROMPTS[:1])
    assert len(llm.asked) == 2 * 2
    assert all(row["error"].startswith("failed") for row in table if row["against"])


def test_a_verdict_that_is_unreadable_in_one_order_is_none() -> None:
    unreadable = iter([True, *[False] * 99])

    class Mumbling(Judging):
        def answer(self, request: Request) -> Reply:
            return Reply("Hm.\nHm.", "stop") if next(unreadable) else super().answer(request)

    table = rated(judge(reasks=0), Mumbling(perfect), TEXTS[:3], PROMPTS[:1])
    assert len(won_in(table)) == math.comb(3, 2) - 1
    assert [row["error"] for row in table].count("no verdict") == 2
    unreadable = iter([True, *[False] * 99])
    again = Mumbling(perfect)
    assert not any(row["error"] for row in rated(judge(), again, TEXTS[:3], PROMPTS[:1]))
    assert len(again.asked) == 2 * 3 + 1
    assert "no verdict" in again.asked[-1].messages[-1]["content"]


def test_what_no_comparison_could_be_read_of_has_no_score_but_a_reason() -> None:
    table = [
        *_compared("a", "b", None, error="no verdict"),
        *_compared("a", "c", 0.75),
    ]
    found = {row["completion_id"]: row for row in settled(table)}
    assert (found["b"]["score"], found["b"]["error"]) == (None, "no verdict")
    assert found["a"]["score"] > 3 > found["c"]["score"]
    assert settled(list(found.values())) == list(found.values())


def _compared(one: str, other: str, p: float | None, **fields: Any) -> list[Any]:
    sides = [(one, other, p), (other, one, None if p is None else 1 - p)]
    return [rating(name, score, against=against, **fields) for name, against, score in sides]


def test_a_text_alone_is_compared_with_nothing_and_the_table_says_so() -> None:
    table = rated(judge(), Judging(perfect), TEXTS[:1], PROMPTS[:1])
    assert [(row["completion_id"], row["error"]) for row in table] == [("c00", ALONE)]
    absent = rated(judge(comparisons={"against": "nobody"}), Judging(perfect), TEXTS[:3], PROMPTS[:1])
    assert [row["error"] for row in absent] == [ALONE] * 3


def test_scores_stand_on_the_scale_of_their_aspect_and_average_with_those_of_others() -> None:
    one = judge(aspects=("mine",))
    config = Rating.model_validate(
        {"judges": [one.model_dump(), {"name": "k", "backend": "echo", "model": "k"}], "aspects": ["mine", "overall"],
         "rubrics": {"mine": {"criterion": "How?", "low": 0, "high": 100}}}
    )  # fmt: skip
    table = _compared("a", "b", 1.0, aspect="mine")
    better, worse = settled(table, config)
    assert 50 < better["score"] < 100
    assert better["score"] + worse["score"] == pytest.approx(100)
    both = scores([*table, rating("a", 10, "mine", "k"), rating("b", 10, "mine", "k")], Pairing(), config)
    assert both["a"].aspects["mine"] == pytest.approx((1 + better["score"] / 25 + 1.4) / 2)


def test_the_table_goes_through_the_store_and_others_have_no_column_more(tmp_path: Path) -> None:
    store, one = Store(str(tmp_path)), judge()
    table = rate(frame("prompts", PROMPTS), frame("completions", TEXTS), Rating(judges=(one,)), one, Judging(perfect))
    plain = frame("ratings", [rating("c00", 3)])
    assert "against" not in plain.columns
    for name, data in (("plain", plain), ("j", table)):
        store.write(judge_ref("s", name), data, "f")
    whole = store.load_all([judge_ref("s", "plain"), judge_ref("s", "j")]).data
    assert list(whole.columns) == list(table.columns)
    scored, verdicts = divided(whole, None)
    assert len(scored) == len(TEXTS) + 1
    assert len(verdicts) == len(table)
    assert "against" not in scored.columns


def test_the_prompt_shows_both_texts_and_the_aspect_without_numbers() -> None:
    config = Rating(judges=(judge(),), aspects=("honesty",))
    item = next(judge_requests(PROMPTS, TEXTS, config, judge()))
    system, user = (message["content"] for message in item.request.messages)
    assert "You compare how honest two texts are" in system
    assert "neither text is the better" in system
    assert "1:" not in system
    assert [text for _, text in _SHOWN.findall(user)] == ["worth 0", "worth 3"]


def test_what_goes_with_other_protocols_is_refused() -> None:
    for fields, told in (
        ({"orders": 2}, "orders goes with protocol listwise"),
        ({"prompt": "mine:prompt"}, "a prompt of your own goes with"),
        ({"comparisons": {"rounds": 2, "against": "a"}}, "one of them"),
        ({"comparisons": {}}, "one of them"),
    ):
        with pytest.raises(ValueError, match=told):
            judge(**fields)
    with pytest.raises(ValueError, match="comparisons goes with protocol pairwise"):
        Judge(name="j", model="x", comparisons={"rounds": 2})  # type: ignore[arg-type]


@pytest.mark.model
def test_a_small_model_leans_to_a_place_and_the_mean_of_both_orders_does_not() -> None:
    small = Judge(name="j", model=model_id("smollm2"), protocol="pairwise", readout="logprobs", rationale=False)
    texts = [
        completion(name, prompt_id=PROMPTS[0]["prompt_id"], text="Bread rises, since yeast makes gas.") for name in "ab"
    ]
    found = rated(small, open_llm(small, process_session()), texts, PROMPTS[:1])
    assert not any(row["error"] for row in found)
    leans = [found[0]["score"] - found[1]["score"], found[2]["score"] - found[3]["score"]]
    assert min(map(abs, leans)) > 0.1
    assert won_in(found)["a", "b"] == pytest.approx(0.5, abs=0.05)


def test_what_is_compared_is_part_of_a_fingerprint_only_where_it_is_not_all() -> None:
    who = Identity("echo", "judge")
    assert "comparisons" not in model_fields(judge(), who)[1]
    assert model_fields(judge(comparisons={"rounds": 2}), who)[1]["comparisons"] == {"rounds": 2, "against": None}


JUDGES = [
    {"name": n, "backend": "echo", "model": f"judge-{n}", "protocol": "pairwise", **more}
    for n, more in (("each", {}), ("swiss", {"readout": "logprobs", "comparisons": {"rounds": 2}}),
                    ("anchor", {"readout": "json", "comparisons": {"against": "small"}}))
]  # fmt: skip


def test_one_digest_for_any_shards_and_the_plan_counts_the_calls(echo_recipe: Build) -> None:
    pool = {
        "members": [{"name": n, "backend": "echo", "model": n, "samples": m} for n, m in (("small", 1), ("big", 3))]
    }
    found, asked = set(), 0
    for size in (1, 5, 64):
        changes = {"pool": pool, "evolution": None, "rating": {"judges": JUDGES, "aspects": ["overall"]}}
        recipe = echo_recipe(6, name=f"size-{size}", shard_size=size, **changes)
        published, summary, calls = run(recipe)
        found.add(published.digest)
        lines = {line.who: line.calls for line in plan_run(recipe).lines if line.stage == "rate"}
        assert lines == {"each": 6 * 12 * 2, "swiss": 6 * 8, "anchor": 6 * 6 * 2}  # text and json: asked twice at most
        asked += calls["rate"]
        assert summary.pairs
    assert len(found) == 1
    assert asked == 6 * (12 + 8 + 6)  # the first time, since the ledger knows the rest

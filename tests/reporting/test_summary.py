from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import time
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairsmith.config import Pairing, Recipe
from pairsmith.ids import draw, short_id
from pairsmith.pairing.select import pair
from pairsmith.publishing.publish import SHOWN, first_drawn, published_rows, to_table
from pairsmith.reporting import charts
from pairsmith.reporting.page import render_report
from pairsmith.reporting.summary import Summary, usage_table
from pairsmith.reporting.word_diff import MAX_CELLS, Run, diff
from pairsmith.storage.schemas import frame
from pairsmith.storage.tables import ShardTables
from tests.runs import completion, rating

MEMBERS = ("amber", "birch", "cedar", "dune")
ASPECTS = ("helpfulness", "honesty")
RECIPE = Recipe.model_validate(
    {
        "name": "report",
        "description": "Answers of four models, rated by two judges.",
        "prompts": {"sources": [{"path": "prompts.jsonl"}]},
        "pool": {"members": [{"name": name, "backend": "echo", "model": name} for name in MEMBERS]},
        "rating": {"judges": [{"name": name, "backend": "echo", "model": name} for name in ("first", "second")]},
    }
)


def tables(cases: Sequence[tuple[str, str, str]], sources: Sequence[str] = ("chat", "code", "maths")) -> ShardTables:
    """All tables of a shard of prompts with two answers each, by two of MEMBERS, with made-up ratings."""
    prompts, completions, ratings = [], [], []
    for question, *answers in cases:
        name = short_id(question, answers)
        source = sources[int(draw("source", name) * len(sources))]
        messages = json.dumps([{"role": "user", "content": question}])
        prompts.append({"prompt_id": name, "messages": messages, "system_prompt": None, "source": source})
        authors = sorted(MEMBERS, key=lambda member, name=name: draw("member", name, member))
        for place, (author, text) in enumerate(zip(authors, answers, strict=False)):
            row = completion(f"{name}.{place}", prompt_id=name, member=author, model=f"org/{author}", text=text)
            completions.append(row | {"error": None if text.strip() else "empty"})
            ratings += [_rated(row, judge, aspect) for judge in ("first", "second") for aspect in ASPECTS]
    made = frame("prompts", prompts), frame("completions", completions), frame("ratings", ratings)
    pairs, rejections = pair(*made, Pairing(max_similarity=1.0), True)
    return ShardTables(*made, pairs, rejections)


def _rated(row: dict[str, Any], judge: str, aspect: str) -> dict[str, Any]:
    seed = (row["completion_id"], judge, aspect)
    liking = 0.4 * MEMBERS.index(row["member"]) + len(row["text"]) / 4000
    score = max(1, min(5, round(1 + liking + 3.2 * draw("score", *seed))))
    why = f"The answer by {row['member']} is {['poor', 'weak', 'fair', 'good', 'very good'][score - 1]} in {aspect}."
    failed = draw("null", *seed) < 0.02
    given = None if failed else float(score)
    return rating(row["completion_id"], given, aspect, judge, prompt_id=row["prompt_id"], order=0, rationale=why)


def counted(*shards: ShardTables) -> Summary:
    summary = Summary()
    for shard in shards:
        part = Summary()
        part.add(shard)
        summary.merge(Summary.from_json(json.loads(json.dumps(part.to_json()))))
    summary.rows_read = summary.loaded
    return summary


def page_of(shard: ShardTables, **options: Any) -> str:
    return render_report(RECIPE, counted(shard), published_rows(shard), [], **options)


def some(count: int, start: int = 0) -> list[tuple[str, str, str]]:
    words = "one two three four five six seven eight nine ten".split()
    return [
        (f"Question {n}?", " ".join(words[: n % 10 + 1]), " ".join(words[n % 7 : n % 7 + 3]) or "none")
        for n in range(start, start + count)
    ]


@given(st.lists(st.lists(st.integers(0, 60), max_size=8), min_size=1, max_size=5), st.randoms())
@settings(max_examples=25, deadline=None)
def test_counts_are_the_same_however_prompts_are_split_and_merged(parts: list[list[int]], random: Any) -> None:
    numbers = list(dict.fromkeys(number for part in parts for number in part))
    whole = counted(tables([some(1, number)[0] for number in numbers]))
    seen: set[int] = set()
    shards = []
    for part in parts:
        own = [number for number in dict.fromkeys(part) if number not in seen]
        seen.update(own)
        shards.append(tables([some(1, number)[0] for number in own]))
    random.shuffle(shards)
    assert counted(*shards) == whole


def test_counts_are_what_they_say() -> None:
    shard = tables(some(300))
    summary, pairs = counted(shard), shard.pairs
    texts = dict(zip(shard.completions["completion_id"], shard.completions["text"].str.len(), strict=True))
    gaps = [texts[row.chosen_id] - texts[row.rejected_id] for row in pairs.itertuples()]
    assert (summary.longer, summary.shorter) == (sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps))
    totals = {what: 0 for what, _ in summary.histograms}
    for (what, _), count in summary.histograms.items():
        totals[what] += count
    assert totals == {"margin": len(pairs), "chosen": len(pairs), "rejected": len(pairs)}
    assert sum(summary.scores.values()) == shard.ratings["score"].notna().sum()
    (first, *_) = summary.aspect_table()
    judged = shard.ratings.query("judge == 'first' and aspect == 'helpfulness'")
    twos = judged.dropna(subset="score").groupby("prompt_id")["score"].agg(list)
    tied = [scores[0] == scores[1] for scores in twos if len(scores) == 2]
    assert first["aspect"] == "helpfulness by first"
    assert first["tied share"] == pytest.approx(sum(tied) / len(tied), abs=0.006)
    assert first["null share"] == pytest.approx(judged["score"].isna().mean(), abs=0.006)


def test_counts_take_no_more_room_for_more_data() -> None:
    small, large = counted(tables(some(400))), counted(tables(some(2000)))
    assert len(json.dumps(large.to_json())) < 1.1 * len(json.dumps(small.to_json()))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 10, 99, 4096, 100_000, 20_000_000])
def test_a_length_counts_in_the_step_between_its_edges(size: int) -> None:
    step = charts.length_step(size)
    assert charts.length_edge(step) <= size < charts.length_edge(step + 1)


def test_a_share_of_wins_is_of_the_pairs_of_two_members() -> None:
    matrix = charts.win_matrix({("a", "b"): 3, ("b", "a"): 1, ("a", "a"): 7}, ["a", "b"])
    assert [[cell["share"] for cell in row["cells"]] for row in matrix] == [["", "75%"], ["25%", ""]]
    assert [(row["won"], row["share"]) for row in matrix] == [(10, "56%"), (1, "25%")]


def test_histograms_fit_scales_of_any_width() -> None:
    wide = {("margin", step): 1 for step in range(-40, 190)}
    chart = charts.margins(wide)
    assert chart is not None
    assert len(chart.bars) <= 25
    assert sum(int(bar.told.split(": ")[1].split()[0]) for bar in chart.bars) == len(wide)
    near = charts.margins({("margin", charts.margin_step(margin)): 1 for margin in (0.05, 0.2, 0.45)})
    assert near is not None
    assert len(near.bars) == 5  # small margins are told apart
    scores = {
        ("a", "check", 0): 3,
        ("a", "check", 1): 1,
        ("a", "own", 100): 2,
        ("a", "own", 9): 2,
        ("a", "usual", 4): 1,
    }
    ((_, cells),) = charts.score_grid(scores, ["a"], ["check", "own", "usual"])
    assert [(cell.ticks, cell.told) for cell in cells if cell] == [
        (["0", "1"], "0: 75%, 1: 25%"), (["1", "100"], "0 to 9: 50%, 100 to 100: 50%"), (["1", "5"], "4: 100%")
    ]  # fmt: skip


TEXTS = st.text(alphabet=st.sampled_from("ab \n\t.éß中\u2028"), max_size=60) | st.text(max_size=40)


@given(TEXTS, TEXTS)
def test_joined_words_of_a_diff_give_back_each_text(first: str, second: str) -> None:
    one, other = diff(first, second)
    assert "".join(run.text for run in one) == first
    assert "".join(run.text for run in other) == second
    same = ["".join(run.text for run in runs if run.same).split() for runs in (one, other)]
    assert same[0] == same[1]
    assert diff(first, first)[0] == ([Run(True, first)] if first else [])


def test_a_diff_marks_the_words_that_one_text_has_alone() -> None:
    first, second = diff("The quick brown fox jumps over it.", "The quick red fox jumps over it.")
    assert first == [Run(True, "The quick "), Run(False, "brown"), Run(True, " fox jumps over it.")]
    assert second == [Run(True, "The quick "), Run(False, "red"), Run(True, " fox jumps over it.")]
    assert diff("same words", "same\nwords")[1] == [Run(True, "same\nwords")]
    assert diff("", "new") == ([], [Run(False, "new")])


def test_words_that_two_texts_share_by_chance_are_no_likeness() -> None:
    first, _ = diff("Cats sleep on a warm mat all day", "Rockets fly to a cold moon every year")
    assert first == [Run(False, "Cats sleep on a warm mat all day")]


@pytest.mark.parametrize("letters", [1, 5])
def test_a_diff_of_long_texts_is_bounded_in_time(letters: int) -> None:
    def words(seed: str, count: int) -> str:
        return " ".join(short_id(seed, n)[:letters] for n in range(count))

    count = 100_000 // (letters + 1)
    started = time.process_time()
    for first, second in (("a", "b"), ("a", "a")):
        one, other = diff("Same head " + words(first, count), "Same head " + words(second, count) + " tail")
        assert one[0].same
        assert "".join(run.text for run in other).endswith(" tail")
    assert time.process_time() - started < 5
    assert count**2 > MAX_CELLS or letters > 1  # both ways of comparing were taken


def test_the_policy_names_the_script_and_style_of_the_page_and_nothing_else() -> None:
    page = page_of(tables(some(4)))
    (script,), (style,) = (re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL) for tag in ("script", "style"))
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style)]
    assert html.unescape(policy) == (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert "style=" not in page


def test_tables_about_judges_usage_and_the_recipe_have_their_places() -> None:
    judging = {"Agreement": [{"judges": "first, second", "kappa": 0.4182}], "Position": []}
    usage = [{"model": "org/x", "tokens": 1234567, "cost": 0.0312}, {"model": "<b>", "tokens": 3, "cost": None}]
    page = page_of(tables(some(4)), judging=judging, usage=usage, recipe_text="name: <report>\n")
    for text in ("<h3>Agreement</h3>", "0.42", "1,234,567", "0.031", "&lt;b&gt;", "name: &lt;report&gt;"):
        assert text in page
    assert "Position" not in page


def test_a_column_of_numbers_with_gaps_is_one() -> None:
    rows = [{"a": None, "b": 1, "c": None, "d": True}, {"a": 2.5, "b": "x", "c": None, "d": False}]
    assert charts.number_columns(rows) == {"a", "c"}


@pytest.mark.parametrize(
    ("value", "told"), [(0.00006896, "0.000069"), (0.00058, "0.00058"), (0.0, "0.00"), (None, "–")]
)
def test_small_costs_are_told_in_digits(value: float, told: str) -> None:
    assert charts.number(value) == told


def test_costs_of_an_earlier_recipe_stay_in_sight() -> None:
    paid = [
        {"asker": "judge j", "model": "/home/me/m", "calls": 2, "n_prompt_tokens": 9, "n_tokens": 3, "cost": 0.25},
        {"asker": "judge gone", "model": "x", "calls": 1, "n_prompt_tokens": 1, "n_tokens": 1, "cost": 0.5},
        {"asker": None, "model": "x", "calls": 1, "n_prompt_tokens": 1, "n_tokens": 1, "cost": None},
    ]
    models = [{"role": "member", "name": "m", "model": "y"}, {"role": "judge", "name": "j", "model": "/home/me/m"}]
    found = [list(row.values()) for row in usage_table(paid, models)]
    assert found == [
        ["member m", "y", 0, None, None, None, ""],
        ["judge j", "m", 2, 9, 3, 0.25, ""],
        ["not noted", "x", 1, 1, 1, None, "no"],
        ["judge gone", "x", 1, 1, 1, 0.5, "no"],
        ["all", "", 4, 11, 5, 0.75, ""],
    ]
    assert usage_table([], models) == []


def test_long_texts_are_cut_and_say_by_how_much() -> None:
    page = page_of(tables([(f"{n}" + "p" * 9_000, "a" * 10_000, "b " * 60_000) for n in range(4)]))
    for left in ("1,001", "2,000", "112,000"):
        assert f"… {left} characters left out" in page
    assert len(page) < 200_000


def test_a_run_without_scores_members_or_pairs_has_a_page() -> None:
    page = render_report(RECIPE, Summary(), [], ["a.jsonl:1: not JSON"])
    assert "There are none to show." in page
    assert "a.jsonl:1: not JSON" in page


def test_two_hundred_pairs_are_rendered_in_bounded_time_and_small() -> None:
    words = [short_id("word", n % 400)[:5] for n in range(3_000)]
    cases = [(f"Question {n}?", " ".join(words[n : n + 350]), " ".join(words[n + 9 : n + 500 : 2])) for n in range(300)]
    shard = tables(cases)
    summary, shown = counted(shard), published_rows(shard)[:SHOWN]
    assert len(shown) == SHOWN
    started = time.process_time()
    page = render_report(RECIPE, summary, shown, [])
    assert time.process_time() - started < 2
    assert len(page.encode()) < 5_000_000


def test_shown_pairs_are_drawn_over_all_tables_whatever_their_order() -> None:
    def drawn(parts: Iterable[range]) -> list[str]:
        shown: list[dict[str, Any]] = []
        for part in parts:
            names = [{"prompt_id": f"{n}", "chosen_id": f"{n}a", "rejected_id": f"{n}b"} for n in part]
            shown = first_drawn(shown, to_table(names))
        return [row["prompt_id"] for row in shown]

    found = drawn([range(1000)])
    assert len(found) == len(set(found)) == SHOWN
    assert found == drawn([range(600, 1000), range(0), range(50), range(50, 600)])
    assert 60 < sum(int(name) >= 500 for name in found) < 140
    assert len(drawn([range(7)])) == 7

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairsmith.config import Decontamination, Prompts, Recipe, Source
from pairsmith.config.loading import parse_recipe
from pairsmith.errors import ConfigError, DataError
from pairsmith.sources.overlap import MOST_BANDS, Benchmarks, NearDuplicates, grams, layout, user_texts, words
from pairsmith.sources.prompts import read_prompts
from pairsmith.storage.schemas import Reason
from tests.conftest import ROOT, shared
from tests.runs import run

FEW_WORDS = st.lists(st.sampled_from("the a cat dog sat on mat 日 本 語 é".split()), max_size=30).map(" ".join)


def read(path: Path, against: Path | None = None, n: int = 13, near: float | None = None) -> list[dict[str, Any]]:
    columns = {"prompt": "Question"} if path.suffix == ".csv" else {}
    held = Decontamination.model_validate({"against": [{"path": str(against)}], "n": n}) if against else None
    source = Source.model_validate({"path": str(path), "columns": columns})
    return list(read_prompts(Prompts(sources=(source,), near_duplicates=near, decontaminate=held)))


def reasons(rows: list[dict[str, Any]]) -> list[str | None]:
    return [row.get("reason") for row in rows]


def lines(path: Path, *prompts: Any) -> Path:
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't PANIC!", "don t panic"),
        ("Straße, ﬁne ① ＡＢＣ", "strasse fine 1 abc"),
        ("e\u0301te\u0301 été", "été été"),
        ("soft\u00adhyphen zero\u200bwidth", "softhyphen zerowidth"),
        ("日本語でhello、ｶﾞ", "日 本 語 で hello ガ"),
        ("हिन्दी में।", "हिन्दी में"),
        ("สวัสดี", "ส ว ั ส ด ี"),
        ("한국어 문장", "한국어 문장"),
        ("🙂 ... !?", ""),
    ],
)
def test_words(text: str, expected: str) -> None:
    assert words(text) == expected.split()


@given(st.text())
def test_words_are_the_same_read_again(text: str) -> None:
    assert words(" ".join(words(text))) == words(text)


@given(FEW_WORDS, FEW_WORDS, st.integers(1, 6))
def test_texts_share_a_gram_where_one_has_n_words_in_a_row_of_the_other(one: str, other: str, n: int) -> None:
    plain = [" ".join(word for word in text.split() if word.isalpha() and word.isascii()) for text in (one, other)]
    benchmark, asked = (text.split() for text in plain)
    runs = {tuple(benchmark[at : at + n]) for at in range(len(benchmark) - n + 1)} or {tuple(benchmark)}
    mine = {tuple(asked[at : at + n]) for at in range(len(asked) - n + 1)} or {tuple(asked)}
    found = Benchmarks([("here:1", plain[0])], n).find(plain[1])
    assert (found is not None) == bool(runs & mine - {()})
    assert Benchmarks([("here:1", one)], n).find(one) is not None or not one


def test_characters_count_half_a_word() -> None:
    assert grams(words("日本語の文"), 2) == ["日 本 語 の", "本 語 の 文"]
    assert grams(words("use 日本 now"), 2) == ["use 日 本", "日 本 now"]
    assert grams(words("日本語"), 2) == ["日 本 語"]
    found = Benchmarks([("b:1", "富士山の高さは何メートルですか。")], 5).find("次の問い:富士山の高さは何メートル?")
    assert found == ("b:1", "富士山の高さは何メー")


def test_what_is_shared_is_quoted_with_the_first_row_that_has_it(tmp_path: Path) -> None:
    benchmark = lines(tmp_path / "bench.jsonl", "unrelated words", "How tall is Mount Fuji?", "How TALL is mount Fuji")
    rows = read(lines(tmp_path / "mine.jsonl", "Say: how tall is: mount fuji", "How tall?"), benchmark, n=4)
    assert reasons(rows) == [Reason.CONTAMINATED, None]
    assert rows[0]["detail"] == f'{tmp_path}/mine.jsonl:1: shares words with {benchmark}:2: "how tall is mount"'
    long = Benchmarks([("b:1", "word " * 200)], 100).find("word " * 150)
    assert long is not None
    assert len(long[1]) <= 101


def test_a_short_item_counts_by_all_its_words(tmp_path: Path) -> None:
    benchmark = lines(tmp_path / "bench.jsonl", "What is love?")
    rows = read(lines(tmp_path / "mine.jsonl", "WHAT is love", "What is love? Write a poem on it."), benchmark)
    assert reasons(rows) == [Reason.CONTAMINATED, None]


def test_user_turns_count_together_and_the_opening_by_itself(tmp_path: Path) -> None:
    def chat(*texts: str) -> list[dict[str, str]]:
        return [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts)]

    assert user_texts([{"role": "system", "content": "s"}, *chat("a", "b", "c")]) == ("a\n\nc", "a")
    benchmark = tmp_path / "bench.jsonl"
    benchmark.write_text(
        json.dumps({"turns": ["Who wrote Faust?", "And when did that man die, in which year?"]}) + "\n"
        + json.dumps({"messages": chat("Name a river.", "The Rhine flows north.", "Why?")}) + "\n"
    )  # fmt: skip
    path = lines(
        tmp_path / "mine.jsonl", "who wrote faust", "Tell me: and when did that man die?", "name a river", "Why?",
        "The Rhine flows north.", chat("Hello there", "The Rhine flows north.", "Why?"), chat("Name a river", "x", "y"),
    )  # fmt: skip
    assert [bool(reason) for reason in reasons(read(path, benchmark, n=5))] == [True, True, True, *[False] * 3, True]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "the columns are not mapped"}', "not one item"),
        ("", "not one item"),
        ('{"prompt": "fine"}\n{"prompt": ', "bench.jsonl:2: not valid JSON"),
        ('{"prompt": "fine"}\n{"prompt": 3}', "bench.jsonl:2: column prompt holds int"),
    ],
)
def test_a_benchmark_that_cannot_be_read_stops_the_run(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "bench.jsonl").write_text(content)
    with pytest.raises(DataError, match=message):
        read(lines(tmp_path / "mine.jsonl", "x"), tmp_path / "bench.jsonl")


def test_blank_rows_of_a_benchmark_are_passed_over(tmp_path: Path) -> None:
    benchmark = lines(tmp_path / "bench.jsonl", "", None, "the item")
    assert reasons(read(lines(tmp_path / "mine.jsonl", "x", "The item."), benchmark)) == [None, Reason.CONTAMINATED]


def test_mt_bench_against_itself_and_against_vicuna_bench() -> None:
    mt_bench, vicuna = (shared(f"prompts/{name}_question.jsonl") for name in ("mt_bench", "vicuna_bench"))
    assert reasons(read(mt_bench, mt_bench)) == [Reason.CONTAMINATED] * 80
    found = [row["detail"] for row in read(vicuna, mt_bench) if "reason" in row]
    assert [(detail.split(":")[1], detail.split(":")[3]) for detail in found] == [("67", "50"), ("77", "1")]


def test_real_prompts_in_japanese() -> None:
    japanese, english = (shared(f"prompts/ifeval_{name}_input.jsonl") for name in ("ja", "en"))
    assert reasons(read(japanese, japanese)) == [Reason.CONTAMINATED] * 172
    assert not any(reasons(read(japanese, english)))
    assert reasons(read(japanese, near=0.5)).count(Reason.NEAR_DUPLICATE) == 3


PROMPT = "Explain how a steam engine turns heat into motion, and name two engineers who improved it."


@pytest.mark.parametrize(
    ("variant", "alike"),
    [
        (PROMPT.upper(), True),
        (PROMPT.replace(",", " -").rstrip("."), True),
        (PROMPT.replace("two", "three"), True),
        (PROMPT.replace("Explain", "Please explain"), True),
        (" ".join(reversed(PROMPT.split())), False),
        ("Explain how a bill turns into law, and name two presidents who vetoed one.", False),
        ("🙂", False),
    ],
)
def test_variants_of_a_prompt(tmp_path: Path, variant: str, alike: bool) -> None:
    rows = read(lines(tmp_path / "mine.jsonl", "🎉", PROMPT, variant, "🎈"), near=0.7)
    assert reasons(rows) == [None, None, Reason.NEAR_DUPLICATE if alike else None, None]
    if alike:
        assert "mine.jsonl:3: similarity " in rows[2]["detail"]
        assert rows[2]["detail"].endswith("mine.jsonl:2")


def test_only_prompts_that_stay_can_have_near_duplicates(tmp_path: Path) -> None:
    chain = ("a b c d e f g h i j", "a b c d e f g h i k", "a b c d e f g h l k")
    assert reasons(read(lines(tmp_path / "mine.jsonl", *chain), near=0.8)) == [None, Reason.NEAR_DUPLICATE, None]
    benchmark = lines(tmp_path / "bench.jsonl", chain[0])
    rows = read(lines(tmp_path / "mine.jsonl", *chain, chain[1]), benchmark, near=0.8)
    assert reasons(rows) == [Reason.CONTAMINATED, None, None, Reason.DUPLICATE]


def exact(one: str, other: str) -> float:
    sets = [set[Any](pairwise(w)) or set[Any](w) for w in (words(one), words(other))]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1]) if sets[0] and sets[1] else 0.0


@settings(derandomize=True)  # a miss at the very threshold is allowed, once in a thousand
@given(st.lists(FEW_WORDS, max_size=12), st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_each_report_is_true_and_none_is_missed(texts: list[str], threshold: float) -> None:
    index, kept = NearDuplicates(threshold), dict[str, str]()
    for number, text in enumerate(texts):
        likeness = {place: exact(text, other) for place, other in kept.items()}
        first = next((place for place, value in likeness.items() if value >= threshold), None)
        found = index.find_or_keep(text, str(number))
        assert found == (None if first is None else (first, likeness[first]))
        if first is None:
            kept[str(number)] = text


@given(st.floats(0, 1, exclude_min=True))
def test_bands_find_what_is_as_alike_as_the_threshold(threshold: float) -> None:
    rows, bands = layout(threshold)
    assert 1 <= bands <= MOST_BANDS
    assert (1 - threshold**rows) ** bands <= 1.001e-3 or (threshold < 0.06 and (rows, bands) == (1, MOST_BANDS))


def test_the_outcome_is_the_same_in_every_process(tmp_path: Path) -> None:
    texts = [f"Write a {'short' if n % 3 else 'long'} poem about the number {n % 7} and a bird" for n in range(60)]
    mine, bench = lines(tmp_path / "mine.jsonl", *texts), lines(tmp_path / "bench.jsonl", texts[5], texts[9])
    script = (
        "import sys; from tests.sources.test_overlap import read; from pathlib import Path; import json;"
        "print(json.dumps(read(Path(sys.argv[1]), Path(sys.argv[2]), 8, 0.6)))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script, str(mine), str(bench)],
            env=os.environ | {"PYTHONHASHSEED": seed}, cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout
        for seed in ("0", "1", "4711")
    }  # fmt: skip
    assert len(outputs) == 1
    assert {"contaminated", "near_duplicate"} <= {row.get("reason") for row in json.loads(outputs.pop())}


def test_a_recipe_finds_the_benchmarks_beside_it(tmp_path: Path, echo_recipe: Callable[..., Recipe]) -> None:
    data = echo_recipe(2).model_dump(mode="json")
    lines(tmp_path / "bench.jsonl", "Question 1?")
    data["prompts"]["decontaminate"] = {"against": [{"path": "bench.jsonl"}, {"path": "ben*.jsonl"}]}
    found = parse_recipe(data, base=tmp_path).prompts.decontaminate
    assert found is not None
    assert [source.path for source in found.against] == [f"{tmp_path}/bench.jsonl", f"{tmp_path}/ben*.jsonl"]
    assert found.n == 13
    data["prompts"]["decontaminate"] = {"against": [{"path": "absent.jsonl"}]}
    with pytest.raises(ConfigError, match=r"prompts\.decontaminate\.against: absent\.jsonl is neither in"):
        parse_recipe(data, base=tmp_path)
    refused: list[dict[str, Any]] = [
        {"decontaminate": {"against": []}}, {"near_duplicates": 0}, {"near_duplicates": 1.1}
    ]  # fmt: skip
    for wrong in refused:
        with pytest.raises(ConfigError):
            echo_recipe(2, prompts=wrong)


def test_a_run_counts_every_row_and_asks_nothing_again(tmp_path: Path, echo_recipe: Callable[..., Recipe]) -> None:
    recipe = echo_recipe(12)
    _, summary, calls = run(recipe)
    assert (summary.rows_read, summary.loaded) == (12, 12)
    assert calls["generate"] > 0
    bench = lines(tmp_path / "bench.jsonl", "Question 3?", "question 7")
    options = {"near_duplicates": 0.9, "decontaminate": {"against": [{"path": str(bench)}]}}
    _, summary, calls = run(echo_recipe(12, prompts=options))
    assert (summary.rows_read, summary.loaded) == (12, 10)
    assert dict(summary.load_reasons) == {"contaminated": 2}
    assert summary.loaded + sum(summary.load_reasons.values()) == summary.rows_read
    assert not calls
    _, summary, calls = run(recipe)
    assert summary.loaded == 12
    assert not calls

"""generate, evolve, rate and pair on rows of a program, with the echo backend."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
import yaml

from pairsmith import Session, build, evolve, generate, pair, rate
from pairsmith.building.rows import plain_rows
from pairsmith.config import Recipe
from pairsmith.config.loading import load_recipe, parse_recipe
from pairsmith.errors import ConfigError, TableError
from pairsmith.storage.dataset import Dataset
from tests.building.cases import PROMPTS, answers, echo, sections
from tests.building.test_rows import KINDS
from tests.conftest import clean_environment

Row = dict[str, Any]
STEPS = {"generate": generate, "evolve": evolve, "rate": rate, "pair": pair}


@pytest.fixture
def recipe(tmp_path: Path) -> Row:
    return sections(tmp_path)


def through(data: Any, recipe: Any, **more: Any) -> list[Any]:
    """What each step makes of what the one before it made."""
    made = [data]
    for step in STEPS.values():
        made.append(step(made[-1], recipe, **more))
    return made[1:]


def texts(pairs: Any) -> set[tuple[str, str, str]]:
    return {
        tuple(row[side][-1]["content"] for side in ("prompt", "chosen", "rejected")) for row in plain_rows(pairs).rows
    }  # type: ignore[misc]


@pytest.mark.parametrize("kind", KINDS)
def test_each_step_gives_the_kind_that_it_takes_and_keeps_the_columns_of_the_program(kind: str, recipe: Row) -> None:
    data = KINDS[kind]([{"prompt": text, "topic": number} for number, text in enumerate(PROMPTS)])
    made = through(data, recipe)
    assert all(type(each) is type(data) for each in made)
    for each in made[:-1]:
        assert [plain_rows(each).columns[0], plain_rows(each).columns[1]] == ["prompt", "topic"]
        assert {(row["prompt"], row["topic"]) for row in plain_rows(each).rows} == set(
            zip(PROMPTS, range(6), strict=True)
        )
    generated, evolved, rated, pairs = (plain_rows(each).rows for each in made)
    assert [len(generated), len(evolved), len(rated)] == [12, 24, 24]
    assert {row["member"] for row in generated} == {"brief", "long"}
    assert all(len(row["ratings"]) == 2 and 1 <= row["score"] <= 5 for row in rated if row["error"] is None)
    assert 0 < len(pairs) <= 6
    assert {row["prompt"][-1]["content"] for row in pairs} <= set(PROMPTS)


def test_the_steps_give_the_pairs_that_build_gives(echo_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe = echo_recipe(20)
    frame = pd.DataFrame({"prompt": [f"Question {n}?" for n in range(20)]}, index=range(100, 120))
    pairs = through(frame, recipe)[-1]
    build(recipe)
    built = Dataset(f"{recipe.workspace}/echo").pairs()
    assert len(built) > 10
    assert texts(pairs) == texts(built)
    same = ["prompt_id", "chosen_id", "chosen_score", "rejected_id", "rejected_score", "score_margin", "similarity"]
    both = [each[same].sort_values("prompt_id", ignore_index=True) for each in (pairs, built)]
    pd.testing.assert_frame_equal(*both)


def test_verdicts_between_two_answers_go_from_step_to_step(echo_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    judge = {"name": "j", "backend": "echo", "model": "judge", "protocol": "pairwise"}
    recipe = echo_recipe(12, rating={"judges": [judge], "aspects": ["overall"]})
    rated = plain_rows(through(pd.DataFrame({"prompt": [f"Question {n}?" for n in range(12)]}), recipe)[2]).rows
    for row in rated:
        assert {one["against"] for one in row["ratings"]} < {other["completion_id"] for other in rated}
    build(recipe)
    built = Dataset(f"{recipe.workspace}/echo").pairs()
    assert len(built) > 5
    assert texts(pair(rated, recipe)) == texts(built)


def test_a_survey_over_all_rows_gives_the_pairs_that_build_gives(echo_recipe: Callable[..., Recipe]) -> None:
    changes = {"length_control": True, "guard": {"repeated": 2, "on_flag": "drop"}}
    recipe, plain = echo_recipe(20, shard_size=5, pairing=changes), echo_recipe(20)
    rated = through(pd.DataFrame({"prompt": [f"Question {n}?" for n in range(20)]}), plain)[2]
    build(recipe)
    built, pairs = Dataset(f"{recipe.workspace}/echo").pairs(), pair(rated, recipe)
    assert texts(pairs) == texts(built)
    assert sorted(pairs["score_margin"]) == sorted(built["score_margin"])
    assert sorted(pairs["score_margin"]) != sorted(pair(rated, plain)["score_margin"])


def test_a_text_that_is_repeated_is_dropped(recipe: Row) -> None:
    rows = [
        row
        for n in range(3)
        for row in answers("I cannot say.", f"answer {n} " * n, "a third one", prompt=f"Q{n}?", score=[5, 4, n])
    ]
    guard = {"pairing": {"guard": {"repeated": 3, "on_flag": "drop"}}, "workspace": recipe["workspace"]}
    assert {row["chosen_member"] for row in pair(rows, {"workspace": recipe["workspace"]})} == {"given"}
    assert {chosen for _, chosen, _ in texts(pair(rows, {"workspace": recipe["workspace"]}))} == {"I cannot say."}
    rejections: list[Row] = []
    assert pair(rows, guard, rejections=rejections) == []
    assert {row["reason"] for row in rejections if row["completion_id"]} == {"flagged", "empty"}


def test_a_second_call_asks_nothing_and_gives_the_same(recipe: Row, asked: Counter[str]) -> None:
    frame = pd.DataFrame({"prompt": PROMPTS})
    once = through(frame, recipe)
    assert {"echo-brief", "echo-long", "echo-evolver", "echo-judge"} == set(asked)
    asked.clear()
    with Session() as session:
        again = through(frame, recipe, session=session)
    assert not asked
    for one, other in zip(once, again, strict=True):
        pd.testing.assert_frame_equal(one, other)
    generate(pd.DataFrame({"prompt": ["A new one?"]}), recipe)
    assert asked == {"echo-brief": 1, "echo-long": 1}


def test_a_prompt_with_a_chat_and_a_system_prompt(recipe: Row) -> None:
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Who are you?"},
    ]
    pairs = through([{"messages": chat}], recipe)[-1]
    assert [row["prompt"] for row in pairs] == [chat]


def test_columns_say_where_a_prompt_stands_at_each_step(recipe: Row) -> None:
    frame = pd.DataFrame({"task": ["Add"], "of": ["1 and 2"]})
    columns = {"prompt": "{{ task }}: {{ of }}"}
    pairs = through(frame, recipe, columns=columns)[-1]
    assert [row[-1]["content"] for row in pairs["prompt"]] == ["Add: 1 and 2"]
    with pytest.raises(ConfigError, match="no prompt in any row: none of the columns"):
        rate(generate(frame, recipe, columns=columns), recipe)


def test_rows_that_are_left_out_are_told(recipe: Row, caplog: pytest.LogCaptureFixture) -> None:
    rejections: list[Row] = []
    with caplog.at_level(logging.WARNING, logger="pairsmith"):
        made = generate(pd.DataFrame({"prompt": ["a", None, "b", "a"]}), recipe, rejections=rejections)
    assert list(made["prompt"]) == ["a", "b"] * 2
    assert [(row["reason"], row["detail"]) for row in rejections] == [
        ("missing", "row 1: none of the columns messages, conversation, prompt, instruction, question, query, turns; "
                    "the row has prompt; name its prompt in columns"),
        ("duplicate", "row 3: same prompt as row 0"),
    ]  # fmt: skip
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        "1 rows have no usable prompt: the prompt is missing (1)",
        "1 rows have the prompt of an earlier row: the same prompt again (1)",
    ]


def test_prompts_without_a_pair_and_answers_that_stand_twice_are_told(
    recipe: Row, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [*answers("yes", "no", "yes", score=[2, 2, 2]), *answers("so", prompt="How?", score=[1])]
    rejections: list[Row] = []
    with caplog.at_level(logging.WARNING, logger="pairsmith"):
        assert pair(rows, {"workspace": recipe["workspace"]}, rejections=rejections) == []
    whole = {(row["stage"], row["reason"]) for row in rejections if row["completion_id"] is None}
    assert whole == {("pair", "tie"), ("pair", "too_few")}
    assert [row["detail"] for row in rejections if row["stage"] == "load"] == ["row 2: same completion as row 0"]
    told = "\n".join(record.getMessage() for record in caplog.records)
    assert "1 rows have the completion of an earlier row: the same prompt again (1)" in told
    assert "2 prompts have no pair: " in told


@pytest.mark.parametrize(
    ("step", "row", "told"),
    [
        ("generate", {"text": "Hi"}, "none of the columns.*columns={'prompt': 'text'}"),
        ("generate", {"prompt": "Hi", "completion": "Ho"}, "makes the columns completion.*rename.*my_completion"),
        ("generate", {"prompt": "Hi", "prompt_id": 1, "score": 2}, "the columns prompt_id, score.*my_prompt_id"),
        ("evolve", {"prompt": "Hi", "text": "Ho"}, "evolve needs the column completion"),
        ("rate", {"prompt": "Hi", "text": "Ho"}, "rate needs the column completion"),
        ("pair", {"prompt": "Hi", "text": "Ho"}, "pair needs the column completion"),
        ("pair", {"prompt": "Hi", "completion": "Ho"}, "pair needs the column ratings.*or score"),
    ],
)  # fmt: skip
def test_a_wrong_column_is_named_with_the_fix(step: str, row: Row, told: str, recipe: Row, asked: Counter[str]) -> None:
    for data in ([row], pd.DataFrame([row])):
        with pytest.raises(ConfigError, match=told):
            STEPS[step](data, recipe)
    assert not asked


@pytest.mark.parametrize("step", STEPS)
def test_no_rows_give_no_rows(step: str, recipe: Row) -> None:
    columns = ["prompt", *(["completion"] if step != "generate" else []), *(["score"] if step == "pair" else [])]
    made = STEPS[step](pd.DataFrame(columns=columns), recipe)
    assert (len(made), "prompt" in made.columns) == (0, True)
    assert STEPS[step]([], recipe) == []


def test_each_answer_has_the_columns_of_its_own_row(recipe: Row) -> None:
    rows = answers("one answer", "another answer", writer=["ann", "bob"])
    evolved = evolve(rows, recipe)
    writers = {row["completion"]: row["writer"] for row in rate(rows, recipe)}
    assert writers == {"one answer": "ann", "another answer": "bob"}
    by_id = {row["completion_id"]: row for row in evolved}
    rewrites = [row for row in evolved if row["parent_id"]]
    assert len(rewrites) == 2
    assert all(row["writer"] == by_id[row["parent_id"]]["writer"] for row in rewrites)


def test_a_rewrite_has_no_ratings_of_the_text_that_it_was_made_of(recipe: Row) -> None:
    evolved = evolve(rate(generate([{"prompt": "Why?"}], recipe), recipe), recipe)
    assert [(row["ratings"] is None, row["score"] is None) for row in evolved] == [(False, False)] * 2 + [
        (True, True)
    ] * 2
    assert len(evolve(evolved, recipe)) == 4 + 2  # those of the rewrites; those of the answers are there already


def test_ratings_are_replaced_by_new_ones(recipe: Row) -> None:
    rated = rate(answers("one answer", score=[77.0], ratings=[None]), recipe)
    assert [len(row["ratings"]) for row in rated] == [2]
    assert 1 <= rated[0]["score"] <= 5


def test_a_score_alone_is_enough_to_pair(recipe: Row) -> None:
    rows = answers("good", "bad", "middling", "", score=[9.5, -2, 3, 99], completion_id=[0, 1, 2, 3])
    (made,) = pair(rows, {"workspace": recipe["workspace"]})
    assert (made["chosen_id"], made["rejected_id"]) == ("0", "1")
    assert (made["chosen_score"], made["rejected_score"], made["score_margin"]) == (9.5, -2, 11.5)


def test_strategies_whose_names_stand_in_the_mapping_alone(recipe: Row, asked: Counter[str]) -> None:
    rows = answers("better", "worse", member=["large", "small"])
    ranked = {"pairing": {"strategy": "member-order", "member_order": ["large", "small"]}}
    assert texts(pair(rows, ranked)) == {("Why?", "better", "worse")}
    evolved = answers("new text", "old one", completion_id=["b", "a"], parent_id=["a", None], evolution=[1, 0])
    trusted = {"pairing": {"strategy": "evolved-vs-original", "checked": False}}
    assert texts(pair(evolved, trusted)) == {("Why?", "new text", "old one")}
    some = {"workspace": recipe["workspace"], "evolution": {**recipe["evolution"], "of": ["large"]}}
    assert [row["parent_id"] is None for row in evolve(rows, some)] == [True, True, False]
    assert asked == {"echo-evolver": 1}


def test_ratings_survive_a_file(recipe: Row, tmp_path: Path) -> None:
    rated = rate(generate(pd.DataFrame({"prompt": PROMPTS}), recipe), recipe)
    rated.to_parquet(tmp_path / "rated.parquet")
    again = pd.read_parquet(tmp_path / "rated.parquet")
    pd.testing.assert_frame_equal(pair(again, recipe), pair(rated, recipe))


def test_ratings_that_no_table_can_hold_are_an_error(recipe: Row) -> None:
    one = {"judge": "j", "aspect": "overall", "score": 3}
    with pytest.raises(TableError, match="score"):
        pair(answers("a", ratings=[[one | {"score": 101}]]), recipe)
    with pytest.raises(TableError, match="table ratings"):
        pair(answers("a", ratings=[[one, one]]), recipe)


@pytest.mark.parametrize("step", STEPS)
def test_a_recipe_its_file_and_a_mapping_do_the_same(step: str, recipe: Row, tmp_path: Path) -> None:
    whole = recipe | {"name": "library", "prompts": {"sources": [{"path": "none"}]}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(whole))
    path, parsed = tmp_path / "recipe.yaml", parse_recipe(whole, base=tmp_path)
    data = {
        "generate": [{"prompt": "Why?"}],
        "pair": answers("good", "bad", score=[2, 1]),
    }.get(step, answers("good", "bad"))
    made = [STEPS[step](data, each) for each in (recipe, path, str(path), parsed, load_recipe(path))]
    assert all(each == made[0] for each in made)


@pytest.mark.parametrize(("step", "section"), [("generate", "pool"), ("evolve", "evolution"), ("rate", "rating")])
def test_a_section_that_is_missing_is_named(step: str, section: str, recipe: Row, tmp_path: Path) -> None:
    for absent in ({name: value for name, value in recipe.items() if name != section}, recipe | {section: None}):
        with pytest.raises(ConfigError, match=f"the recipe has no section {section}; it has workspace"):
            STEPS[step](answers("a"), absent)
    if section != "pool":
        pairing = {"strategy": "member-order", "member_order": ["brief", "long"]}
        whole = {"name": "n", "prompts": {"sources": [{"path": "none"}]}, "pool": recipe["pool"], "pairing": pairing}
        with pytest.raises(ConfigError, match=f"recipe n has no section {section}"):
            STEPS[step](answers("a"), parse_recipe(whole, base=tmp_path))


@pytest.mark.parametrize("recipe", [None, 5, ["pool"]])
def test_what_is_no_recipe_is_told(recipe: Any) -> None:
    with pytest.raises(ConfigError, match=f"a recipe is a Recipe, .* this is a {type(recipe).__name__}"):
        generate([{"prompt": "Why?"}], recipe)
    with pytest.raises(ConfigError, match="none.yaml: no such recipe"):
        generate([{"prompt": "Why?"}], "none.yaml")


def test_a_text_that_cannot_be_stored_is_no_candidate(recipe: Row) -> None:
    rejections: list[Row] = []
    rows = answers("x \ud800", "y", "z", score=[3, 2, 1])
    assert texts(pair(rows, {}, rejections=rejections)) == {("Why?", "y", "z")}
    assert [row["reason"] for row in rejections] == ["unreadable"]
    assert [len(row["ratings"]) for row in rate(rows, recipe)] == [0, 2, 2]


def test_what_is_given_is_not_asked_for_before_anything_is_paid(recipe: Row, asked: Counter[str]) -> None:
    pool = {"members": [echo("brief"), {"name": "mine", "backend": "given"}]}
    source = {"path": "rows", "completions": {"columns": {"mine": {"text": "a", "scores": {"overall": "s"}}}}}
    whole = recipe | {"pool": pool, "prompts": {"sources": [source]}}
    with pytest.raises(ConfigError, match="member mine has backend given"):
        generate([{"prompt": "Why?"}], whole)
    judged = {"aspects": ["overall"], "judges": [echo("judge"), {"name": "theirs", "backend": "given"}]}
    with pytest.raises(ConfigError, match="judge theirs has backend given"):
        rate(answers("a"), whole | {"rating": judged})
    assert not asked


def test_an_answer_that_failed_keeps_its_row_and_is_asked_for_again(recipe: Row, asked: Counter[str]) -> None:
    rows = [{"prompt": "[echo: fail]"}, {"prompt": "Why?"}]
    for _ in range(2):
        made = generate(rows, recipe)
        failed = [row["prompt"] for row in made if row["error"]]
        assert failed == ["[echo: fail]"] * 2
        assert {row["error"] for row in rate(made, recipe) if row["prompt"] == "[echo: fail]"} == {
            "failed: echo was told to fail"
        }
    assert asked["echo-brief"] == 3


def test_progress_is_told_to_the_session(recipe: Row) -> None:
    told: list[Any] = []
    with Session() as session, session.listening(told.append):
        through([{"prompt": text} for text in PROMPTS], recipe, session=session)
    assert [sum(each.prompts for each in told if each.stage == stage) for stage in ("generate", "evolve", "rate")] == [
        pytest.approx(6)
    ] * 3


def test_many_rows_take_no_square_of_the_time() -> None:
    def seconds(prompts: int) -> float:
        rows = [row for n in range(prompts) for row in answers("good", "bad", prompt=f"Q{n}?", score=[2, 1])]
        begun = time.perf_counter()
        assert len(pair(pd.DataFrame(rows), {})) == prompts
        return time.perf_counter() - begun

    seconds(10)
    assert seconds(2000) < 40 * seconds(200)  # ten times the rows; a square would be a hundred times


def test_neither_prefect_nor_torch_is_imported(tmp_path: Path) -> None:
    program = f"""
import sys, json, pairsmith
heavy = ["prefect", "torch", "transformers", "datasets", "openai", "vllm"]
before = [name for name in [*heavy, "pandas"] if name in sys.modules]
recipe = json.loads({json.dumps(json.dumps(sections(tmp_path)))})
rated = pairsmith.rate(pairsmith.evolve(pairsmith.generate([{{"prompt": "Why?"}}], recipe), recipe), recipe)
pairsmith.pair(rated, recipe)
pairsmith.load_recipe, pairsmith.build, pairsmith.preview, pairsmith.Dataset, pairsmith.Session
print(json.dumps([before, [name for name in heavy if name in sys.modules]]))
"""
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, env=clean_environment(), check=True, cwd=tmp_path)
    assert json.loads(ended.stdout.splitlines()[-1]) == [[], []]


def test_a_data_set_of_hugging_faces_is_taken_and_given(recipe: Row) -> None:
    made = generate(datasets.Dataset.from_dict({"prompt": PROMPTS}), recipe)
    assert isinstance(made, datasets.Dataset)
    assert made.column_names[0] == "prompt"

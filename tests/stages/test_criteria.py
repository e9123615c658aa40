"""Criteria in a whole run: written once for each prompt, read by judges, a table, a part of the report, a file."""

from __future__ import annotations

import json
import random
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import pairsmith
from pairsmith.building.runs import build
from pairsmith.config import Recipe
from pairsmith.config.loading import parse_recipe
from pairsmith.errors import ConfigError
from pairsmith.ids import fingerprint
from pairsmith.judging.criteria_file import written_out
from pairsmith.ledger.ledger import Ledger
from pairsmith.planning.dry_run import plan_run
from pairsmith.session import Session
from pairsmith.stages.base import open_store
from pairsmith.stages.criteria import stored_criteria
from pairsmith.stages.forget import Choice, forget
from pairsmith.storage.datafiles import data_files, first_pairs
from pairsmith.storage.versions import latest_version
from pairsmith.testing import FakeEndpoint
from tests.runs import run
from tests.stages.grader import ANY, CASE, GOOD, SHORT

HERE = Path(__file__).parent
COUNT = 6
JUDGE = {"name": "reader", "backend": "grader:Judge", "model": "j", "readout": "logprobs", "protocol": "pointwise"}
AUTHOR = {"backend": "grader:Author", "model": "w"}


def recipe(folder: Path, name: str = "asked", lines: list[str] | None = None, **more: Any) -> Recipe:
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(f'{{"prompt": "{line}"}}\n' for line in lines or [f"Say {n}" for n in range(COUNT)]))
    criteria = {"author": AUTHOR, "strongest_first": ["good", "fair", "bad"]} | more.pop("criteria", {})
    members = [{"name": m, "backend": "grader:Writer", "model": m} for m in ("bad", "good", "fair")]
    data = {
        "name": name,
        "workspace": str(folder / "ws"),
        "code_folder": str(HERE),
        "prompts": {"sources": [{"path": str(prompts)}]},
        "pool": {"members": members},
        "rating": {"judges": [JUDGE], "aspects": ["criteria"], "criteria": criteria},
    }
    return parse_recipe(data | more, base=folder)


def table(settings: Recipe) -> list[dict[str, Any]]:
    with Session() as session:
        return [dict(row) for row in stored_criteria(settings, session)[0]]


def test_answers_are_rated_by_questions_that_tell_them_apart(tmp_path: Path) -> None:
    settings = recipe(tmp_path)
    plan = {line.who: line.calls for line in plan_run(settings).lines if line.stage in ("criteria", "rate")}
    assert plan == {"author": COUNT * 2, "reader": COUNT * 3 * 6}  # asked again at most once, for at most six questions
    published, summary, calls = run(settings)
    assert calls == Counter(generate=COUNT * 3, criteria=COUNT, rate=COUNT * 3 * 3)  # one of four is a program's
    found = {(row["question"].translate({ord(d): "N" for d in "0123456789"}), row["error"]) for row in table(settings)}
    assert found == {
        (GOOD, None), (CASE.format("N"), "tells nothing apart: yes differs by 0.00 at most"),
        (SHORT, "tells nothing apart: yes differs by 0.00 at most"),
        (ANY, "tells nothing apart: yes differs by 0.00 at most"),
    }  # fmt: skip
    notes = {row["note"] for row in table(settings)}
    assert notes == {None, "a judge decides, since the check is unknown: 'by eye' is none of the forms of a check"}
    store = open_store(settings)
    pairs = first_pairs(data_files(store, latest_version(store)), COUNT)
    assert {(one["chosen_member"], one["rejected_member"]) for one in pairs} == {("good", "bad")}
    assert {round(one["chosen_score"], 9) for one in pairs} == {1 + 4 * 0.9}
    assert pairs[0]["chosen_ratings"][0]["rationale"] == f"0.90 {GOOD}"
    assert summary.criteria == Counter({"": COUNT, "tells nothing apart": 3 * COUNT})
    page = (Path(published.folder) / "report.html").read_text()
    assert f"{GOOD}</th><td>0.90</td><td>0.10</td>" in page
    assert run(settings)[2].total() == 0


def test_one_digest_for_any_order_of_the_prompts_and_any_shards(tmp_path: Path) -> None:
    lines, found = [f"Say {n}" for n in range(4)], set()
    for size in (1, 3, 64):
        random.Random(size).shuffle(lines)
        settings = recipe(tmp_path, f"size-{size}", lines, shard_size=size)
        found.add((run(settings)[0].digest, fingerprint(table(settings))))
    assert len(found) == 1


@pytest.mark.parametrize("reasks", [0, 1])
def test_an_author_is_asked_again_with_what_was_wrong(tmp_path: Path, reasks: int) -> None:
    settings = recipe(tmp_path, lines=["Say 1", "Say odd 2"], criteria={"author": AUTHOR | {"reasks": reasks}})
    calls = run(settings)[2]
    assert calls["criteria"] == 2 + reasks
    assert len({row["prompt_id"] for row in table(settings) if row["item"]}) == 1 + reasks
    assert run(settings)[2].total() == 0


def test_a_reply_that_cannot_be_read_is_a_row_and_its_prompt_has_no_pair(tmp_path: Path) -> None:
    settings = recipe(tmp_path, lines=["Say 1", "Say odd 2"], criteria={"author": AUTHOR | {"reasks": 0}})
    _, summary, _ = run(settings)
    (row,) = [row for row in table(settings) if row["item"] == 0]
    assert (row["error"], row["reply"]) == ("unreadable: no JSON object", "I would rather not.")
    assert summary.prompt_reasons == Counter(too_few=1)
    assert summary.failures["author author"] == {"": 2, "stays: unreadable: no JSON object": 1}
    assert "stays: no criteria" not in str(summary.failures)  # the judge is not to blame


def test_a_file_takes_the_place_of_the_author_and_asks_only_what_is_new(tmp_path: Path) -> None:
    said, path = ["Say 1", "Say 2"], tmp_path / "mine.jsonl"
    before = recipe(tmp_path, lines=said)
    first = run(before)[0]
    lines = [json.loads(line) for line in written_out(table(before))]  # type: ignore[arg-type]
    named = lines[0]["prompt_id"]
    mine = [line for line in lines if line["prompt_id"] == named]
    mine.append({"prompt_id": named, "question": "Does it begin with good?", "check": 'begins "good"'})
    path.write_text("\n".join(map(json.dumps, mine)))
    edited = recipe(tmp_path, lines=said, criteria={"file": "mine.jsonl"})
    second, _, calls = run(edited)
    assert not calls.total()  # the judge's readings are known, and the new question is a program's
    assert second.digest != first.digest
    assert {row["author"]: row["prompt_id"] == named for row in table(edited)} == {"file": True, "author": False}
    path.write_text(path.read_text().replace('"error": null', '"error": "not what I meant"'))
    assert run(edited)[0].digest != second.digest  # an edited file is noticed
    alone = recipe(tmp_path, "alone", said, criteria={"author": None, "file": "mine.jsonl"})
    assert run(alone)[1].paired == 1


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("{", r"line 2: not JSON"),
        ('{"question": "Why?"}', "line 2: give a JSON object with prompt_id"),
        ('{"prompt_id": "p", "question": " "}', "line 2: no question"),
        ('{"prompt_id": "p", "question": "Why?", "weight": 0}', "line 2: weight is 0"),
        ('{"prompt_id": "p", "question": "Why?", "check": "words"}', "line 2: .*'words' is none of the forms"),
        ('{"prompt_id": "p", "question": "Why?", "wieght": 1}', "line 2: there is no field wieght"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_line(tmp_path: Path, line: str, wrong: str) -> None:
    (tmp_path / "mine.jsonl").write_text(f'{{"prompt_id": "p", "question": "So?"}}\n{line}\n')
    with pytest.raises(ConfigError, match=f"rating.criteria.file: .*mine.jsonl, {wrong}"):
        build(recipe(tmp_path, criteria={"file": "mine.jsonl"}))


@pytest.mark.parametrize(
    ("rating", "wrong"),
    [
        ({"aspects": ["overall"]}, "no judge reads them; add criteria to rating.aspects"),
        ({"criteria": None}, "rating.aspects: there is no criteria"),
        ({"criteria": {}}, "needs an author, a file, or both"),
        (
            {"judges": [{"name": "r", "backend": "reward", "model": "m", "aspects": ["criteria"]}]},
            "with backend reward",
        ),
        ({"criteria": {"author": {**AUTHOR, "name": "bad"}}}, "author.name: bad is the name of a member"),
        ({"criteria": {"author": AUTHOR, "strongest_first": ["best"]}}, "strongest_first: there is no best"),
        ({"criteria": {"author": AUTHOR, "file": "absent.jsonl"}}, "rating.criteria.file: absent.jsonl is neither in"),
    ],
)
def test_a_recipe_whose_criteria_cannot_be_read_is_refused(tmp_path: Path, rating: dict[str, Any], wrong: str) -> None:
    plain = recipe(tmp_path).model_dump(mode="json")
    with pytest.raises(ConfigError, match=wrong):
        parse_recipe(
            plain | {"rating": {"judges": [JUDGE], "aspects": ["criteria"], "criteria": {"author": AUTHOR}} | rating},
            tmp_path,
        )


def test_a_program_rates_its_own_rows_by_criteria(tmp_path: Path) -> None:
    settings = recipe(tmp_path).model_dump(mode="json")
    rows = [{"prompt": "Say 1", "completion": f"{word}, case 1", "member": word} for word in ("good", "bad", "fair")]
    made = pairsmith.rate(rows, {name: settings[name] for name in ("rating", "workspace", "code_folder", "pool")})
    assert [round(row["score"], 2) for row in made] == [4.6, 1.4, 2.2]
    assert {one["aspect"] for row in made for one in row["ratings"]} == {"criteria"}


@pytest.mark.parametrize("by", ["prompts", "matching"])
def test_what_was_forgotten_is_in_no_criteria(tmp_path: Path, by: str) -> None:
    settings = recipe(tmp_path, lines=["Say 1", "Say 2"])
    run(settings)
    (named,) = {row["prompt_id"] for row in table(settings) if row["question"] == CASE.format(2)}
    choice = Choice(prompts=(named,)) if by == "prompts" else Choice(matching="name case 2")  # in criteria alone
    with closing(Ledger(settings.ledger_url)) as ledger:
        assert forget(open_store(settings), ledger, choice, yes=True).prompts == 1
        assert not [row for row in ledger.replies.rows() if "case 2" in row["reply"]]
    assert not any("case 2" in str(row["question"]) for row in table(settings))


def test_an_endpoint_writes_and_reads_criteria(tmp_path: Path) -> None:
    with FakeEndpoint() as endpoint:
        there = {"backend": "openai", "endpoint": {"base_url": endpoint.url, "api_key_env": None}}
        judge = {"name": "reader", "model": "j", "readout": "logprobs", "protocol": "pointwise", **there}
        rating = {"judges": [judge], "aspects": ["criteria"], "criteria": {"author": {"model": "w", **there}}}
        settings = recipe(tmp_path, lines=["Say 1", "Say 2"], rating=rating)
        _, summary, calls = run(settings)
    assert calls["criteria"] == 2
    assert summary.aspects["criteria by reader"]["null"] == 0
    assert all("response_format" in body for body in endpoint.journal if body["model"] == "w")
    assert {body["max_tokens"] for body in endpoint.journal if body["model"] == "j"} == {1}

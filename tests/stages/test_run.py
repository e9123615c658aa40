"""Whole runs without Prefect, on the echo backend: what is asked, what is kept, what is published."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pairsmith.config import Recipe
from pairsmith.config.loading import load_recipe
from pairsmith.errors import RunError
from pairsmith.planning.dry_run import plan_run
from pairsmith.stages.base import open_store
from pairsmith.storage.tables import completion_refs, rating_refs
from pairsmith.testing import FakeEndpoint
from tests.conftest import ROOT, shared
from tests.runs import run

Build = Callable[..., Recipe]


def test_calls_of_a_run_and_none_in_a_second(echo_recipe: Build) -> None:
    published, summary, calls = run(echo_recipe(20))
    assert calls == {"generate": 40, "evolve": 40, "rate": 40}
    assert summary.loaded == 20 == summary.paired + sum(summary.prompt_reasons.values())
    again, _, calls = run(echo_recipe(20))
    assert not calls
    assert (again.version, again.new, again.digest) == ("v0001", False, published.digest)


def test_ten_percent_more_prompts_ask_exactly_for_those(echo_recipe: Build) -> None:
    run(echo_recipe(20))
    published, _, calls = run(echo_recipe(22))
    assert calls == {"generate": 4, "evolve": 4, "rate": 4}
    assert (published.version, published.new) == ("v0002", True)


def test_refreshes_ask_only_for_what_is_new_and_versions_hold_what_is_there(tmp_path: Path) -> None:
    """A row is added, one is changed, one is removed: a journal of the endpoint counts what each refresh asks."""
    path = tmp_path / "rows.jsonl"
    with FakeEndpoint() as endpoint:
        where = {"backend": "openai", "endpoint": {"base_url": endpoint.url, "api_key_env": None}}
        members = [{"name": name, "model": "m", "sampling": {"seed": seed}, **where} for seed, name in enumerate("ab")]
        judges = [{"name": "judge", "model": "judge", **where}]
        data = {
            "name": "refreshed", "workspace": str(tmp_path / "data"), "shard_size": 2, "pool": {"members": members},
            "prompts": {"sources": [{"path": str(path)}]}, "rating": {"aspects": ["overall"], "judges": judges},
            "pairing": {"strategy": "member-order", "member_order": ["a", "b"]},
        }  # fmt: skip
        recipe = Recipe.model_validate(data)

        def refresh(*texts: str) -> tuple[int, set[str], str]:
            """Calls that arrived, the prompts of the version that `latest` leads to, and its name."""
            path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
            before = sum(endpoint.asked.values())
            published = run(recipe)[0]
            found = pq.read_table(Path(published.folder, "data"))["prompt"].to_pylist()
            assert Path(published.folder).parent.parent.joinpath("latest").resolve() == Path(published.folder)
            return sum(endpoint.asked.values()) - before, {chat[0]["content"] for chat in found}, published.version

        each = 2 + 1  # two answers, and a judge who sees both
        assert refresh(*"vwxyz") == (5 * each, set("vwxyz"), "v0001")
        assert refresh(*"vwxyz", "new") == (each, {*"vwxyz", "new"}, "v0002")
        assert refresh(*"vwXyz", "new") == (each, {*"vwXyz", "new"}, "v0003")
        assert refresh(*"wXyz", "new") == (0, {*"wXyz", "new"}, "v0004")
        assert refresh(*"wXyz", "new") == (0, {*"wXyz", "new"}, "v0004")
        assert refresh(*"vwxyz") == (0, set("vwxyz"), "v0005")
        assert sum(endpoint.asked.values()) == len(endpoint.asked)
        told = json.loads(Path(recipe.workspace, recipe.name, "versions", "v0003", "version.json").read_text())
    assert told["changelog"] == {
        "against": "v0002", "added": 1, "removed": 1, "changed": 0, "calls": each, "cost": None
    }  # fmt: skip


def test_any_table_can_be_deleted_and_is_rebuilt_without_a_call(echo_recipe: Build) -> None:
    expected = run(echo_recipe(9))[0].digest
    root = Path(open_store(echo_recipe(9)).root)
    for table in sorted(root.glob("tables/*/*.parquet")):
        table.unlink()
        published, _, calls = run(echo_recipe(9))
        assert not calls
        assert published.digest == expected


def test_failures_are_counted_kept_apart_and_asked_again(tmp_path: Path, echo_recipe: Build) -> None:
    path = tmp_path / "mixed.jsonl"
    texts = ["fine", "[echo: fail]", "[echo: empty]", "[echo: long]", "good"]
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    recipe = echo_recipe(1, prompts={"sources": [{"path": str(path)}]}, evolution=None)
    _, summary, calls = run(recipe)
    assert (summary.prompt_reasons["no_completion"], summary.prompt_reasons["too_few"]) == (2, 1)
    assert calls["generate"] == 10
    assert run(recipe)[2] == {"generate": 2}


def test_no_pair_is_an_error_with_the_reasons(tmp_path: Path, echo_recipe: Build) -> None:
    with pytest.raises(RunError, match=r"no pair to publish: 12 prompts, the margin is too small \(12\)"):
        run(echo_recipe(12, pairing={"min_margin": 9.0}))
    short = {"sampling": {"max_tokens": 1}}
    members = [{"name": name, "backend": "echo", "model": name, **short} for name in "ab"]
    with pytest.raises(
        RunError, match=r"choose from \(12\); answers and pairs passed over: the answer was cut off \(24\)"
    ):
        run(echo_recipe(12, name="short", pool={"members": members}, evolution=None))


def test_every_rating_names_a_completion_and_every_pair_two(echo_recipe: Build) -> None:
    recipe = echo_recipe(10)
    run(recipe)
    store = open_store(recipe)
    (shard,) = store.shards()
    completions = store.load_all(completion_refs(recipe, shard)).data
    ratings = store.load_all(rating_refs(recipe, shard)).data
    assert set(ratings["completion_id"]) == set(completions["completion_id"])
    assert len(ratings) == len(completions) * 2


def test_members_drawn_per_prompt(echo_recipe: Build) -> None:
    members = [{"name": name, "backend": "echo", "model": name} for name in "abcd"]
    recipe = echo_recipe(30, pool={"members": members, "draw": 2}, evolution=None)
    assert run(recipe)[2]["generate"] == 60


def test_several_judges_critiques_and_all_strategies(echo_recipe: Build) -> None:
    judges = [
        {"name": "a", "backend": "echo", "model": "a", "readout": "json", "critique": True},
        {"name": "b", "backend": "echo", "model": "b", "readout": "logprobs", "protocol": "pointwise"},
    ]
    for strategy in ("best-vs-random", "best-vs-second", "evolved-vs-original", "all-above-margin"):
        _, summary, _ = run(echo_recipe(10, rating={"judges": judges}, pairing={"strategy": strategy}))
        assert summary.pairs >= summary.paired > 0
    order = {"strategy": "member-order", "member_order": ["long", "brief"]}
    _, summary, _ = run(echo_recipe(10, rating=None, evolution=None, pairing=order))
    assert summary.wins == Counter({("long", "brief"): 10})


def test_a_dry_run_counts_and_writes_nothing(echo_recipe: Build, tmp_path: Path) -> None:
    recipe = echo_recipe(12)
    plan = plan_run(recipe)
    assert {line.stage: line.calls for line in plan.lines} == {"generate": 12, "evolve": 24, "rate": 48}
    assert not (tmp_path / "data").exists()
    run(recipe)
    assert [line.known for line in plan_run(recipe).lines if line.stage == "generate"] == [12, 12]


def test_a_dry_run_counts_members_that_always_answer(echo_recipe: Build) -> None:
    members = [{"name": name, "backend": "echo", "model": name} for name in ("a", "b", "weak")]
    recipe = echo_recipe(12, pool={"members": members, "draw": 1, "always": ["weak"]}, evolution=None)
    planned = {line.who: line.calls for line in plan_run(recipe).lines if line.stage == "generate"}
    assert (planned["weak"], planned["a"] + planned["b"]) == (12, 12)
    _, _, calls = run(recipe)
    assert calls["generate"] == sum(planned.values())


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("mt_bench_question.jsonl", {"prompt": "turns"}),
        ("self_instruct_user_oriented.jsonl", {"prompt": "{{ instruction }}\n\n{{ instances[0].input }}"}),
    ],
)
def test_the_demo_recipe_over_real_prompts(name: str, columns: dict[str, str], tmp_path: Path) -> None:
    source = {"path": str(shared(f"prompts/{name}")), "columns": columns}
    overrides = [f"workspace={tmp_path}", f"prompts={json.dumps({'sources': [source], 'limit': 40})}"]
    recipe = load_recipe(ROOT / "recipes" / "demo.yaml", overrides)
    data = json.loads(recipe.model_dump_json().replace('"transformers"', '"echo"'))
    _, summary, _ = run(Recipe.model_validate(data))
    assert summary.rows_read == 40
    assert summary.loaded == summary.paired + sum(summary.prompt_reasons.values())

"""The flows on a temporary Prefect server: task runs, artifacts, failures, and what a rerun asks."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pairsmith.config import Recipe
from pairsmith.errors import ConfigError
from pairsmith.session import Session, process_session
from tests.runs import run

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_server")]
Build = Callable[..., Recipe]


async def _call(what: str, **words: Any) -> Any:
    from prefect import get_client

    async with get_client() as client:
        return await getattr(client, what)(**words)


def read_one(what: str, **words: Any) -> Any:
    return asyncio.run(_call(what, **words))


def read(what: str, **filters: Any) -> list[Any]:
    """All that there are: the server gives 200 at a time, and its other tests leave some."""
    found: list[Any] = []
    while page := read_one(what, offset=len(found), **filters):
        found += page
    return found


def calls(result: dict[str, Any]) -> int:
    return sum(row["calls"] for row in result["usage"])


def test_a_flow_run_gives_the_data_set_of_a_run_without_prefect(echo_recipe: Build) -> None:
    from pairsmith_flows.preferences import build_preference_dataset

    expected = run(echo_recipe(20, name="plain", shard_size=8))[0]
    result = build_preference_dataset(echo_recipe(20, name="flow", shard_size=8))
    assert result["digest"] == expected.digest
    assert calls(result) == 0  # the ledger of the workspace had them all
    names = {task.name for task in read("read_task_runs")}
    assert {"load prompts", "publish"} <= names
    assert {name.split()[0] for name in names} >= {"generate", "evolve", "rate", "pair"}
    artifacts = {artifact.key: artifact for artifact in read("read_artifacts")}
    assert {"flow-generate", "flow-evolve", "flow-rate", "flow-pair", "flow-funnel", "flow-summary"} <= set(artifacts)
    assert artifacts["flow-rate"].data == 100.0
    assert "| paired | 20 |" in artifacts["flow-summary"].data


def test_one_task_run_per_stage_shard_and_part(echo_recipe: Build) -> None:
    from pairsmith_flows.preferences import build_preference_dataset

    before = {task.id for task in read("read_task_runs")}
    result = build_preference_dataset(echo_recipe(20, name="count", shard_size=8))
    asked = [(row["stage"], row["who"], row["calls"], row["failed"]) for row in result["usage"]]
    generated = [("generate", name, 20, 0) for name in ("brief", "long")]
    assert asked == [*generated, ("evolve", "evolver", 40, 0), ("rate", "judge", 40, 0)]
    assert all(row["tokens"] > 0 and row["prompt_tokens"] > 0 for row in result["usage"])
    made = [task for task in read("read_task_runs") if task.id not in before]
    assert len(made) == 2 + 3 * (2 + 1 + 1 + 1)
    of_shards = [task for task in made if task.name.split()[0] in ("generate", "evolve", "rate", "pair")]
    assert not any(task.task_inputs["recipe"] for task in of_shards)  # none comes from another task
    assert all(task.task_inputs["wait_for"] for task in of_shards if not task.name.startswith("generate"))


def test_with_a_survey_pairs_wait_for_all_shards_and_only_then(
    echo_recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pairsmith_flows.preferences import build_preference_dataset
    from pairsmith_tasks import pair, survey

    pairing = {"length_control": True, "guard": {"on_flag": "not-chosen", "repeated": 2}}
    expected = run(echo_recipe(20, name="plain-survey", shard_size=8, pairing=pairing))[0]
    order: list[str] = []
    for module, name in ((survey, "survey_shard"), (survey, "merge_surveys"), (pair, "pair_shard")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, name=name, real=real: (order.append(name), real(*args))[1])
    before = len(read("read_task_runs"))
    result = build_preference_dataset(echo_recipe(20, name="survey", shard_size=8, pairing=pairing))
    assert result["digest"] == expected.digest
    assert order == ["survey_shard"] * 3 + ["merge_surveys"] + ["pair_shard"] * 3
    assert len(read("read_task_runs")) - before == 2 + 1 + 3 * (2 + 1 + 1 + 1 + 1)
    assert {row["stage"] for row in result["usage"]} == {"generate", "evolve", "rate"}
    artifacts = {artifact.key: artifact for artifact in read("read_artifacts")}
    assert artifacts["survey-pair"].data == artifacts["survey-rate"].data == 100.0
    order.clear()
    again = build_preference_dataset(echo_recipe(20, name="survey", shard_size=8, pairing=pairing))
    assert (again["new"], calls(again), order) == (False, 0, ["merge_surveys"])
    more = build_preference_dataset(echo_recipe(22, name="survey", shard_size=8, pairing=pairing))
    assert (more["version"], calls(more)) == ("v0002", 12)


def test_a_failed_stage_fails_the_run_and_a_rerun_repeats_nothing(
    echo_recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pairsmith.errors import ConfigError
    from pairsmith.stages.base import StageResult
    from pairsmith.stages.rate import rate_shard
    from pairsmith_flows.preferences import build_preference_dataset

    recipe = echo_recipe(20, name="fails", shard_size=10)
    real, broken = rate_shard, []

    def fail_once(recipe: Recipe, shard: str, judge: str, session: Session) -> StageResult:
        if not broken:
            broken.append(shard)
            raise ConfigError("no such judge")
        return real(recipe, shard, judge, session)

    monkeypatch.setattr("pairsmith_tasks.rate.rate_shard", fail_once)
    tracebacks: list[Any] = []  # of what is called when a task is done
    monkeypatch.setattr(logging.getLogger("concurrent.futures"), "exception", lambda *what: tracebacks.append(what))
    with pytest.raises(ConfigError, match="the run stopped; .*: no such judge$"):
        build_preference_dataset(recipe)
    assert tracebacks == []
    assert calls(build_preference_dataset(recipe)) == 20  # that shard's ratings: 10 prompts, 2 aspects


def test_a_refresh_asks_only_for_new_prompts_and_publishes_the_next_version(echo_recipe: Build) -> None:
    from pairsmith_flows.refresh import refresh_preference_dataset

    first = refresh_preference_dataset(echo_recipe(20, name="fresh"))
    same = refresh_preference_dataset(echo_recipe(20, name="fresh"))
    more = refresh_preference_dataset(echo_recipe(22, name="fresh"))
    assert (first["version"], same["version"], more["version"]) == ("v0001", "v0001", "v0002")
    assert (same["new"], calls(same)) == (False, 0)
    assert (more["loaded"]["new"], calls(more)) == (2, 12)


def test_a_wrong_recipe_is_refused_before_a_run(echo_recipe: Build) -> None:
    from pairsmith.errors import WrongFields
    from pairsmith_flows.preferences import build_preference_dataset

    wrong = echo_recipe(2).model_dump(mode="json") | {"naem": "x"}
    with pytest.raises(WrongFields, match="naem: there is no such field"):
        build_preference_dataset(wrong)


def test_without_a_deployment_a_version_that_needs_approval_waits_and_the_run_ends(echo_recipe: Build) -> None:
    from pairsmith.stages.base import open_store
    from pairsmith.storage import versions
    from pairsmith_flows.preferences import build_preference_dataset

    recipe = echo_recipe(12, name="gated", publishing={"approval": "required"})
    first, second = build_preference_dataset(recipe), build_preference_dataset(recipe)
    assert (first["state"], first["new"], second["state"], second["new"]) == ("candidate", True, "candidate", False)
    assert first["latest"] is None
    store = open_store(recipe)
    versions.release(store, None, by="Ada", reason="fine")
    third = build_preference_dataset(recipe)
    assert (third["state"], third["latest"], calls(third)) == ("released", "v0001", 0)
    runs = [run for run in read("read_flow_runs") if "gated" in run.tags]
    assert len(runs) == 3
    assert all(run.state.is_completed() and not any(tag.startswith("data set") for tag in run.tags) for run in runs)


def test_a_question_says_what_a_person_needs_to_know_and_nothing_in_it_is_markup() -> None:
    from pairsmith_flows.approval import question_about

    folder = "/srv/`x` <b>|/served/versions/v0002"
    told = question_about(
        {
            "version": "v0002",
            "pairs": 1200,
            "latest": "v0001",
            "reasons": ["800 pairs, <b>fewer"],
            "folder": folder,
            "report": f"{folder}/report.html",
            "gates": [
                {"gate": "min_pairs", "measured": "1200", "wanted": "at least 10", "passed": "yes"},
                {"gate": "min_yield", "measured": "0.9", "wanted": "", "passed": ""},
            ],
        },
        7.0,
        f"pairsmith release '{folder}'",
    )
    assert "**v0002** has 1,200 pairs; `latest` leads to v0001." in told
    assert "at least 10" in told
    assert "held back:\n\n- 800 pairs, " in told
    assert "min\\_yield" not in told
    assert "fails in 7 days" in told
    assert "<b>" not in told
    assert told.count("`") - told.count("\\`") == 2


def digest_of(result: dict[str, Any]) -> tuple[str, str]:
    return result["version"], result["digest"]


def test_pairing_by_itself_gives_what_a_run_gives_and_no_task_asks(
    echo_recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pairsmith.llms.echo import Echo
    from pairsmith_flows.preferences import build_preference_dataset, pair_preference_dataset

    other = {"strategy": "best-vs-second", "length_penalty": 0.2}
    build_preference_dataset(echo_recipe(20, name="first", shard_size=8))
    build_preference_dataset(echo_recipe(20, name="second", shard_size=8))
    expected = build_preference_dataset(echo_recipe(20, name="first", shard_size=8, pairing=other))
    monkeypatch.setattr(Echo, "stream", None)
    before = {task.id for task in read("read_task_runs")}
    result = pair_preference_dataset(echo_recipe(20, name="second", shard_size=8, pairing=other))
    assert digest_of(result) == digest_of(expected)
    assert result["version"] == "v0002"
    names = {task.name.split()[0] for task in read("read_task_runs") if task.id not in before}
    assert names == {"load", "look", "pair", "publish"}
    monkeypatch.undo()
    assert not build_preference_dataset(echo_recipe(20, name="second", shard_size=8, pairing=other))["new"]


def test_rating_by_itself_rates_what_there_is(echo_recipe: Build) -> None:
    from pairsmith.errors import RunError
    from pairsmith.stages.base import open_store
    from pairsmith.stages.evolve import evolve_shard
    from pairsmith.stages.generate import generate_shard
    from pairsmith.stages.load import load as load_sources
    from pairsmith_flows.preferences import build_preference_dataset, pair_preference_dataset, rate_preference_dataset

    recipe = echo_recipe(20, name="parts", shard_size=8)
    with pytest.raises(RunError, match="20 of 20 prompts have no completions by brief.*`pairsmith run`"):
        rate_preference_dataset(recipe)
    shard = next(iter(load_sources(recipe, process_session()).shards))
    for member in recipe.pool.members:
        generate_shard(recipe, shard, member.name, process_session())
    evolve_shard(recipe, shard, process_session())
    result = rate_preference_dataset(recipe)
    assert calls(result) == 8 * 2
    assert result["lacking"].startswith("12 of 20 prompts have no completions by brief")
    assert not (open_store(recipe).exists("latest"))
    with pytest.raises(RunError, match="12 of 20 prompts have no completions"):
        pair_preference_dataset(recipe)
    assert calls(build_preference_dataset(recipe)) == 12 * 6
    assert calls(rate_preference_dataset(echo_recipe(20, name="parts", shard_size=8))) == 0
    with pytest.raises(RunError, match="20 of 20 prompts have no ratings by judge as .*`pairsmith rate`"):
        pair_preference_dataset(echo_recipe(20, name="parts", shard_size=8, rating={"aspects": ["overall"]}))
    more = echo_recipe(20, name="parts", shard_size=8, rating={"aspects": ["overall"]})
    assert calls(rate_preference_dataset(more)) == 20
    assert pair_preference_dataset(more)["version"] == "v0002"


def at_endpoint(echo_recipe: Build, url: str, **endpoint: Any) -> Recipe:
    where = {"backend": "openai", "endpoint": {"base_url": url, **endpoint}}
    members = [{"name": name, "model": "m", "sampling": {"seed": n}, **where} for n, name in enumerate("ab")]
    judges = [{"name": "j", "model": "j", **where}]
    return echo_recipe(6, name="fake", pool={"members": members}, evolution=None, rating={"judges": judges})


def test_workers_share_an_endpoint_by_a_limit_of_prefects(echo_recipe: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate

    from pairsmith.llms.endpoint.engine import EndpointEngine
    from pairsmith.stages.generate import generate_shard
    from pairsmith.testing import FakeEndpoint
    from pairsmith_flows.preferences import build_preference_dataset

    shares: list[float] = []
    divide, generate = EndpointEngine.divide, generate_shard
    monkeypatch.setattr(EndpointEngine, "divide", lambda self, share: (shares.append(share), divide(self, share))[1])
    both = threading.Barrier(2, timeout=120)  # each member's task works only when the other has its slot too
    monkeypatch.setattr("pairsmith_tasks.generate.generate_shard", lambda *args: (both.wait(), generate(*args))[1])
    with FakeEndpoint() as endpoint:
        recipe = at_endpoint(
            echo_recipe, endpoint.url, api_key_env=None, shared_limit="pairsmith-test", requests_per_minute=6000
        )
        with pytest.raises(ConfigError, match="prefect gcl create pairsmith-test"):
            build_preference_dataset(recipe)
        made = GlobalConcurrencyLimitCreate(name="pairsmith-test", limit=4, active=True)
        read_one("create_global_concurrency_limit", concurrency_limit=made)
        build_preference_dataset(recipe)
        assert sum(endpoint.asked.values()) == 24
    assert set(shares) == {0.25, 0.5}


def test_criteria_are_written_and_read_by_tasks_as_without_prefect(echo_recipe: Build) -> None:
    from pairsmith_flows.preferences import build_preference_dataset, rate_preference_dataset

    rating = {"aspects": ["overall", "criteria"], "criteria": {"author": {"backend": "echo", "model": "author"}}}
    expected = run(echo_recipe(4, name="criteria-plain", rating=rating))[0]
    flow = echo_recipe(4, name="criteria-flow", shard_size=2, rating=rating)
    result = build_preference_dataset(flow)
    assert (result["digest"], calls(result)) == (expected.digest, 0)
    assert {row["stage"] for row in result["usage"]} == {"generate", "evolve", "criteria", "rate"}
    alone = rate_preference_dataset(flow.model_copy(update={"shard_size": 3}))
    assert alone["lacking"] is None

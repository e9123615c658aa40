"""F30: a limited, smaller or failed run: `latest` never moves to what came of it by itself.

A limited run makes a preview, beside the versions. A version with many fewer pairs than the released one, or one for
which a member, evolver or judge failed in most of its calls, waits for a person, with the reason.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from pairsmith.building.runs import Outcome, Release, Threads, build
from pairsmith.building.runs import run as run_stages
from pairsmith.config import Recipe
from pairsmith.errors import ManyFailed, RunError
from pairsmith.ledger.ledger import Ledger
from pairsmith.ledger.pruning import place_of, prune
from pairsmith.ledger.uses import Table, Uses
from pairsmith.publishing import publish as publishing
from pairsmith.publishing.publish import Published
from pairsmith.session import Session
from pairsmith.stages.base import open_store
from pairsmith.stages.forget import Choice, forget
from pairsmith.status import versions_of, waiting_text
from pairsmith.storage import versions
from pairsmith.storage.datafiles import data_files, rows_of
from pairsmith.storage.previews import preview_of
from pairsmith.storage.pruning import prune as prune_versions
from pairsmith.storage.store import Store
from pairsmith.testing import KINDS, FakeEndpoint, Fault, Weather
from tests.command_line import cli
from tests.faults.test_f12_dead_member import LIMITS, Outage, quick, with_dead  # noqa: F401 - a fixture
from tests.flows.cli.test_commands import RECIPE
from tests.runs import run

Build = Callable[..., Recipe]
Tally = Callable[..., None]
WHO = {"by": "ann", "reason": "looked at it"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each model was asked."""
    from pairsmith.llms.echo import Echo

    count, real = Counter[str](), Echo.stream

    def counting(self: Echo, requests: Any, *words: Any, **named: Any) -> Any:
        requests = list(requests)
        count[self.identity.model] += len(requests)
        return real(self, requests, *words, **named)

    monkeypatch.setattr(Echo, "stream", counting)
    return count


def limited(recipe: Recipe, limit: int, only: str | None = None) -> Outcome:
    """What `--limit` does."""
    small = recipe.model_copy(update={"prompts": recipe.prompts.model_copy(update={"limit": limit})})
    with Session() as session:
        return run_stages(small, Threads(small, session), session, only, as_preview=True)


def preview_in(outcome: Outcome) -> Published:
    assert outcome.release is not None
    return outcome.release.published


def files_of(store: Store) -> dict[str, str]:
    """The digests of all that is about versions."""
    folders = ("versions", "data", "decisions")
    names = [f"{folder}/{name}" for folder in folders for name in store.files.tree(folder)]
    return {name: store.file_digest(name) for name in names if not name.startswith("decisions/.")}


def standing(published: Published) -> tuple[str, bool, str, str | None]:
    return published.version, published.new, published.state, published.latest


@pytest.mark.parametrize("place", ["folder", "object storage", "s3"], indirect=True)
def test_f30_a_limited_run_leaves_latest_and_the_versions_alone(
    echo_recipe: Build, place: dict[str, str], asked: Counter[str], tally: Tally
) -> None:
    recipe = echo_recipe(12, **place)
    store = open_store(recipe)
    run(recipe)
    before, latest = files_of(store), versions.latest_name(store)
    asked.clear()
    for limit in (5, 2):
        made = preview_in(limited(recipe, limit))
        assert (made.version, made.state, made.latest, made.folder) == (
            "preview",
            "preview",
            latest,
            store.url("preview"),
        )
        found = preview_of(store)
        assert found is not None
        assert found.pairs == made.pairs <= limit
        assert len(list(rows_of(data_files(store, found)))) == made.pairs
        there = set(store.files.tree("preview"))
        assert there == {*found.files, "README.md", "report.html", "recipe.yaml", "version.json"}, "replaced whole"
        assert (files_of(store), versions.latest_name(store)) == (before, latest)
    assert run(recipe)[0].new is False
    assert not asked
    tally(2)


def test_f30_a_limited_run_where_nothing_is_published_yet(
    echo_recipe: Build, place: dict[str, str], asked: Counter[str], tally: Tally
) -> None:
    recipe = echo_recipe(8, gates={"min_pairs": 8}, pairing={"strategy": "best-vs-worst"}, **place)
    store = open_store(recipe)
    assert preview_in(limited(recipe, 3)).latest is None
    assert versions.latest_name(store) is None
    assert versions.history(store).names == ()
    paid = Counter(asked)
    assert paid["echo-brief"] == 3
    whole = run(recipe.model_copy(update={"gates": type(recipe.gates)()}))[0]
    assert standing(whole) == ("v0001", True, "released", "v0001")
    assert asked["echo-brief"] == 8, "what the limited run asked is known"
    tally(1, 0, asked["echo-brief"] - 8)


def test_f30_pairs_alone_make_a_preview_too(echo_recipe: Build, asked: Counter[str], tally: Tally) -> None:
    recipe = echo_recipe(8)
    run(recipe)
    asked.clear()
    assert preview_in(limited(recipe, 8, "pair")).state == "preview"
    assert not asked
    tally()


def test_f30_a_preview_that_is_cut_short_shows_the_one_before_or_none(
    echo_recipe: Build, place: dict[str, str], monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    recipe = echo_recipe(8, **place)
    store = open_store(recipe)
    first = preview_in(limited(recipe, 6))
    last = "write_json" if place else "install"
    with monkeypatch.context() as patched:
        patched.setattr(Store, last, broken_at("preview", getattr(Store, last)))
        with pytest.raises(OSError, match="cut"):
            limited(recipe, 3)
    found = preview_of(store)
    assert found is None or (place and found.digest == first.digest)
    if found:
        assert len(list(rows_of(data_files(store, found)))) == first.pairs
    assert preview_in(limited(recipe, 3)).digest == preview_in(limited(recipe, 3)).digest != first.digest
    tally()


def broken_at(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    """A method of `Store` that fails where it is about a name."""

    def method(self: Store, *words: Any) -> Any:
        if any(str(word) == name or str(word).startswith(f"{name}/") for word in words):
            raise OSError("cut")
        return real(self, *words)

    return method


def test_f30_forgetting_and_pruning_know_the_preview(echo_recipe: Build, place: dict[str, str], tally: Tally) -> None:
    recipe = echo_recipe(8, **place)
    store, book = open_store(recipe), Ledger(recipe.ledger_url)
    run(recipe)
    limited(recipe, 4)
    assert prune_versions(store, 1) == []
    found = preview_of(store)
    assert found is not None
    row = next(rows_of(data_files(store, found)))
    counted = forget(store, book, Choice(prompts=(row["prompt_id"],)))
    assert counted.versions["preview"] == 1
    assert preview_of(store) is not None
    forget(store, book, Choice(prompts=(row["prompt_id"],)), yes=True)
    assert preview_of(store) is None
    assert store.files.tree("preview") == {}
    tally()


def test_f30_a_limited_run_frees_no_reply_of_a_run_that_did_not_end(
    echo_recipe: Build, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    recipe = echo_recipe(8, shard_size=4)
    with monkeypatch.context() as patched:
        patched.setattr(Uses, "note", broken_rating(Uses.note))
        with pytest.raises(RunError):
            build(recipe)
    limited(recipe, 2)
    book = Ledger(recipe.ledger_url)
    assert prune(book, [recipe.workspace]).unknown, "the run that died has still to be ended"
    run(recipe)
    assert prune(book, [recipe.workspace]).unknown == []
    tally()


def broken_rating(real: Callable[..., Any]) -> Callable[..., Any]:
    def note(self: Uses, table: Table, *words: Any) -> Any:
        if table.part.startswith("ratings"):
            raise OSError("killed")
        return real(self, table, *words)

    return note


def test_f30_a_limited_run_does_not_speak_for_tables_of_which_no_use_is_noted(echo_recipe: Build, tally: Tally) -> None:
    recipe = echo_recipe(8)
    run(recipe)
    book = Ledger(recipe.ledger_url)
    book.uses.forget(place_of(open_store(recipe)))  # as where they were made before uses were noted
    limited(recipe, 2)
    assert "has not run to its end since uses are noted" in "".join(prune(book, [recipe.workspace]).unknown)
    run(recipe)
    assert prune(book, [recipe.workspace]).unknown == []
    tally()


def test_f30_after_a_preview_alone_it_is_known_what_is_in_use(echo_recipe: Build, tally: Tally) -> None:
    recipe = echo_recipe(8)
    limited(recipe, 4)
    found = prune(Ledger(recipe.ledger_url), [recipe.workspace])
    assert (list(found.unused), list(found.unknown)) == ([], [])
    tally()


def test_f30_a_version_with_many_fewer_pairs_waits_until_a_person_releases_it(
    echo_recipe: Build, place: dict[str, str], tally: Tally
) -> None:
    store = open_store(echo_recipe(1, **place))
    first = run(echo_recipe(10, **place))[0]
    assert standing(run(echo_recipe(9, **place))[0]) == ("v0002", True, "released", "v0002"), "a tenth may go"
    for again in (True, False, False):
        held = run(echo_recipe(4, **place))[0]
        assert standing(held) == ("v0003", again, "candidate", "v0002")
        (reason,) = held.reasons
        assert reason.startswith(f"{held.pairs} pairs, ")
        assert "fewer than the" in reason
        assert "publishing.max_shrink" in reason
        assert held.failure is None
    assert first.pairs > held.pairs
    assert waiting_text(store.url("")) == f"v0003 waits for a decision: {reason}"
    assert versions_of(store)[-1]["reason"] == reason
    found = versions.version_at(store, "v0003")
    assert found is not None
    assert b"was not released by itself" in store.files.read(found.place("README.md"))
    versions.release(store, None, **WHO)
    assert standing(run(echo_recipe(4, **place))[0]) == ("v0003", False, "released", "v0003")
    tally(4)


@pytest.mark.parametrize("publishing", [{"max_shrink": None}, {"max_shrink": 0.9}])
def test_f30_the_bound_is_the_recipes(echo_recipe: Build, publishing: dict[str, Any], tally: Tally) -> None:
    run(echo_recipe(10))
    assert standing(run(echo_recipe(4, publishing=publishing))[0]) == ("v0002", True, "released", "v0002")
    tally()


def test_f30_after_a_rollback_the_released_version_is_what_counts(echo_recipe: Build, tally: Tally) -> None:
    run(echo_recipe(4))
    run(echo_recipe(12))
    store = open_store(echo_recipe(12))
    versions.rollback(store, "v0001", **WHO)
    assert standing(run(echo_recipe(12))[0]) == ("v0002", False, "withdrawn", "v0001")
    assert standing(run(echo_recipe(5))[0]) == ("v0003", True, "released", "v0003")
    tally()


def test_f30_a_dead_member_holds_the_first_version_back_until_it_is_mended(
    base_recipe: Build, endpoint: FakeEndpoint, place: dict[str, str], tally: Tally
) -> None:
    outage = Outage()
    with FakeEndpoint(weather=outage) as dead:
        recipe = with_dead(base_recipe, endpoint, dead.url, count=10).model_copy(update=place)
        store = open_store(recipe)
        reasons = []
        for is_new in (True, False):
            held = run(recipe)[0]
            assert standing(held) == ("v0001", is_new, "candidate", None)
            assert held.failure is not None
            assert held.failure.startswith("v0001 is not released: member d at 127.0.0.1:")
            assert "more than 50% of its calls (publishing.max_failed_rate)" in held.failure
            assert held.reasons == held.failing
            reasons += held.reasons  # how calls failed differs between two runs; the version keeps the first's
        assert waiting_text(store.url("")) == f"v0001 waits for a decision: {reasons[0]}"
        outage.over.set()
        mended = run(recipe)[0]
        assert standing(mended) == ("v0002", True, "released", "v0002")
        assert mended.failure is None
        assert versions.history(store).state("v0001") == "superseded"
    tally(2)


def test_f30_where_the_mended_run_has_the_same_pairs_it_is_released(
    base_recipe: Build, endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    recipe = base_recipe(endpoint, 6, members=2)
    with monkeypatch.context() as patched:
        patched.setattr(publishing, "failing", lambda *_: ("member z failed",))
        assert standing(run(recipe)[0]) == ("v0001", True, "candidate", None)
    assert standing(run(recipe)[0]) == ("v0001", True, "released", "v0001")
    (row,) = versions_of(open_store(recipe))
    assert (row["by"], row["reason"]) == ("pairsmith", "what it waited for is no more")
    tally()


def test_f30_what_a_person_released_all_the_same_fails_no_run(
    base_recipe: Build, endpoint: FakeEndpoint, tally: Tally
) -> None:
    with FakeEndpoint(weather=Outage()) as dead:
        recipe = with_dead(base_recipe, endpoint, dead.url, count=6)
        run(recipe)
        versions.release(open_store(recipe), None, **WHO)
        again = run(recipe)[0]
        assert (standing(again), again.failure) == (("v0001", False, "released", "v0001"), None)
    tally()


@dataclass(frozen=True)
class Dying(Weather):
    """An endpoint that answers some calls with nothing that a judge may say, or not at all, after others."""

    endpoint: list[FakeEndpoint] = field(default_factory=list)
    fate: Fault = KINDS["500"]

    def fault(self, mark: str, elapsed: float) -> Fault | None:
        return self.fate if len(self.endpoint[0].journal) > 6 else None


UNREADABLE = Fault(
    200, '{"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "So so."}}]}'
)


@pytest.mark.parametrize("fate", [KINDS["500"], UNREADABLE], ids=["dead", "unreadable"])
@pytest.mark.parametrize(("rate", "state"), [(0.5, "candidate"), (1.0, "released")])
def test_f30_a_judge_that_fails_mostly_holds_a_version_back(
    base_recipe: Build, endpoint: FakeEndpoint, rate: float, state: str, fate: Fault, tally: Tally
) -> None:
    weather = Dying(fate=fate)
    with FakeEndpoint(weather=weather) as dying:
        weather.endpoint.append(dying)
        model = {"backend": "openai", "endpoint": {"base_url": dying.url, "api_key_env": None, **LIMITS}}
        rating = {"aspects": ["overall"], "judges": [{"name": "judge", "model": "judge", **model}]}
        made = run(base_recipe(endpoint, 20, members=4, rating=rating, publishing={"max_failed_rate": rate}))[0]
        assert made.state == state
        assert bool(made.failure and "judge at 127.0.0.1:" in made.failure) == (state == "candidate")
    tally()


def test_f30_an_evolver_that_is_dead_holds_a_version_back(
    base_recipe: Build, endpoint: FakeEndpoint, tally: Tally
) -> None:
    with FakeEndpoint(weather=Outage()) as dead:
        model = {"backend": "openai", "endpoint": {"base_url": dead.url, "api_key_env": None, **LIMITS}}
        evolution = {"evolver": {"name": "evolver", "model": "evolver", **model}}
        made = run(base_recipe(endpoint, 6, members=2, evolution=evolution))[0]
        assert made.state == "candidate"
        assert made.failure is not None
        assert "evolver at 127.0.0.1:" in made.failure
    tally()


def test_f30_answers_that_came_and_are_not_used_are_no_failed_calls(echo_recipe: Build, tally: Tally) -> None:
    members = [
        {"name": "long", "backend": "echo", "model": "echo-long"},
        {"name": "mid", "backend": "echo", "model": "echo-mid"},
        {"name": "cut", "backend": "echo", "model": "echo-cut", "sampling": {"max_tokens": 3}},
    ]
    made, summary, _ = run(echo_recipe(6, pool={"members": members}, evolution=None))
    assert summary.completion_reasons["truncated"] >= 6
    assert (made.state, made.failing) == ("released", ())
    tally()


def test_f30_a_limited_run_with_a_dead_member_fails_too(
    base_recipe: Build, endpoint: FakeEndpoint, tally: Tally
) -> None:
    with FakeEndpoint(weather=Outage()) as dead:
        made = preview_in(limited(with_dead(base_recipe, endpoint, dead.url, count=6), 4))
        assert made.failure is not None
        assert made.failure.startswith("the preview is of little use: member d at 127.0.0.1:")
    tally()


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("approval", ["none", "required"])
def test_f30_the_flow_run_fails_with_the_sentence_and_asks_nobody(
    base_recipe: Build, endpoint: FakeEndpoint, approval: str, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    from pairsmith_flows import approval as asking
    from pairsmith_flows.preferences import build_preference_dataset
    from tests.flows.test_preferences import read

    def ask(*_: Any) -> None:
        raise AssertionError("a run that failed asks nobody")

    dropped: list[str] = []
    monkeypatch.setattr(asking, "ask_person", ask)
    monkeypatch.setattr(asking, "drop_questions", lambda _, but: dropped.append(but))
    with FakeEndpoint(weather=Outage()) as dead:
        recipe = with_dead(base_recipe, endpoint, dead.url, count=6)
        name = f"failed-{approval}"
        publishing = recipe.publishing.model_copy(update={"approval": approval})
        recipe = recipe.model_copy(update={"name": name, "publishing": publishing})
        with pytest.raises(ManyFailed, match="v0001 is not released: member d at .* failed 6 of 6 times") as failed:
            build_preference_dataset(recipe)
    assert failed.value.result["state"] == "candidate"
    assert failed.value.result["funnel"]
    assert dropped == ["v0001"]
    (ended,) = [one for one in read("read_flow_runs") if one.name.startswith(name)]
    assert ended.state.is_failed()
    assert str(failed.value) in ended.state.message
    tally()


def test_f30_a_preview_is_neither_pushed_nor_announced(
    echo_recipe: Build, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    from pairsmith_flows import preferences

    def never(*_: Any) -> None:
        raise AssertionError("a preview stays here")

    recipe = echo_recipe(4, publishing={"hub": {"repo_id": "me/pairs"}})
    monkeypatch.setattr(preferences, "push_dataset", never)
    monkeypatch.setattr(preferences.approval, "announce", never)
    monkeypatch.setattr(preferences, "get_run_logger", lambda: logging.getLogger("tests.told"))
    outcome = limited(recipe, 2)
    assert isinstance(outcome.release, Release)
    assert preferences.announced(recipe, outcome.release)["version"] == "preview"
    with pytest.raises(AssertionError, match="stays here"):
        preferences.announced(recipe, replace(outcome.release, published=run(recipe)[0]))
    tally()


@pytest.mark.prefect
def test_f30_the_command_line_says_where_the_preview_is_and_why_a_version_waits(
    tmp_path: Path, prefect_api: dict[str, str], tally: Tally
) -> None:
    def typed(*words: str) -> tuple[int, list[str]]:
        told = cli(*words, cwd=tmp_path, **prefect_api)
        return told.returncode, told.stdout.splitlines()

    code, lines = typed("run", RECIPE, "--limit", "2")
    assert code == 0, lines
    assert any(line.endswith("pairsmith-data/echo/preview") for line in lines)
    assert "no version; there is no latest yet" in lines[-1]
    assert typed("run", RECIPE)[0] == 0
    code, lines = typed("run", RECIPE, "--limit", "2")
    assert (code, "no version; latest stays v0001" in lines[-1]) == (0, True)
    for words in (("--limit", "2", "--publish"), ("--set", "prompts.limit=2")):
        code, lines = typed("run", RECIPE, *words)
        assert code == 0
        assert lines[-1].startswith("   state: it waits: 2 pairs, ")
        assert ("latest stays v0001" in lines[-1], lines[-2].startswith(" release: `pairsmith release")) == (True, True)
    for words in (("versions", "echo"), ("show", "echo"), ("status",)):
        code, lines = typed(*words)
        assert (code, "v0002 waits for a decision: 2 pairs, " in lines[-1]) == (0, True), words
    assert typed("show", "echo/preview", "-n", "1")[0] == 0
    assert typed("release", "echo", "--reason", "fewer are fine")[0] == 0
    code, lines = typed("preview", RECIPE, "-n", "3")
    assert (code, lines[-1]) == (0, "3 pairs of 3 prompts. No version was made.")
    tally(6)

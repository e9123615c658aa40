"""What becomes of versions: released, waiting, rejected, superseded, withdrawn; and where `latest` leads."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pairsmith.config import Recipe
from pairsmith.errors import DataError, RunError
from pairsmith.publishing.publish import Published
from pairsmith.session import process_session
from pairsmith.stages.base import open_store
from pairsmith.storage import versions
from pairsmith.storage.decisions import deciding
from pairsmith.storage.store import Store
from pairsmith.storage.versions import State
from tests.command_line import cli
from tests.runs import run

Build = Callable[..., Recipe]
Publish = Callable[..., Published]
WHO = {"by": "ann", "reason": "looked at it"}


@pytest.fixture
def publish(echo_recipe: Build, place: dict[str, str]) -> Publish:
    """Publishes a data set of so many prompts, that needs approval unless said otherwise."""

    def made(count: int, approval: str = "required") -> Published:
        return run(echo_recipe(count, publishing={"approval": approval}, **place))[0]

    return made


@pytest.fixture
def store(echo_recipe: Build, place: dict[str, str]) -> Store:
    return open_store(echo_recipe(1, **place))


def standing(published: Published) -> tuple[str, bool, str, str | None]:
    return published.version, published.new, published.state, published.latest


def states(store: Store) -> dict[str, str]:
    past = versions.history(store)
    return {name: str(past.state(name)) for name in past.names}


def test_a_version_that_needs_approval_waits_and_latest_moves_when_it_is_released(
    publish: Publish, store: Store
) -> None:
    assert standing(publish(4)) == ("v0001", True, "candidate", None)
    assert standing(publish(4)) == ("v0001", False, "candidate", None)
    assert (found := versions.waiting(store)) is not None
    assert (found.name, versions.latest_name(store)) == ("v0001", None)
    decision = versions.release(store, None, **WHO)
    assert (decision.version, decision.verdict, decision.by, decision.reason) == ("v0001", "released", *WHO.values())
    assert versions.release(store, "v0001", by="bob", reason="again") == decision
    assert versions.waiting(store) is None
    assert standing(publish(4)) == ("v0001", False, "released", "v0001")
    assert standing(publish(5)) == ("v0002", True, "candidate", "v0001")


def test_what_was_rejected_is_not_published_again_and_latest_stays(publish: Publish, store: Store) -> None:
    publish(4, approval="none")
    publish(5)
    decision = versions.reject(store, None, **WHO)
    assert versions.reject(store, "v0002", by="bob", reason="again") == decision
    for approval in ("required", "none"):
        assert standing(publish(5, approval)) == ("v0002", False, "rejected", "v0001")
    assert standing(publish(6, "none")) == ("v0003", True, "released", "v0003")
    assert standing(publish(5)) == ("v0002", False, "rejected", "v0003")


def test_a_newer_candidate_supersedes_the_one_that_waits(publish: Publish, store: Store) -> None:
    publish(4)
    publish(5)
    assert states(store) == {"v0001": "superseded", "v0002": "candidate"}
    found = versions.version_at(store, "v0002")
    assert found
    assert found.about["supersedes"] == ["v0001"]
    with pytest.raises(RunError, match="v0001 cannot be released: v0002 is newer and candidate"):
        versions.release(store, "v0001", **WHO)
    with pytest.raises(RunError, match="v0001 cannot be rejected: it is superseded"):
        versions.reject(store, "v0001", **WHO)
    versions.reject(store, "v0002", **WHO)
    versions.release(store, "v0001", **WHO)
    assert (states(store), versions.latest_name(store)) == ({"v0001": "released", "v0002": "rejected"}, "v0001")


def test_a_candidate_is_released_by_a_recipe_that_asks_for_no_approval(publish: Publish, store: Store) -> None:
    publish(4)
    assert standing(publish(4, "none")) == ("v0001", True, "released", "v0001")
    (decision,) = versions.history(store).decisions
    assert (decision.by, decision.reason) == ("pairsmith", "the recipe asks for no approval")


def test_what_was_rolled_back_from_does_not_come_back_by_itself(publish: Publish, store: Store) -> None:
    publish(4, "none")
    publish(5, "none")
    decision = versions.rollback(store, "v0001", **WHO)
    assert versions.rollback(store, "v0001", **WHO) == decision
    assert (decision.before, decision.newest, decision.reason) == ("v0002", "v0002", "looked at it")
    for _ in range(2):
        assert standing(publish(5, "none")) == ("v0002", False, "withdrawn", "v0001")
    assert standing(publish(4, "none")) == ("v0001", False, "released", "v0001")
    assert standing(publish(6, "none")) == ("v0003", True, "released", "v0003")
    assert standing(publish(5, "none")) == ("v0002", False, "withdrawn", "v0003")
    versions.rollback(store, "v0002", **WHO)
    assert standing(publish(5, "none")) == ("v0002", False, "released", "v0002")
    assert states(store) == {"v0001": "released", "v0002": "released", "v0003": "withdrawn"}
    versions.release(store, "v0003", **WHO)
    assert standing(publish(6, "none")) == ("v0003", False, "released", "v0003")


def test_decisions_that_cannot_be_are_refused_with_what_could(publish: Publish, store: Store) -> None:
    publish(4, "none")
    publish(5)
    for decide in (versions.release, versions.reject, versions.rollback):
        with pytest.raises(RunError, match=r"no version v9; there are v0001, v0002"):
            decide(store, "v9", **WHO)
    with pytest.raises(RunError, match="v0001 is released already"):
        versions.release(store, "v0001", **WHO)
    with pytest.raises(RunError, match="v0001 cannot be rejected: it is released; `rollback`"):
        versions.reject(store, "v0001", **WHO)
    with pytest.raises(RunError, match="v0001 is `latest` already"):
        versions.rollback(store, "v0001", **WHO)
    with pytest.raises(RunError, match="v0002 was never released: it is candidate"):
        versions.rollback(store, "v0002", **WHO)
    found = versions.version_at(store, "v0002")
    assert found
    for name in found.files:
        store.write_bytes(found.place(name), b"PAR1")
    with pytest.raises(RunError, match="v0002: damaged"):
        versions.release(store, None, **WHO)
    assert not versions.history(store).decisions
    versions.reject(publish_and_store(publish, store, 6), None, **WHO)
    with pytest.raises(RunError, match="no version waits for a decision"):
        versions.release(store, None, **WHO)


def publish_and_store(publish: Publish, store: Store, count: int) -> Store:
    publish(count)
    return store


@pytest.mark.parametrize("decide", ["release", "rollback"])
def test_a_crash_between_a_decision_and_the_move_is_made_up_for(
    publish: Publish, store: Store, monkeypatch: pytest.MonkeyPatch, decide: str
) -> None:
    publish(4, "none")
    publish(5, "required" if decide == "release" else "none")
    before = versions.latest_name(store)
    target = "v0002" if decide == "release" else "v0001"

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "point", die)
    with pytest.raises(KeyboardInterrupt):
        getattr(versions, decide)(store, target, **WHO)
    monkeypatch.undo()
    assert versions.latest_name(store) == before
    assert getattr(versions, decide)(store, target, **WHO) == versions.history(store).decisions[0]
    assert (versions.latest_name(store), len(versions.history(store).decisions)) == (target, 1)
    assert store.point("latest", f"versions/{before}", f"versions/{target}")
    again = publish(5)
    assert (again.latest, again.new) == (target, False)


def test_a_crash_between_install_and_the_move_is_not_taken_for_a_rollback(
    publish: Publish, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(4, "none")
    publish(5, "none")
    versions.rollback(store, "v0001", **WHO)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "point", die)
    with pytest.raises(KeyboardInterrupt):
        publish(6, "none")
    monkeypatch.undo()
    assert versions.latest_name(store) == "v0001"
    assert standing(publish(6, "none")) == ("v0003", True, "released", "v0003")


def test_a_decision_that_cannot_be_read_stops_everything_that_depends_on_it(publish: Publish, store: Store) -> None:
    publish(4)
    versions.reject(store, None, **WHO)
    (file,) = [name for name in store.names_in("decisions") if name.endswith(".json")]
    store.write_bytes(f"decisions/{file}", b"{")
    with pytest.raises(DataError, match=f"{file}: not a decision"):
        publish(4)


def test_a_number_is_never_given_twice(publish: Publish, store: Store) -> None:
    publish(4)
    publish(5)
    versions.reject(store, None, **WHO)
    is_commit = store.exists("versions/v0002.json")
    fs, place = fsspec.core.url_to_fs(store.url("versions/v0002.json" if is_commit else "versions/v0002"))
    fs.rm(place, recursive=True)
    assert publish(6).version == "v0003"


def test_versions_of_before_approvals_count_as_released(echo_recipe: Build) -> None:
    recipe = echo_recipe(4)
    run(recipe)
    store = open_store(recipe)
    about = store.read_json("versions/v0001/version.json")
    for name in ("approval", "made_at", "supersedes"):
        del about[name]
    store.write_json("versions/v0001/version.json", about)
    assert versions.history(store).state("v0001") is State.RELEASED
    again = run(echo_recipe(4, publishing={"approval": "required"}))[0]
    assert standing(again) == ("v0001", False, "released", "v0001")


def test_the_hub_gets_what_latest_leads_to(echo_recipe: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from pairsmith.stages.publish import push

    pushed: list[str] = []

    class Api:
        endpoint = "https://hub"

        def __init__(self, token: str) -> None: ...

        def create_repo(self, *_: Any, **__: Any) -> None: ...

        def dataset_info(self, _: str) -> Any:
            return SimpleNamespace(private=True)

        def upload_folder(self, folder_path: str, **_: Any) -> None:
            pushed.append(Path(folder_path).name)

    monkeypatch.setenv("HF_TOKEN", "canary")
    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    plan = {"approval": "required", "hub": {"repo_id": "me/pairs"}}
    recipe = echo_recipe(4, publishing=plan)
    assert push(recipe, run(recipe)[0], process_session()) is None
    versions.release(open_store(recipe), None, **WHO)
    push(recipe, run(recipe)[0], process_session())
    more = echo_recipe(5, publishing=plan)
    assert push(more, run(more)[0], process_session()) is None
    assert pushed == ["v0001"]


def test_the_command_line_decides_in_the_name_of_the_user(echo_recipe: Build, tmp_path: Path) -> None:
    run(echo_recipe(4, publishing={"approval": "required"}))
    folder = str(tmp_path / "data" / "echo")
    assert cli("release", folder).returncode == 2
    told = cli("release", folder, "--reason", "good", LOGNAME="ann")
    assert told.returncode == 0, told.stderr
    assert "v0001: released by ann" in told.stdout
    assert "latest: v0001" in told.stdout
    run(echo_recipe(5, publishing={"approval": "required"}))
    assert "v0002: rejected" in cli("reject", folder, "v0002", "--reason", "bad").stdout
    failed = cli("reject", folder, "--reason", "bad")
    assert (failed.returncode, "no version waits" in failed.stderr) == (1, True)
    assert "v0001 is `latest`" in cli("rollback", folder, "v0001", "--reason", "bad").stderr
    assert cli("release", str(tmp_path), "--reason", "good").returncode == 3


def test_a_decision_waits_while_a_version_is_published(echo_recipe: Build) -> None:
    recipe = echo_recipe(4, publishing={"approval": "required"})
    run(recipe)
    store = open_store(recipe)
    with store.lock():  # a run that works on the data set does not stand in the way
        versions.release(store, None, **WHO)
    with deciding(store), pytest.raises(RunError, match="its versions are being published or decided about"):
        versions.rollback(store, "v0001", **WHO, wait=0)
    shutil.rmtree(store.root)

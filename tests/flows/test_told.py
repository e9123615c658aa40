"""What a run tells in lines: which task is done, what the verdict is, and by which name it goes."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from rich.console import Console

from pairsmith.config import Recipe
from pairsmith.errors import WrongFields
from pairsmith.progress import Progress
from pairsmith.session import Session
from pairsmith.stages.base import StageResult, open_store
from pairsmith.storage import versions
from pairsmith_tasks.sessions import run_session
from tests.runs import run

Build = Callable[..., Recipe]


@pytest.mark.prefect
@pytest.mark.parametrize(
    ("result", "line"),
    [
        (StageResult("generate", "x", "smollm", 256, failed=2), "generate shard 3 by smollm: 256 rows, 2 failed"),
        (StageResult("rate", "x", "judge", 1024), "rate shard 3 by judge: 1,024 rows"),
        (StageResult("pair", "x", "all", 12), "pair shard 3: 12 rows"),
        (
            StageResult("rate", "x", "j", 9, failed=5, refused=2),
            "rate shard 3 by j: 9 rows, 5 failed, 2 of them refused",
        ),
        (
            StageResult("generate", "x", "m", 0, awaited=True),
            "generate shard 3 by m: waits for the answers to its batches",
        ),
    ],
)
def test_a_line_says_which_task_is_done_and_with_how_many_rows(result: StageResult, line: str) -> None:
    from pairsmith_flows.task_runs import told

    assert told(f"{result.stage} shard 3", result) == line


class Future:
    """As Prefect's: its state is what the server knows, which is written in batches."""

    def __init__(self, returned: dict[str, Any]) -> None:
        self.task_run_id, self._returned = uuid4(), returned

    @property
    def state(self) -> SimpleNamespace:
        raise AssertionError("the server is asked, who may not know it yet")

    def result(self, raise_on_failure: bool = True) -> dict[str, Any]:
        return self._returned


@pytest.mark.prefect
def test_a_task_that_is_done_is_told_also_where_the_server_does_not_know_it_yet(echo_recipe: Build) -> None:
    from pairsmith_flows.task_runs import TaskRuns

    said: list[str] = []
    log = SimpleNamespace(info=lambda form, *words: said.append(form % words))
    future: Any = Future(asdict(StageResult("rate", "x", "judge", 4)))
    TaskRuns(echo_recipe(2), Session())._say(log, "rate shard 3", future)
    assert said == ["rate shard 3 by judge: 4 rows"]


@pytest.mark.prefect
def test_the_progress_of_a_task_of_another_process_is_told_once(echo_recipe: Build) -> None:
    from pairsmith_flows.task_runs import TaskRuns
    from pairsmith_tasks.working import worked

    def work(session: Session) -> StageResult:
        for tokens in (3, 4):
            session.tell(Progress("rate", 2.0, tokens=tokens, replies=1))
        return StageResult("rate", "x", "judge", 4, calls=2)

    future: Any = Future(worked(work))  # no run is under way here
    heard: list[Progress] = []
    with Session() as session, session.listening(heard.append), run_session() as run:
        tasks, done = TaskRuns(echo_recipe(2), session), list[StageResult]()
        tasks._say(SimpleNamespace(info=print), "rate shard 1", future)
        tasks._finish([future], done, [])
        assert "told" not in worked(work)  # of the run's own process: its session hears of it at once
    assert run is not session
    assert heard == [Progress("rate", 4.0, tokens=7, replies=2)]
    assert done == [StageResult("rate", "x", "judge", 4, calls=2)]


@pytest.mark.prefect
def test_a_run_with_a_wrong_recipe_fails_with_the_words_of_the_command_line(echo_recipe: Build) -> None:
    """As a deployment's run gets it: Prefect validates the parameters, and what comes of that is the run's state."""
    from pairsmith_flows import preferences, refresh

    recipe = echo_recipe(2).model_dump(mode="json")
    recipe["pairing"]["min_margin"] = "big"
    whole = (preferences.build_preference_dataset, preferences.rate_preference_dataset)
    for one in (*whole, preferences.pair_preference_dataset, refresh.refresh_preference_dataset):
        with pytest.raises(WrongFields) as caught:
            one.validate_parameters({"recipe": recipe})
        assert str(caught.value) == "recipe:\n  pairing.min_margin: must be a number (given: 'big')"


@pytest.mark.prefect
def test_a_run_of_a_deployment_keeps_its_name_and_one_of_the_command_line_is_named_by_its_data_set(
    monkeypatch: pytest.MonkeyPatch, echo_recipe: Build
) -> None:
    from pairsmith_flows import preferences

    this = SimpleNamespace(name="a name that a person typed", parameters={"recipe": echo_recipe(2, name="named")})
    monkeypatch.setattr(preferences, "flow_run", this)
    monkeypatch.setattr(preferences, "deployment", SimpleNamespace(id="d"))
    assert preferences.run_name() == "a name that a person typed"
    monkeypatch.setattr(preferences, "deployment", SimpleNamespace(id=None))
    assert preferences.run_name().startswith("named 20")


def test_the_verdict_stands_in_the_terminal_a_line_for_each_finding_as_in_the_version_and_the_card(
    echo_recipe: Build,
) -> None:
    from pairsmith_flows.cli.result import show_verdict

    recipe = echo_recipe(12, name="judged")
    name = run(recipe)[0].version
    version = versions.version_at(open_store(recipe), name)
    assert version is not None
    lines = version.about["verdict"]
    assert "There is one judge, so nobody knows how far its ratings can be trusted." in lines
    show_verdict(Console(file=(out := io.StringIO()), width=80, highlight=False, markup=False), recipe, name)
    assert out.getvalue().splitlines() == lines
    card = open_store(recipe).files.read(version.place("README.md")).decode()
    assert "- There is one judge, so nobody knows" in card[card.index("## Verdict") : card.index("## Funnel")]
    assert run(recipe)[0].new is False  # the same content makes no version for its verdict

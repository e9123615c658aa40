"""F5: two runs at once on one data set: one does the work, the other says who holds it and changes nothing.

That holds on one machine, by the store's lock, and among machines that share a PostgreSQL ledger, by the ledger's. Two
runs at once on two data sets that share a ledger both end right: no reply is lost, none recorded twice, and what a run
goes on with is what the ledger keeps.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from pairsmith.config import Recipe, Sampling
from pairsmith.ledger.ledger import Ledger
from pairsmith.llms.recorded import Recorded
from pairsmith.protocol import LLM, Finished, Identity, Reply, Request
from pairsmith.testing import FakeEndpoint
from tests.faults.harness import Child, complete, ended, expected, repeated, wait_for, wait_for_calls
from tests.runs import generate

Build = Callable[..., Recipe]
Tally = Callable[..., None]
COUNT = 40


def test_f5_a_second_run_says_who_holds_the_data_set(
    base_recipe: Build, ledger_url: str, slow: FakeEndpoint, tmp_path: Path, tally: Tally
) -> None:
    digest = expected(base_recipe, tmp_path, COUNT)
    recipe = base_recipe(slow, COUNT, ledger=ledger_url)
    with Child(recipe) as first:
        wait_for_calls(slow, first, 20)
        second = ended(recipe)
        outcome = first.outcome()
    assert second.error.startswith("RunError")
    assert f"process {first.pid} " in second.error
    tally(1, outcome.lost, repeated(slow))
    assert (outcome.digest, outcome.lost, repeated(slow)) == (digest, 0, 0)
    assert complete(recipe).calls == 0


@pytest.mark.postgres
@pytest.mark.parametrize("new_ledger", ["postgres"], indirect=True)
def test_f5_a_second_run_on_another_machine_says_who_holds_the_data_set(
    base_recipe: Build, ledger_url: str, slow: FakeEndpoint, tmp_path: Path, tally: Tally
) -> None:
    digest = expected(base_recipe, tmp_path, COUNT)
    recipe = base_recipe(slow, COUNT, ledger=ledger_url)
    with Child(recipe) as first:
        wait_for_calls(slow, first, 20)
        second = ended(recipe, locks=("ledger",))
        outcome = first.outcome()
    tally(1, outcome.lost, repeated(slow))
    assert (outcome.digest, outcome.lost, repeated(slow)) == (digest, 0, 0)
    assert second.error.startswith("RunError")
    assert "another machine" in second.error
    assert socket.gethostname() in second.error
    assert str(first.pid) in second.error


def test_f5_the_lock_goes_with_the_process_that_held_it(
    base_recipe: Build, ledger_url: str, slow: FakeEndpoint
) -> None:
    recipe = base_recipe(slow, COUNT, ledger=ledger_url)
    with Child(recipe) as first:
        wait_for_calls(slow, first, 20)
        first.kill()
    wait_for(lambda: ended(recipe, locks=("ledger",)).code == 0, 20)  # the database server notices within moments
    assert complete(recipe).calls == 0


def test_f5_runs_that_start_together_do_the_work_once(
    base_recipe: Build, ledger_url: str, kills: int, slow: FakeEndpoint, tally: Tally
) -> None:
    for number in range(max(2, kills // 10)):
        recipe = base_recipe(slow, 12, members=2, name=f"together-{number}", ledger=ledger_url)
        with Child(recipe) as one, Child(recipe) as other:
            outcomes = [one.outcome(), other.outcome()]
        done = [outcome for outcome in outcomes if outcome.code == 0]
        assert done
        assert all("another run works on this data set" in outcome.error for outcome in outcomes if outcome.code)
        tally(1, done[0].lost, repeated(slow))
        assert (done[0].lost, repeated(slow)) == (0, 0)
        assert [folder.name for folder in Path(done[0].folder).parent.iterdir()] == ["v0001"]


@pytest.mark.parametrize("prompts", ["the same", "others"])
def test_f5_two_data_sets_at_once_share_a_ledger(
    base_recipe: Build, ledger_url: str, slow: FakeEndpoint, tmp_path: Path, tally: Tally, prompts: str
) -> None:
    digest = expected(base_recipe, tmp_path, COUNT)
    texts = [f"Question {n}?" if prompts == "the same" else f"Another question {n}?" for n in range(COUNT)]
    path = tmp_path / "others" / "prompts.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    one = base_recipe(slow, COUNT, name="one", ledger=ledger_url)
    other = base_recipe(slow, COUNT, name="other", ledger=ledger_url, prompts={"sources": [{"path": str(path)}]})
    with Child(one) as first, Child(other) as second:
        outcomes = [first.outcome(), second.outcome()]
    tally(1, sum(outcome.lost for outcome in outcomes), repeated(slow) if prompts == "others" else 0)
    assert [outcome.trace for outcome in outcomes] == ["", ""]
    assert [outcome.lost for outcome in outcomes] == [0, 0]
    assert outcomes[0].digest == digest
    assert (outcomes[1].digest == digest) == (prompts == "the same")
    assert Ledger(ledger_url).replies.count() == len(slow.asked)
    if prompts == "others":
        assert repeated(slow) == 0
    assert [complete(recipe).calls for recipe in (one, other)] == [0, 0]


class Saying:
    """A model that says one thing, and does something else first."""

    def __init__(self, text: str, before: Callable[[], object] = bool) -> None:
        self.identity = Identity("echo", "m")
        self._text, self._before = text, before

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        self._before()
        yield [(index, Reply(self._text, "stop")) for index in range(len(requests))]


def test_f5_of_two_answers_to_one_request_both_runs_use_the_one_that_is_kept(ledger_url: str) -> None:
    asked = [Request(({"role": "user", "content": "Question?"},), Sampling(), 0)]

    def recorded(llm: LLM) -> Recorded:
        return Recorded(llm, Ledger(ledger_url))

    faster = recorded(Saying("first"))
    (used,) = generate(recorded(Saying("second", lambda: generate(faster, asked))), asked)
    (kept,) = generate(recorded(Saying("third")), asked)
    assert used.text == kept.text == "first"

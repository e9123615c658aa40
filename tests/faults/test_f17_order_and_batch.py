"""F17: how prompts are laid out in shards, how many calls are under way, in which order prompts come and answers arrive
changes nothing: the data set is the same to the last row.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pairsmith.config import Recipe
from pairsmith.llms.echo import Echo
from pairsmith.protocol import Finished, Request
from pairsmith.testing import FakeEndpoint, Weather
from tests.faults.harness import complete
from tests.runs import run

Build = Callable[..., Recipe]
Tally = Callable[..., None]
COUNT = 20


def turned(recipe_of: Callable[..., Recipe], tmp_path: Path) -> dict[str, Any]:
    """The prompts of a recipe, the last one first, as a source of the same name."""
    (tmp_path / "turned").mkdir(exist_ok=True)
    path = tmp_path / "turned" / "prompts.jsonl"
    lines = [f'{{"prompt": "Question {n}?"}}' for n in reversed(range(COUNT))]
    path.write_text("\n".join(lines))
    return {"sources": [{"path": str(path)}]}


@pytest.mark.parametrize("order", ["as it is", "turned"])
@pytest.mark.parametrize("concurrency", [1, 50])
@pytest.mark.parametrize("size", [1, 7, 64])
def test_f17_shards_concurrency_and_order(
    base_recipe: Build, tmp_path: Path, tally: Tally, size: int, concurrency: int, order: str
) -> None:
    with FakeEndpoint() as endpoint:
        other = base_recipe(endpoint, COUNT, name="undisturbed", ledger=f"sqlite:///{tmp_path}/other.sqlite")
        expected = complete(other)
    with FakeEndpoint(weather=Weather(latency=0.01, spread=1)) as endpoint:
        changes: dict[str, Any] = {"shard_size": size, "concurrency": concurrency}
        changes |= {"prompts": turned(base_recipe, tmp_path)} if order == "turned" else {}
        outcome = complete(base_recipe(endpoint, COUNT, **changes))
    tally(1, outcome.lost, 0)
    assert (outcome.digest, outcome.loaded, outcome.lost) == (expected.digest, COUNT, 0)
    assert endpoint.busiest <= concurrency
    assert concurrency == 1 or size == 1 or endpoint.busiest > 1


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_f17_answers_that_arrive_in_any_order_and_any_groups(
    echo_recipe: Build, monkeypatch: pytest.MonkeyPatch, tally: Tally, batch: int
) -> None:
    rounds = {"rounds": 2}
    expected = run(echo_recipe(COUNT, name="expected", evolution=rounds))[0].digest
    rng = random.Random(batch)

    def shuffled(self: Echo, requests: Sequence[Request]) -> Iterator[Finished]:
        places = list(range(len(requests)))
        rng.shuffle(places)
        for start in range(0, len(places), batch):
            yield [(place, self.answer(requests[place])) for place in places[start : start + batch]]

    monkeypatch.setattr(Echo, "stream", shuffled)
    recipe = echo_recipe(COUNT, ledger=f"{echo_recipe(COUNT).ledger_url}.other", evolution=rounds)
    published, _, calls = run(recipe)
    assert calls.total() > COUNT
    assert published.digest == expected
    tally(1)

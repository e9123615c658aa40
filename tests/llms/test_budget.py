"""Budgets: nothing is asked that could exceed them, and what was spent is known after a restart."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairsmith.config import Budget, Price, Recipe, Sampling
from pairsmith.config.loading import parse_recipe
from pairsmith.errors import BudgetSpent, ConfigError
from pairsmith.ledger.ledger import open_ledger
from pairsmith.llms.budget import Budgeted
from pairsmith.llms.purse import Purse
from pairsmith.planning.dry_run import plan_run
from pairsmith.protocol import Finished, Identity, Reply, Request
from pairsmith.session import process_session
from tests.runs import generate, run

Build = Callable[..., Recipe]


class Costly:
    """Answers each request with as many tokens as its text says."""

    identity = Identity("echo", "costly")

    def __init__(self) -> None:
        self.spent = 0

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        for index, request in enumerate(requests):
            tokens = int(request.messages[0]["content"])
            self.spent += 1 + tokens
            yield [(index, Reply("x", "stop", n_prompt_tokens=1, n_tokens=tokens))]


def request(tokens: int, most: int = 50) -> Request:
    return Request(({"role": "user", "content": str(tokens)},), Sampling(max_tokens=most), tokens)


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(0, 800))
def test_a_budget_is_never_exceeded_and_used_as_far_as_it_can_be(tokens: list[int], most: int) -> None:
    llm, purse = Costly(), Purse(Budget(tokens=most), 0, 0.0)
    asked = [request(n) for n in tokens]
    try:
        replies = generate(Budgeted(llm, purse, None), asked)
    except BudgetSpent:
        assert purse.tokens + 50 + 16 + 2 > most  # the next one might not have fitted
    else:
        assert len(replies) == len(tokens)
    assert llm.spent == purse.tokens <= most


def test_streams_beside_each_other_do_not_overspend_together() -> None:
    llm, purse = Costly(), Purse(Budget(cost=3e-3), 0, 0.0)
    failures = []

    def ask(start: int) -> None:
        try:
            generate(Budgeted(llm, purse, Price(completion=1)), [request(49) for _ in range(start, start + 40)])
        except BudgetSpent as error:
            failures.append(error)

    threads = [threading.Thread(target=ask, args=(100 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failures) >= 3  # all together would cost 7.8e-3
    assert 2.8e-3 < purse.cost <= 3e-3


def test_an_endpoint_that_does_not_say_is_charged_the_most() -> None:
    class Silent(Costly):
        def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
            yield [(index, Reply("x", "stop")) for index in range(len(requests))]

    purse = Purse(Budget(tokens=10_000), 0, 0.0)
    generate(Budgeted(Silent(), purse, None), [request(1)])
    assert purse.tokens >= 50


def test_a_run_stops_within_its_budget_and_goes_on_when_it_is_raised(echo_recipe: Build, tmp_path: Path) -> None:
    expected, _, calls = run(echo_recipe(20, name="free", ledger=f"sqlite:///{tmp_path}/free.sqlite"))
    total = sum(open_ledger(f"sqlite:///{tmp_path}/free.sqlite", process_session()).spending.spent("free")[:1])
    small = {"max_tokens": 60}
    members = [{"name": n, "backend": "echo", "model": f"echo-{n}", "sampling": small} for n in ("brief", "long")]
    tight = echo_recipe(20, name="tight", budget={"tokens": total // 3}, pool={"members": members})
    with pytest.raises(
        BudgetSpent, match=r"the budget is spent: .* of .* tokens.* next request may take up to [\d,]+ tok"
    ):
        run(tight)
    spent, _ = open_ledger(tight.ledger_url, process_session()).spending.spent("tight")
    assert 0 < spent <= total // 3
    with pytest.raises(BudgetSpent):  # a restart does not begin at nothing
        run(tight)
    _, _, more = run(echo_recipe(20, name="tight", budget={"tokens": 100 * total}, pool={"members": members}))
    first = open_ledger(tight.ledger_url, process_session()).spending.totals()
    assert sum(row["calls"] for row in first) == sum(calls.values())
    assert 0 < sum(more.values()) < sum(calls.values())
    assert expected.pairs == 20


def test_a_budget_of_cost_needs_prices(echo_recipe: Build) -> None:
    with pytest.raises(ConfigError, match=r"budget.cost: needs a price for every model .*echo-brief"):
        echo_recipe(3, budget={"cost": 1})


def test_costs_are_recorded_and_planned(echo_recipe: Build, tmp_path: Path) -> None:
    data: dict[str, Any] = echo_recipe(10, evolution=None).model_dump(mode="json")
    for spec in (*data["pool"]["members"], *data["rating"]["judges"]):
        spec["price"] = {"prompt": 1.0, "completion": 2.0}
    recipe = parse_recipe(data | {"budget": {"cost": 100}}, tmp_path)
    planned = sum(line.cost or 0 for line in plan_run(recipe).lines)
    run(recipe)
    (brief, _, _) = open_ledger(recipe.ledger_url, process_session()).spending.totals()
    assert brief["cost"] == pytest.approx((brief["n_prompt_tokens"] + 2 * brief["n_tokens"]) / 1e6)
    tokens, cost = open_ledger(recipe.ledger_url, process_session()).spending.spent(recipe.name)
    assert tokens > 0
    assert 0 < cost <= planned

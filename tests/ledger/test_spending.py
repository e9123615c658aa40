"""What models were asked and what that cost, told by the ledger."""

from __future__ import annotations

import pytest

from pairsmith.config import ModelSpec, Price
from pairsmith.ledger.ledger import Ledger
from pairsmith.llms.echo import Echo
from pairsmith.llms.recorded import Recorded
from tests.ledger.helpers import request
from tests.runs import generate


def test_who_asked_is_noted_and_paid_for_by_data_set(ledger_url: str) -> None:
    book, price = Ledger(ledger_url), Price(prompt=1.0, completion=2.0)
    llm = Echo(ModelSpec(backend="echo", model="m"))
    generate(Recorded(llm, book, "one", price, "member a"), [request("x"), request("y")])
    generate(Recorded(llm, book, "one", None, "judge j"), [request("x"), request("z")])
    generate(Recorded(llm, book, "other", price, "member a"), [request("x"), request("w")])
    paid = {row["asker"]: row for row in book.spending.paid("one")}
    assert {asker: row["calls"] for asker, row in paid.items()} == {"member a": 2, "judge j": 1}
    tokens, cost = book.spending.spent("one")
    assert sum(row["n_prompt_tokens"] + row["n_tokens"] for row in paid.values()) == tokens
    assert paid["member a"]["cost"] == pytest.approx(cost)
    assert paid["judge j"]["cost"] is None


def test_what_some_requests_cost_whoever_paid(ledger_url: str) -> None:
    book, price = Ledger(ledger_url), Price(prompt=1.0, completion=2.0)
    llm = Recorded(Echo(ModelSpec(backend="echo", model="m")), book, "one", price)
    generate(llm, [request("x"), request("y")])
    assert book.spending.cost_of(llm.used) == pytest.approx(llm.cost)
    assert 0 < book.spending.cost_of(sorted(llm.used)[:1]) < llm.cost
    assert book.spending.cost_of(["absent"]) == 0

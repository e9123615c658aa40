"""F25: whatever becomes of an answer, what it cost is in the ledger, and the budget holds over all runs.

An answer that ends for a reason of the endpoint's own is used; one without a reply in it, or without the probabilities
that were asked for, is not, and is paid for all the same. Where the endpoint says no usage, or says it under another
name, the ledger counts what it says, or an estimate that is marked as one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pairsmith.config import Budget, Price, Recipe
from pairsmith.errors import BudgetSpent
from pairsmith.ledger.bookkeeping import export, import_
from pairsmith.ledger.ledger import Ledger
from pairsmith.llms.bills import bill_of
from pairsmith.llms.budget import Budgeted
from pairsmith.llms.endpoint import attempts as backend
from pairsmith.llms.endpoint.wire import end_of
from pairsmith.llms.purse import purse_of
from pairsmith.llms.recorded import Recorded
from pairsmith.llms.registry import open_llm
from pairsmith.protocol import Request
from pairsmith.session import Session
from pairsmith.testing import KINDS, FakeEndpoint, Fault, Weather
from pairsmith_flows.__main__ import main
from tests.llms.endpoint.test_openai import request, spec
from tests.runs import generate, run

Tally = Callable[..., None]
CONCURRENCY = {"in a thread": 16, "in the engine process": 40}
USAGE = {"prompt_tokens": 7, "completion_tokens": 30, "total_tokens": 37}
PRICE = Price(prompt=1e3, completion=1e3)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "backoff", lambda *_: 0.01)


def answer(text: Any = "An answer.", reason: Any = "stop", usage: Any = USAGE, **choice: Any) -> Fault:
    """A response with status 200."""
    whole = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason} | choice
    return Fault(200, json.dumps({"id": "x", "choices": [whole], **({"usage": usage} if usage else {})}))


def always(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> FakeEndpoint:
    monkeypatch.setitem(KINDS, "always", fault)
    return FakeEndpoint(weather=Weather(errors=1, kinds=("always",)))


def asked(
    endpoint: FakeEndpoint, ledger: Ledger, requests: list[Request], budget: Budget | None = None, **fields: Any
) -> Recorded:
    """A run of its own that asks for the replies that the ledger lacks, until the budget is spent."""
    with Session() as session:
        llm = open_llm(spec(endpoint, breaker=1000, **fields), session)
        if budget:
            llm = Budgeted(llm, purse_of(ledger.url, "one", budget, session), PRICE, answers=2)
        recorded = Recorded(llm, ledger, "one", PRICE, "member a")
        try:
            generate(recorded, requests)
        except BudgetSpent:
            assert budget
        return recorded


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")


@pytest.mark.parametrize("reason", ["eos", "STOP", None, "COMPLETE", "end_turn", "a word of its own", ["stop"]])
def test_f25_a_text_is_used_whatever_the_endpoint_calls_its_end(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, reason: Any
) -> None:
    with always(answer(reason=reason), monkeypatch) as endpoint:
        for calls in (4, 0):
            assert asked(endpoint, ledger, [request(f"{n}") for n in range(4)]).calls == calls
    (reply, *_) = ledger.replies.get([row["key"] for row in ledger.replies.rows()]).values()
    assert (reply.text, reply.finish_reason, reply.error) == ("An answer.", "stop", None)
    assert ledger.spending.spent("one")[0] == 4 * 37


@pytest.mark.parametrize(
    ("reason", "text", "word"),
    [
        ("MAX_TOKENS", "An", "length"), ("model_length", "An", "length"), ("abort", "An", "length"),
        ("ERROR_LIMIT", "An", "length"), ("SAFETY", "An", "content_filter"), ("eos", "", "stop"),
        ("tool_calls", "An", "stop"), ("tool_calls", " ", None), (None, "", None), (5, "", None),
    ],
)  # fmt: skip
def test_f25_ends_are_told_in_the_words_of_the_field(reason: Any, text: str, word: str | None) -> None:
    assert end_of(reason, text) == word


UNUSABLE = {
    "no text": answer(None, "error"),
    "a call of a tool": answer(None, "tool_calls"),
    "filtered": answer("An", "content_filter"),
    "no choice": Fault(200, json.dumps({"choices": [], "usage": USAGE})),
    "no message": Fault(200, json.dumps({"choices": [{"index": 0}], "usage": USAGE})),
    "no usage": answer(None, "tool_calls", None),
    "no JSON": Fault(200, "<html>try again</html>"),
    "cut": Fault(200, answer().body, cut=60),
}

FOR_GOOD = ("a call of a tool", "filtered", "no usage")  # the same request would be answered so again: it is not asked


@pytest.mark.parametrize("where", CONCURRENCY)
@pytest.mark.parametrize("name", UNUSABLE)
def test_f25_an_answer_that_cannot_be_used_is_paid_for(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, name: str, where: str
) -> None:
    with always(UNUSABLE[name], monkeypatch) as endpoint:
        many = [request(f"{n}") for n in range(3)]
        recorded = asked(endpoint, ledger, many, concurrency=CONCURRENCY[where], attempts=2)
        calls = len(endpoint.journal)
    rows = list(ledger.spending.rows())
    assert len(rows) == calls == (3 if name in (*FOR_GOOD, "no text") else 6)
    assert all(row["problem"] and row["asker"] == "member a" and row["dataset"] == "one" for row in rows)
    assert {row["key"] for row in rows} == {one.key(recorded.identity) for one in many}
    is_told = name not in ("no usage", "no JSON", "cut")
    assert {row["is_reckoned"] for row in rows} == {not is_told}
    tokens, cost = ledger.spending.spent("one")
    assert cost == pytest.approx(recorded.cost)
    assert tokens == recorded.prompt_tokens + recorded.tokens
    assert tokens == calls * 37 if is_told else tokens >= calls * 10


def test_f25_probabilities_that_are_lacking_are_an_error_that_is_paid_for(ledger: Ledger) -> None:
    digits = [request(f"{n}", choices=tuple("12345")) for n in range(3)]
    with FakeEndpoint([answer("4")] * 3) as endpoint:
        asked(endpoint, ledger, digits)
        assert ledger.replies.count() == 0
        assert ledger.spending.spent("one")[0] == 3 * 37
        assert asked(endpoint, ledger, digits).calls == 3  # they may be there another time
    assert ledger.replies.count() == 3


def test_f25_what_an_answer_cost_is_known_before_the_request_is_sent_again(ledger: Ledger) -> None:
    """A kill in the middle of all attempts loses no bill of an answer that had arrived."""
    lacking = Fault(200, json.dumps({"choices": [], "usage": USAGE}))
    with FakeEndpoint([lacking, Fault(hang=3600)]) as endpoint, Session() as session:
        llm = Recorded(open_llm(spec(endpoint, deadline=1.0), session), ledger, "one")
        generate(llm, [request("Hi")])
    assert ledger.spending.spent("one")[0] == 37


@pytest.mark.parametrize("name", UNUSABLE)
def test_f25_runs_that_get_nothing_usable_end_within_the_budget(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tally: Tally, name: str
) -> None:
    budget, many = Budget(cost=1.2), [request(f"{n}") for n in range(16)]
    with always(UNUSABLE[name], monkeypatch) as endpoint:
        for _ in range(5):
            asked(endpoint, ledger, many, budget)
        billed = len(endpoint.journal) * 37e-3 if "usage" in UNUSABLE[name].body else 0.0
    tokens, cost = ledger.spending.spent("one")
    assert 0.9 < cost <= 1.2 or name in FOR_GOOD
    assert tokens == len(endpoint.journal) * 37 or not billed or name == "cut"
    tally(5)


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 0, "completion_tokens": 0}, {"total_tokens": None}])
def test_f25_an_endpoint_without_usage_does_not_let_each_run_spend_anew(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tally: Tally, usage: Any
) -> None:
    text = "The river runs slowly past the old mill, and nobody minds."  # some 13 tokens
    with always(answer(text, usage=usage), monkeypatch) as endpoint:
        for start in range(0, 100, 20):  # other prompts each time
            asked(endpoint, ledger, [request(f"Why is it {n}?") for n in range(start, start + 20)], Budget(tokens=700))
        calls = len(endpoint.journal)
    assert calls * (5 + 13) <= ledger.spending.spent("one")[0] <= 700
    assert ledger.spending.spent("one") == ledger.spending.reckoned("one")
    assert ledger.spending.doubts() == {"unusable": 0, "reckoned": calls}
    told = CliRunner().invoke(main, ["ledger", "--ledger", ledger.url]).output
    assert f"the tokens of {calls} are an estimate" in " ".join(told.split())
    assert 10 < calls < 40
    tally(5)


NAMES = {
    "OpenAI": {"usage": USAGE},
    "Anthropic": {"usage": {"input_tokens": 7, "output_tokens": 30}},
    "Gemini": {"usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 10, "totalTokenCount": 37}},
    "Cohere": {"meta": {"billed_units": {"input_tokens": 7.0, "output_tokens": 30.0}}},
    "Ollama": {"prompt_eval_count": 7, "eval_count": 30},
    "thoughts in the total alone": {"usage": {"prompt_tokens": 7, "completion_tokens": 10, "total_tokens": 37}},
    "no prompt": {"usage": {"completion_tokens": 30, "total_tokens": 37}},
    "no answer": {"usage": {"prompt_tokens": 7, "total_tokens": 37}},
}


@pytest.mark.parametrize("name", NAMES)
def test_f25_usage_is_read_under_other_names(ledger: Ledger, name: str) -> None:
    bill = bill_of(request("Hi"), NAMES[name], 20)
    assert (bill.n_prompt_tokens, bill.n_tokens, bill.is_reckoned) == (7, 30, False)
    told = json.loads(answer(usage=None).body) | NAMES[name]
    with FakeEndpoint([Fault(200, json.dumps(told))]) as endpoint:
        asked(endpoint, ledger, [request("Hi")])
    assert ledger.spending.spent("one")[0] == 37
    assert ledger.spending.reckoned("one")[0] == 0
    assert ledger.spending.doubts() == {"unusable": 0, "reckoned": 0}


def test_f25_a_total_alone_is_what_is_counted() -> None:
    bill = bill_of(request("What is this?"), {"usage": {"total_tokens": 37}}, 20)
    assert (bill.n_prompt_tokens + bill.n_tokens, bill.is_reckoned) == (37, True)


def test_f25_spending_moves_with_an_export_and_counts_once(ledger: Ledger, tmp_path: Path) -> None:
    with FakeEndpoint([UNUSABLE["no text"]]) as endpoint:
        asked(endpoint, ledger, [request(f"{n}") for n in range(3)])
    file, other = tmp_path / "export.jsonl", Ledger(f"sqlite:///{tmp_path}/other.sqlite")
    assert export(ledger, file) == 2
    assert [import_(other, file) for _ in range(2)] == [(2, 2), (2, 0)]
    assert other.spending.spent("one") == ledger.spending.spent("one")
    old = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(row) + "\n" for row in old if row.pop("format", None)))  # as 0.1.0 wrote it
    another = Ledger(f"sqlite:///{tmp_path}/another.sqlite")
    assert [import_(another, file) for _ in range(2)] == [(2, 2), (2, 0)]
    assert another.spending.spent("one")[0] == ledger.spending.spent("one")[0] - 37


def test_f25_what_is_dropped_was_paid_for(base_recipe: Callable[..., Recipe], endpoint: FakeEndpoint) -> None:
    recipe = base_recipe(endpoint, 5, members=2)
    run(recipe)
    book = Ledger(recipe.ledger_url)
    before = book.spending.spent("base")
    book.replies.drop([row["key"] for row in book.replies.rows()])
    assert book.spending.spent("base") == before

"""A budget that several processes share: they stay within it together, in portions, whatever becomes of one of them."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import sqlalchemy as sa

from pairsmith.config import Budget
from pairsmith.errors import BudgetSpent
from pairsmith.ledger import reservations
from pairsmith.ledger.batches import Batch
from pairsmith.ledger.ledger import Ledger
from pairsmith.llms.budget import Budgeted
from pairsmith.llms.purse import IDLE_SECONDS, SharedPurse
from pairsmith.llms.recorded import Recorded
from tests.conftest import ROOT
from tests.llms.test_budget import Costly, request
from tests.runs import generate

SPEND = """
import sys
from pairsmith.config import Budget, Sampling
from pairsmith.errors import BudgetSpent
from pairsmith.ledger.ledger import Ledger
from pairsmith.llms.budget import Budgeted
from pairsmith.llms.purse import SharedPurse
from pairsmith.llms.recorded import Recorded
from pairsmith.protocol import Request
from tests.llms.test_budget import Costly
from tests.runs import generate

url, name, most = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ledger = Ledger(url)
purse = SharedPurse(Budget(tokens=most), "one", ledger)
llm = Recorded(Budgeted(Costly(), purse, None), ledger, "one")
print("ready", flush=True)
sys.stdin.readline()
for start in range(0, 2000, 50):
    asked = [Request(({"role": "user", "content": "40"},), Sampling(max_tokens=50), 10_000 * name + n)
             for n in range(start, start + 50)]
    try:
        generate(llm, asked)
    except BudgetSpent:
        print("spent", flush=True)
        break
purse.close()
"""


def spending(url: str, name: int, most: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SPEND, url, str(name), str(most)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_f25_processes_stay_within_a_budget_together(ledger_url: str) -> None:
    book, most = Ledger(ledger_url), 40_000
    processes = [spending(ledger_url, name, most) for name in range(3)]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    told = []
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    told = [process.communicate(timeout=90)[0] for process in processes]
    assert told == ["spent\n"] * 3
    spent, _ = book.spending.spent("one")
    assert most - 3 * 70 < spent <= most
    assert book.reservations.held("one") == (0, 0.0)


def test_a_portion_is_for_many_requests(ledger_url: str) -> None:
    book, writes = Ledger(ledger_url), list[object]()
    purse = SharedPurse(Budget(tokens=10**6), "one", book)
    sa.event.listen(book._database.engine, "commit", writes.append)
    for _ in range(5000):
        assert purse.reserve(67, 0.0, wait=False)
        purse.settle((67, 0.0), (40, 0.0))
    assert len(writes) < 40
    purse.close()


def test_what_is_not_used_is_given_back(ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairsmith.llms.purse.IDLE_SECONDS", 0.2)
    book = Ledger(ledger_url)
    one, other = (SharedPurse(Budget(tokens=1000), "one", book) for _ in range(2))
    assert one.reserve(900, 0.0, wait=False)
    assert not other.reserve(200, 0.0, wait=False)
    one.settle((900, 0.0), (0, 0.0))
    assert other.reserve(1000, 0.0, wait=True)
    other.settle((1000, 0.0), (0, 0.0))
    other.close()
    assert book.reservations.held("one") == (0, 0.0)


def test_a_process_that_died_holds_its_portion_as_long_as_its_lease(
    ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reservations, "LEASE_SECONDS", 2.0)
    book = Ledger(ledger_url)
    granted = book.reservations.reserve("dead", "one", (1000, None), (0, 0.0), (900, 0.0))
    assert granted.fits
    purse, begun = SharedPurse(Budget(tokens=1000), "one", book), time.monotonic()
    assert not purse.reserve(500, 0.0, wait=False)
    assert purse.reserve(500, 0.0, wait=True)
    assert 0.5 < time.monotonic() - begun < 10
    purse.close()


def test_a_lease_is_renewed_as_long_as_a_request_is_under_way(ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reservations, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr("pairsmith.llms.purse.LEASE_SECONDS", 1.0)
    book = Ledger(ledger_url)
    one, other = (SharedPurse(Budget(tokens=1000), "one", book) for _ in range(2))
    assert one.reserve(900, 0.0, wait=False)
    ends = time.monotonic() + 2.5
    while time.monotonic() < ends:
        assert not other.reserve(900, 0.0, wait=False)
        time.sleep(0.3)
    one.close()
    other.close()


def test_a_budget_of_nothing_asks_nobody(ledger_url: str) -> None:
    book, llm = Ledger(ledger_url), Costly()
    with pytest.raises(BudgetSpent, match="0 of 0 tokens"):
        generate(Recorded(Budgeted(llm, SharedPurse(Budget(tokens=0), "one", book), None), book, "one"), [request(1)])
    assert llm.spent == 0


def test_a_request_is_settled_when_its_reply_is_recorded(ledger_url: str) -> None:
    """Before, neither the ledger nor a reservation would count it, and another request would take its place."""
    book = Ledger(ledger_url)
    purse = SharedPurse(Budget(tokens=100), "one", book)
    stream = Budgeted(Costly(), purse, None).stream([request(40)])
    next(stream)
    assert not purse.reserve(60, 0.0, wait=False)
    assert list(stream) == []
    assert purse.tokens == 41
    purse.close()


def test_f34_what_a_submitted_batch_can_cost_is_counted_by_every_process(ledger_url: str) -> None:
    book, budget = Ledger(ledger_url), Budget(tokens=1000)
    one, other = (SharedPurse(budget, "one", Ledger(ledger_url)) for _ in range(2))
    assert all(one.hold((100, 0.0)) for _ in range(9))
    batch = Batch("t", "b", "http://e", "m", ("k",), "one", 900, 0.0)
    book.batches.note(batch)
    one.let_go((900, 0.0), submitted=True)
    one.close()
    assert not other.reserve(200, 0.0, wait=False)
    assert other.reserve(100, 0.0, wait=False)
    other.settle((100, 0.0), (0, 0.0))
    book.batches.keep("t", 300, 0.0)  # the replies to some are recorded, and cost nothing
    one.collected((600, 0.0), (0, 0.0))
    assert other.hold((700, 0.0))
    assert not one.reserve(10, 0.0, wait=False)
    time.sleep(2 * IDLE_SECONDS)  # what waits to be submitted is not given back, however long that takes
    assert not one.reserve(10, 0.0, wait=False)
    other.let_go((700, 0.0), submitted=False)
    book.batches.close(batch)
    assert one.reserve(1000, 0.0, wait=True)
    for each in (one, other):
        each.close()

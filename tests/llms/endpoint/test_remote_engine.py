"""Engines in a process of their own: what comes of it is the same, and nothing of it lives on."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pairsmith.config import Budget, ModelSpec, Price, Recipe, Sampling
from pairsmith.errors import BudgetSpent, ConfigError, DataError
from pairsmith.ledger.ledger import Ledger
from pairsmith.ledger.replies import Account, Entry, checksum_of
from pairsmith.llms.budget import Budgeted
from pairsmith.llms.endpoint.engines import MANY_CALLS, engine_for
from pairsmith.llms.endpoint.remote_engine import EngineProcessEnded, RemoteEngine
from pairsmith.llms.purse import Purse
from pairsmith.llms.recorded import Recorded
from pairsmith.llms.registry import open_llm
from pairsmith.protocol import Identity, Reply, Request
from pairsmith.session import Session, process_session
from pairsmith.testing import FakeEndpoint, Fault, Weather
from tests.conftest import ROOT, children_of
from tests.runs import generate, run

Build = Callable[..., Recipe]
MANY = 2 * MANY_CALLS
WHO = Identity("openai", "m")


def spec(endpoint: FakeEndpoint, **more: Any) -> ModelSpec:
    where = {"base_url": endpoint.url, "api_key_env": None, "concurrency": MANY, **more}
    return ModelSpec.model_validate({"backend": "openai", "model": "m", "endpoint": where})


def requests(count: int) -> list[Request]:
    return [Request(({"role": "user", "content": f"Question {n}?\u2028é"},), Sampling(seed=3), n) for n in range(count)]


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    with FakeEndpoint(weather=Weather(latency=0.05)) as started:
        yield started


def test_replies_are_those_of_an_engine_of_this_process(endpoint: FakeEndpoint) -> None:
    asked = requests(3 * MANY)
    here = generate(open_llm(spec(endpoint, concurrency=MANY_CALLS), process_session()), asked)
    assert generate(open_llm(spec(endpoint), process_session()), asked) == here
    assert endpoint.busiest > MANY_CALLS
    assert isinstance(engine_for(spec(endpoint).endpoint, "m", process_session()), RemoteEngine)  # type: ignore[arg-type]


def test_a_run_gives_the_same_data_set(echo_recipe: Build, endpoint: FakeEndpoint) -> None:
    def recipe(name: str, concurrency: int) -> Recipe:
        where = {"base_url": endpoint.url, "api_key_env": None, "concurrency": concurrency}
        model = {"backend": "openai", "endpoint": where}
        return echo_recipe(
            12,
            name=name,
            ledger=f"sqlite:///{Path(echo_recipe(1).workspace, name)}.sqlite",
            pool={"members": [{"name": name, "model": name, **model} for name in "ab"]},
            evolution=None,
            rating={"judges": [{"name": "j", "model": "j", "readout": "json", **model}]},
        )

    assert run(recipe("apart", MANY))[0].digest == run(recipe("here", MANY_CALLS))[0].digest


def test_errors_keep_their_kind_and_limits_hold() -> None:
    with FakeEndpoint([Fault(401)] * 99) as endpoint, pytest.raises(ConfigError, match="status 401"):
        generate(open_llm(spec(endpoint), process_session()), requests(4))
    with FakeEndpoint([Fault(400)]) as endpoint:
        replies = generate(open_llm(spec(endpoint), process_session()), requests(3))
        assert sorted(bool(reply.error) for reply in replies) == [False, False, True]
    with FakeEndpoint() as endpoint:
        engine = engine_for(spec(endpoint, requests_per_minute=600).endpoint, "m", process_session())  # type: ignore[arg-type]
        engine.divide(0.5)
        begun = time.monotonic()
        generate(open_llm(spec(endpoint, requests_per_minute=600), process_session()), requests(12))
        assert time.monotonic() - begun > 1.0  # five a second, the first five at once


def recorded(endpoint: FakeEndpoint, ledger: Ledger, price: Price | None = None) -> Recorded:
    return Recorded(open_llm(spec(endpoint), process_session()), ledger, "one", price, "member a")


def test_the_process_that_asks_records_before_it_answers(ledger_url: str) -> None:
    asked, ledger = requests(3000), Ledger(ledger_url)
    with FakeEndpoint() as endpoint:
        llm = recorded(endpoint, ledger, Price(prompt=1, completion=2))
        seen = 0
        for finished in llm.stream(asked):
            seen += len(finished)
            keys = [asked[index].key(llm.identity) for index, _ in finished]
            assert ledger.replies.get(keys) == {key: reply for key, (_, reply) in zip(keys, finished, strict=True)}
        assert seen == llm.calls == len(endpoint.journal) == 3000
    (paid,) = ledger.spending.paid("one")
    assert (paid["asker"], paid["calls"]) == ("member a", 3000)
    assert paid["cost"] == pytest.approx(llm.cost)
    assert llm.cost > 0


def test_several_streams_at_once_get_their_own_replies(tmp_path: Path) -> None:
    ledger, asked = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite"), requests(2000)
    parts = [asked[start : start + 100] for start in range(0, 2000, 100)]
    with FakeEndpoint() as endpoint, ThreadPoolExecutor(20) as threads:
        llms = [recorded(endpoint, ledger) for _ in parts]
        found = list(threads.map(generate, llms, parts))
        alone = generate(open_llm(spec(endpoint, concurrency=MANY_CALLS), process_session()), asked)
    assert [reply for part in found for reply in part] == alone
    assert ledger.replies.count() == 2000


def test_a_reply_that_another_run_recorded_first_stays(endpoint: FakeEndpoint, tmp_path: Path) -> None:
    ledger, (asked,) = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite"), requests(1)
    llm = recorded(endpoint, ledger)
    alone: Any = open_llm(spec(endpoint), process_session())
    stream = alone.recording(Account(ledger.url, llm.identity), ledger).stream([asked])
    first = Reply("first", "stop")
    ledger.replies.record([Entry(Account(ledger.url, llm.identity), asked.key(llm.identity), first)])
    assert next(stream) == [(0, first)]


def test_failed_calls_are_not_recorded_and_a_ledger_that_fails_is_named(tmp_path: Path) -> None:
    with FakeEndpoint([Fault(400)] * 3) as endpoint:
        ledger = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
        replies = generate(recorded(endpoint, ledger), requests(3))
        assert [str(reply.error)[:7] for reply in replies] == ["refused"] * 3
        assert ledger.replies.count() == 0
        with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
            connection.execute("CREATE TRIGGER full BEFORE INSERT ON replies BEGIN SELECT RAISE(ABORT, 'no room'); END")
        with pytest.raises(DataError, match="ledger: replies cannot be recorded: no room"):
            generate(recorded(endpoint, ledger), requests(3))
        with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
            connection.execute("DROP TRIGGER full")
        assert all(reply.error is None for reply in generate(recorded(endpoint, ledger), requests(3)))


def test_nothing_is_asked_where_the_engine_cannot_open_the_ledger(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        connection.execute("UPDATE format SET number = 99")
    with pytest.raises(DataError, match="made by a newer pairsmith"):
        generate(recorded(endpoint, ledger), requests(10))
    assert not endpoint.journal


def test_nothing_more_is_asked_once_replies_cannot_be_kept(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        connection.execute("CREATE TRIGGER full BEFORE INSERT ON replies BEGIN SELECT RAISE(ABORT, 'no room'); END")
    with pytest.raises(DataError, match="no room"):
        generate(recorded(endpoint, ledger), requests(2000))
    time.sleep(0.3)
    assert len(endpoint.journal) <= 4 * MANY


def test_an_error_that_nobody_thought_of_ends_its_stream_and_no_other(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    """A row of a later version, with a field that this one does not know."""
    ledger, other = (Ledger(f"sqlite:///{tmp_path}/{name}.sqlite") for name in ("ledger", "other"))
    llm, (asked, *more) = recorded(endpoint, ledger), requests(20)
    stored, key = '{"text": "x", "unheard_of": 1}', asked.key(llm.identity)
    alone: Any = open_llm(spec(endpoint), process_session())
    stream = alone.recording(Account(ledger.url, llm.identity), ledger).stream([asked])
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        columns = "key, backend, model, dataset, reply, checksum, n_prompt_tokens, n_tokens"
        row = (key, "openai", "m", "one", stored, checksum_of(key, stored), 0, 0)
        connection.execute(f"INSERT INTO replies ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    with pytest.raises(DataError, match="unheard_of"):
        list(stream)
    assert len(generate(recorded(endpoint, other), more)) == 19
    assert len(generate(recorded(endpoint, ledger), more)) == 19


def test_of_two_streams_with_equal_requests_both_get_what_the_ledger_keeps(tmp_path: Path) -> None:
    ledger, asked = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite"), requests(10)
    entries = [Entry(Account(ledger.url, WHO), "k", Reply(text, "stop")) for text in ("first", "second")]
    assert ledger.replies.record(entries) == [Reply("first", "stop")] * 2
    with FakeEndpoint() as endpoint, ThreadPoolExecutor(2) as threads:
        one, two = threads.map(lambda _: generate(recorded(endpoint, ledger), asked), range(2))
        kept = ledger.replies.get(keys := [request.key(WHO) for request in asked])
        assert one == two == [kept[key] for key in keys]


def test_a_ledger_in_a_folder_that_was_left_stays_where_it_was(
    tmp_path: Path, endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    for name in ("one", "two"):
        monkeypatch.chdir(tmp_path / name)
        ledger = Ledger("sqlite:///ledger.sqlite")
        generate(recorded(endpoint, ledger), requests(5))
        assert ledger.replies.count() == 5
        assert Path(ledger.url.removeprefix("sqlite:///")) == tmp_path / name / "ledger.sqlite"


def test_a_ledger_in_memory_is_kept_by_this_process(endpoint: FakeEndpoint) -> None:
    ledger = Ledger("sqlite://")
    generate(recorded(endpoint, ledger), requests(5))
    assert ledger.replies.count() == 5


def test_files_of_the_working_folder_stand_in_for_no_module(
    tmp_path: Path, endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "aiohttp.py").write_text("raise SystemExit('mine')")
    monkeypatch.chdir(tmp_path)
    engine = engine_for(spec(endpoint).endpoint, "m", process_session())  # type: ignore[arg-type]
    assert isinstance(engine, RemoteEngine)
    engine._process._child.kill()
    engine._process._child.wait()
    deadline = time.monotonic() + 5
    while not engine.has_ended and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(generate(open_llm(spec(endpoint), process_session()), requests(5))) == 5


def test_an_engine_that_cannot_be_opened_says_why(endpoint: FakeEndpoint) -> None:
    wrong = spec(endpoint, base_url="http://[::1/v1")
    with pytest.raises(RuntimeError, match="Invalid"):
        generate(open_llm(wrong, process_session()), requests(3))
    assert len(generate(open_llm(spec(endpoint), process_session()), requests(3))) == 3


def test_the_purse_counts_what_an_early_end_left_under_way(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    purse = Purse(Budget(tokens=10**7), 0, 0.0, lambda: ledger.spending.spent("one"))
    llm = Recorded(Budgeted(open_llm(spec(endpoint), process_session()), purse, None), ledger, "one")
    for start in range(0, 600, 200):
        stream = llm.stream(requests(600)[start : start + 200])
        next(stream)
        stream.close()  # type: ignore[attr-defined]
    time.sleep(0.5)
    generate(llm, requests(601)[600:])
    assert purse.tokens == ledger.spending.spent("one")[0]


def test_a_budget_holds_for_it_too(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    purse = Purse(Budget(tokens=20_000), 0, 0.0)
    llm = Recorded(Budgeted(open_llm(spec(endpoint), process_session()), purse, None), ledger, "one")
    with pytest.raises(BudgetSpent):
        generate(llm, requests(1000))
    assert 0 < ledger.replies.count() == len(endpoint.journal) < 1000
    assert purse.tokens == ledger.spending.spent("one")[0] <= 20_000


def test_a_stream_that_nobody_reads_to_its_end_is_dropped(endpoint: FakeEndpoint) -> None:
    stream = open_llm(spec(endpoint), process_session()).stream(requests(500))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    time.sleep(0.3)
    arrived = len(endpoint.journal)
    assert arrived < 400
    assert len(generate(open_llm(spec(endpoint), process_session()), requests(5))) == 5


def test_when_the_process_dies_it_is_said_and_another_one_takes_over(endpoint: FakeEndpoint) -> None:
    llm = open_llm(spec(endpoint), process_session())
    stream = llm.stream(requests(500))
    next(stream)
    engine = engine_for(spec(endpoint).endpoint, "m", process_session())  # type: ignore[arg-type]
    assert isinstance(engine, RemoteEngine)
    engine._process._child.kill()
    with pytest.raises(EngineProcessEnded):
        list(stream)
    assert all(reply.error is None for reply in generate(llm, requests(5)))


ASK = """
import sys
from tests.llms.endpoint.test_remote_engine import MANY, requests
from pairsmith.config import ModelSpec
from pairsmith.llms.registry import open_llm
from pairsmith.session import process_session
where = {"base_url": sys.argv[1], "api_key_env": None, "concurrency": MANY}
stream = open_llm(ModelSpec(backend="openai", model="m", endpoint=where), process_session()).stream(requests(5000))
next(stream)
print("asking", flush=True)
list(stream)
"""


def test_it_ends_with_the_process_that_started_it(endpoint: FakeEndpoint) -> None:
    with subprocess.Popen([sys.executable, "-c", ASK, endpoint.url], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"asking\n"
        (child,) = children_of(process.pid)
        process.kill()
        process.wait()
    ends = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and time.monotonic() < ends:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()


def test_a_process_that_was_forked_starts_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with Session() as session:
        mine = session.share("of a process", object)
        assert session.share("of a process", object) is mine
        monkeypatch.setattr("os.getpid", lambda: 2)
        assert session.share("of a process", object) is not mine


def test_it_ends_with_the_last_session_that_asks_through_it(endpoint: FakeEndpoint) -> None:
    process_session().close()
    one, other = Session(), Session()
    for session in (one, other):
        generate(open_llm(spec(endpoint), session), requests(3))
    engines = [engine_for(spec(endpoint).endpoint, "m", session) for session in (one, other)]  # type: ignore[arg-type]
    assert engines[0] is engines[1]
    one.close()
    assert not engines[0].has_ended  # type: ignore[union-attr]
    other.close()
    assert engines[0].has_ended  # type: ignore[union-attr]

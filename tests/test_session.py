"""A session keeps what is open and lets go of it; what holds over a whole process is shared by its sessions."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from pairsmith import build
from pairsmith.config import Budget, Endpoint, Recipe
from pairsmith.ledger.ledger import open_ledger
from pairsmith.llms.endpoint.engines import MANY_CALLS, engine_for
from pairsmith.llms.local.weights import shelf_of
from pairsmith.llms.purse import purse_of
from pairsmith.session import Session, process_session
from pairsmith.stages.base import open_store
from pairsmith.testing import FakeEndpoint, Weather
from tests.conftest import children_of


class Opened:
    """Something that is open until it is closed."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


@pytest.fixture(autouse=True)
def nothing_shared() -> None:
    """Let go of what other tests of this process hold open, since sessions share it."""
    process_session().close()


def test_a_session_beside_another_shares_all_but_its_listeners() -> None:
    heard: list[str] = []
    with Session() as session, session.listening(lambda event: heard.append(f"one: {event}")):
        kept, apart = session.keep("a", Opened), session.beside()
        assert apart.keep("a", Opened) is kept
        with apart.listening(lambda event: heard.append(f"other: {event}")):
            apart.tell("there")
        session.tell("here")
        assert session.keep("b", Opened) is apart.find("b")
    assert heard == ["other: there", "one: here"]


def test_what_is_kept_is_made_once_and_closed_with_the_session_the_last_first() -> None:
    order: list[str] = []
    with Session() as session:
        first = session.keep("a", Opened, lambda _: order.append("a"))
        assert session.keep("a", Opened, lambda _: order.append("again")) is first
        session.keep("b", Opened, lambda _: order.append("b"))
        assert session.keep("c", lambda: "not closed") == "not closed"
        assert order == []
    assert order == ["b", "a"]
    with Session() as other:
        assert other.keep("a", Opened) is not first


def test_a_session_that_was_closed_starts_clean_and_may_be_closed_twice() -> None:
    session = Session()
    one = session.keep("a", Opened, Opened.close)
    session.secrets["block"] = "key"
    session.close()
    session.close()
    assert (one.closed, session.secrets) == (1, {})
    other = session.keep("a", Opened, Opened.close)
    assert other is not one
    session.close()
    assert (one.closed, other.closed) == (1, 1)


def test_all_is_closed_though_one_of_them_fails() -> None:
    one, other = Opened(), Opened()

    def fail(_: Opened) -> None:
        raise OSError("cannot be closed")

    with pytest.raises(OSError, match="cannot be closed"), Session() as session:
        session.keep("a", lambda: one, Opened.close)
        session.keep("b", Opened, fail)
        session.share("c", lambda: other, Opened.close)
    assert (one.closed, other.closed) == (1, 1)
    session.close()


@pytest.mark.parametrize("way", ["keep", "share"])
def test_an_error_while_opening_leaves_nothing_behind(way: str) -> None:
    def fail() -> Opened:
        raise OSError("no such thing")

    with Session() as session:
        with pytest.raises(OSError, match="no such thing"):
            getattr(session, way)("a", fail, Opened.close)
        made = getattr(session, way)("a", Opened, Opened.close)
        assert isinstance(made, Opened)
    assert made.closed == 1


def test_what_is_shared_is_one_for_all_sessions_and_closed_with_the_last_of_them() -> None:
    with Session() as one:
        with Session() as other:
            shared = other.share("a", Opened, Opened.close)
            assert one.share("a", Opened, Opened.close) is shared
            assert one.share("a", Opened, Opened.close) is shared
            assert one.keep("a", Opened) is not shared
        assert shared.closed == 0
        with Session() as later:
            assert later.share("a", Opened, Opened.close) is shared
    assert shared.closed == 1
    with Session() as session:
        assert session.share("a", Opened, Opened.close) is not shared


def test_threads_get_the_same_and_it_is_made_once() -> None:
    made: list[Opened] = []

    def slowly() -> Opened:
        time.sleep(0.02)
        made.append(Opened())
        return made[-1]

    with Session() as one, Session() as other, ThreadPoolExecutor(8) as pool:
        kept = set(pool.map(lambda _: one.keep("a", slowly), range(8)))
        shared = set(pool.map(lambda n: (one, other)[n % 2].share("b", slowly), range(8)))
        assert (len(kept), len(shared), len(made)) == (1, 1, 2)


def test_what_opens_may_open_more_and_is_closed_before_it() -> None:
    order: list[str] = []
    with Session() as session:
        session.keep(
            "outer",
            lambda: session.keep("inner", Opened, lambda _: order.append("inner")),
            lambda _: order.append("outer"),
        )
    assert order == ["outer", "inner"]


def test_listeners_hear_of_progress_for_as_long_as_their_block_runs() -> None:
    heard: list[int] = []
    session = Session()
    with pytest.raises(ValueError, match="ended"), session.listening(heard.append):
        session.tell(1)
        thread = threading.Thread(target=session.tell, args=(2,))
        thread.start()
        thread.join()
        raise ValueError("ended")
    session.tell(3)
    assert (heard, session.listeners) == ([1, 2], [])


def test_two_sessions_share_the_rates_of_an_endpoint_and_the_next_starts_clean() -> None:
    endpoint = Endpoint(base_url="http://127.0.0.1:9/v1", api_key_env=None, concurrency=2)
    with Session() as one, Session() as other:
        engine = engine_for(endpoint, "m", one)
        assert engine_for(endpoint, "m", other) is engine
        assert engine_for(endpoint, "n", other) is not engine
    with Session() as later:
        assert engine_for(endpoint, "m", later) is not engine


def test_the_process_of_an_engine_ends_with_the_session(echo_recipe: Callable[..., Recipe]) -> None:
    before, during = set(children_of(os.getpid())), set[int]()
    with FakeEndpoint(weather=Weather(latency=0.02)) as endpoint:
        where = {"base_url": endpoint.url, "api_key_env": None, "concurrency": 2 * MANY_CALLS}
        member = {"model": "m", "backend": "openai", "endpoint": where}
        members = [{"name": "a", **member}, {"name": "b", **member, "sampling": {"seed": 7}}]
        recipe = echo_recipe(3, pool={"members": members})
        with Session() as session:
            build(recipe, session)
            during = set(children_of(os.getpid())) - before
            assert len(during) == 1
        assert set(children_of(os.getpid())) == before
        build(echo_recipe(4, pool={"members": members}))
        assert set(children_of(os.getpid())) == before


def test_weights_are_let_go_with_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[str] = []
    monkeypatch.setattr("pairsmith.llms.local.weights.free_unused_memory", released.append)
    with Session() as session:
        shelf = shelf_of(session)
        shelf.loaded["a",] = SimpleNamespace(device="cpu")
        assert shelf_of(session) is shelf
        assert released == []
    assert (shelf.loaded, released) == ({}, ["cpu"])


def test_two_sessions_share_a_budget(tmp_path: Path) -> None:
    url, budget = f"sqlite:///{tmp_path}/ledger.sqlite", Budget(tokens=100)
    with Session() as one, Session() as other:
        purse = purse_of(url, "data", budget, one)
        assert purse_of(url, "data", budget, other) is purse
        assert purse_of(url, "other data", budget, other) is not purse
    with Session() as later:
        assert purse_of(url, "data", budget, later) is not purse


def test_a_second_run_in_a_process_starts_clean(echo_recipe: Callable[..., Recipe]) -> None:
    recipe, threads = echo_recipe(4), set(threading.enumerate())
    for count in (4, 5):
        session = Session()
        with session:
            build(echo_recipe(count), session)
            ledger = weakref.ref(open_ledger(recipe.ledger_url, session))
            tables = weakref.ref(open_store(recipe, session))
            shelf = shelf_of(session)
        assert (session._open, session.listeners, session.secrets) == ({}, [], {})
        gc.collect()
        assert ledger() is None
        assert tables() is None
        assert shelf_of(session) is not shelf
        session.close()
    assert set(threading.enumerate()) <= threads


def test_the_session_of_a_process_is_one() -> None:
    assert process_session() is process_session()

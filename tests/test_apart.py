"""Engines in a process of their own: what comes of it is the same, and nothing of it lives on."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pairsmith.config import ModelSpec, Recipe, Sampling
from pairsmith.errors import ConfigError
from pairsmith.llms import apart
from pairsmith.llms.apart import Apart, Gone
from pairsmith.llms.base import Request, open_llm
from pairsmith.llms.openai import MANY_CALLS, engine_for
from pairsmith.testing import FakeEndpoint, Fault, Weather
from tests.conftest import ROOT
from tests.runs import generate, run

Build = Callable[..., Recipe]
MANY = 2 * MANY_CALLS


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
    here = generate(open_llm(spec(endpoint, concurrency=MANY_CALLS)), asked)
    assert generate(open_llm(spec(endpoint)), asked) == here
    assert endpoint.busiest > MANY_CALLS
    assert isinstance(engine_for(spec(endpoint).endpoint, "m"), Apart)  # type: ignore[arg-type]


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
        generate(open_llm(spec(endpoint)), requests(4))
    with FakeEndpoint([Fault(400)]) as endpoint:
        replies = generate(open_llm(spec(endpoint)), requests(3))
        assert sorted(bool(reply.error) for reply in replies) == [False, False, True]
    with FakeEndpoint() as endpoint:
        engine = engine_for(spec(endpoint, requests_per_minute=600).endpoint, "m")  # type: ignore[arg-type]
        engine.divide(0.5)
        begun = time.monotonic()
        generate(open_llm(spec(endpoint, requests_per_minute=600)), requests(12))
        assert time.monotonic() - begun > 1.0  # five a second, the first five at once


def test_a_stream_that_nobody_reads_to_its_end_is_dropped(endpoint: FakeEndpoint) -> None:
    stream = open_llm(spec(endpoint)).stream(requests(500))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    time.sleep(0.3)
    arrived = len(endpoint.journal)
    assert arrived < 400
    assert len(generate(open_llm(spec(endpoint)), requests(5))) == 5


def test_when_the_process_dies_it_is_said_and_another_one_takes_over(endpoint: FakeEndpoint) -> None:
    llm = open_llm(spec(endpoint))
    stream = llm.stream(requests(500))
    next(stream)
    engine = engine_for(spec(endpoint).endpoint, "m")  # type: ignore[arg-type]
    assert isinstance(engine, Apart)
    engine._process._child.kill()
    with pytest.raises(Gone):
        list(stream)
    assert all(reply.error is None for reply in generate(llm, requests(5)))


ASK = """
import sys
from tests.test_apart import MANY, requests
from pairsmith.config import ModelSpec
from pairsmith.llms.base import open_llm
where = {"base_url": sys.argv[1], "api_key_env": None, "concurrency": MANY}
stream = open_llm(ModelSpec(backend="openai", model="m", endpoint=where)).stream(requests(5000))
next(stream)
print("asking", flush=True)
list(stream)
"""


def test_it_ends_with_the_process_that_started_it(endpoint: FakeEndpoint) -> None:
    with subprocess.Popen([sys.executable, "-c", ASK, endpoint.url], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"asking\n"
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
        process.wait()
    ends = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and time.monotonic() < ends:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()


def test_a_process_that_was_forked_starts_its_own() -> None:
    assert apart._process(1) is not apart._process(2)

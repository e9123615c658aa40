"""The endpoint backend, against the fake endpoint and against llama.cpp's server."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pairsmith.config import Endpoint, ModelSpec, Recipe, Sampling
from pairsmith.errors import ConfigError
from pairsmith.ledger.ledger import Ledger
from pairsmith.llms.echo import Echo
from pairsmith.llms.endpoint import attempts as backend
from pairsmith.llms.endpoint import wire
from pairsmith.llms.recorded import Recorded
from pairsmith.llms.registry import open_llm
from pairsmith.protocol import Reply, Request
from pairsmith.session import process_session
from pairsmith.testing import FakeEndpoint, Fault
from tests.conftest import model_id
from tests.runs import generate, run

SCHEMA = {
    "type": "object",
    "properties": {"why": {"type": "string"}, "rating": {"enum": [1, 2, 3, 4, 5]}},
    "required": ["why", "rating"],
    "additionalProperties": False,
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "backoff", lambda *_: 0.01)


def spec(endpoint: FakeEndpoint | str, model: str = "m", **fields: Any) -> ModelSpec:
    url = endpoint if isinstance(endpoint, str) else endpoint.url
    return ModelSpec(backend="openai", model=model, endpoint=Endpoint(base_url=url, **{"api_key_env": None, **fields}))


def request(text: str, **fields: Any) -> Request:
    sampling = Sampling(**{"temperature": 0, "max_tokens": 60, **fields.pop("sampling", {})})
    return Request(({"role": "user", "content": text},), sampling, 1, **fields)


def ask(endpoint: FakeEndpoint | str, *requests: Request, **fields: Any) -> list[Reply]:
    return generate(open_llm(spec(endpoint, **fields), process_session()), requests)


def test_replies_come_in_order_with_tokens_and_finish_reasons() -> None:
    asked = [request(f"Question {n}?") for n in range(40)] + [request("[echo: long]", sampling={"max_tokens": 5})]
    with FakeEndpoint(latency=0.01) as endpoint:
        replies = ask(endpoint, *asked)
    assert [r.text for r in replies] == [r.text for r in generate(Echo(ModelSpec(backend="echo", model="m")), asked)]
    assert [r.finish_reason for r in replies] == ["stop"] * 40 + ["length"]
    assert replies[0].n_tokens > 0
    assert replies[0].n_prompt_tokens > 0


def test_the_concurrency_holds_for_all_streams_of_a_process() -> None:
    import threading

    with FakeEndpoint(latency=0.05) as endpoint:
        llm = spec(endpoint, concurrency=4)
        threads = [
            threading.Thread(
                target=generate, args=(open_llm(llm, process_session()), [request(f"{k} {n}") for n in range(10)])
            )
            for k in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert endpoint.busiest == 4
        assert len(endpoint.journal) == 30


@pytest.mark.parametrize("usage", [None, {"total_tokens": 3}, {"prompt_tokens": None, "completion_tokens": None}])
def test_odd_usage_and_lone_surrogates_stop_nothing(usage: Any, tmp_path: Path) -> None:
    message = {"role": "assistant", "content": "a\ud83d"}
    body = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "usage": usage,
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}  # fmt: skip
    with FakeEndpoint([Fault(200, body=json.dumps(body))]) as endpoint:
        recorded = Recorded(open_llm(spec(endpoint), process_session()), Ledger(f"sqlite:///{tmp_path}/ledger.sqlite"))
        (reply,) = generate(recorded, [request("Hi")])
    assert reply.text == "a\ufffd"
    assert reply.n_tokens == 0


def _token(token: str, logprob: float, **top: float) -> dict[str, Any]:
    others = [{"token": name.strip("_"), "logprob": value} for name, value in top.items()]
    return {"token": token, "logprob": logprob, "top_logprobs": others}


def test_probabilities_are_read_where_the_answer_begins() -> None:
    five = _token("5", -0.1, _5=-0.1, _4=-2.4)
    noise = _token("<think>", 0.0, _1=-12.0, _2=-13.0)
    thought = [noise, _token("hm", 0.0), _token("</think>", 0.0), _token("\n", 0.0), five]
    for tokens in ([five], [_token("**", 0.0), five], thought):
        choice = {"logprobs": {"content": tokens}}
        found = wire.choice_logprobs(choice, tuple("12345"))
        assert found is not None
        assert (found["5"], found["4"]) == (-0.1, -2.4)
    for tokens in ([noise], [_token("Well", 0.0, _3=-9.0), five], []):
        choice = {"logprobs": {"content": tokens}}
        assert wire.choice_logprobs(choice, tuple("12345")) is None


def test_s4_the_key_is_in_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAIRSMITH_TEST_KEY", "sk-canary")
    echoed = Fault(401, body='{"error": {"message": "bad key sk-canary"}}')
    with FakeEndpoint([echoed]) as endpoint, pytest.raises(ConfigError) as error:
        ask(endpoint, request("Hi"), api_key_env="PAIRSMITH_TEST_KEY")
    assert "canary" not in str(error.value)
    monkeypatch.delenv("PAIRSMITH_TEST_KEY")
    with pytest.raises(ConfigError, match="PAIRSMITH_TEST_KEY holds no key"):
        ask("http://127.0.0.1:9/v1", request("Hi"), api_key_env="PAIRSMITH_TEST_KEY")


def test_thoughts_are_kept_apart() -> None:
    message = {"role": "assistant", "content": "<think>hm</think>\nYes."}
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    body = json.dumps({"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": choices})
    with FakeEndpoint([Fault(200, body=body)]) as endpoint:
        (reply,) = ask(endpoint, request("Hi"))
    assert (reply.text, reply.reasoning) == ("Yes.", "hm")


def test_a_recipe_of_endpoints_and_a_rerun(echo_recipe: Callable[..., Recipe]) -> None:
    with FakeEndpoint() as endpoint:
        where = {"backend": "openai", "endpoint": {"base_url": endpoint.url, "api_key_env": None}}
        recipe = echo_recipe(
            10,
            pool={"members": [{"name": n, "model": n, **where} for n in ("a", "b")]},
            evolution={"evolver": {"model": "e", **where}},
            rating={"judges": [{"name": "j", "model": "j", "readout": "logprobs", "protocol": "pointwise", **where}],
                    "aspects": ["helpfulness"]},
        )  # fmt: skip
        _, summary, calls = run(recipe)
        assert len(endpoint.journal) == sum(calls.values()) == 20 + 20 + 40
        assert summary.paired + sum(summary.prompt_reasons.values()) == 10
        run(recipe)
        assert len(endpoint.journal) == 80


@pytest.fixture(scope="module")
def llama_server() -> Iterator[str]:
    """llama.cpp's server with the demo's smaller model, from its 4-bit file where the model store has kept it."""
    xllamacpp = pytest.importorskip("xllamacpp")
    from pairsmith.llms.local.hub_models import gguf_of

    file = gguf_of(model_id("smollm2"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(file)
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = port
    parameters.n_parallel = 4
    server = xllamacpp.Server(parameters)
    yield f"http://127.0.0.1:{port}/v1"
    del server


@pytest.mark.model
def test_a_real_server_gives_all_three_readouts(llama_server: str) -> None:
    text, made, chosen, *others = ask(
        llama_server,
        request("Name a river."),
        request("Rate bread. Answer in JSON.", schema=SCHEMA, sampling={"max_tokens": 200}),
        request("Rate bread from 1 to 5. Begin with the digit.", choices=tuple("12345")),
        *(request(f"What is {n} + {n}?") for n in range(8)),
        concurrency=4,
    )
    assert text.text.strip()
    assert text.n_tokens > 0
    assert json.loads(made.text)["rating"] in range(1, 6)
    assert set(chosen.logprobs or {}) == set("12345")
    assert all(reply.error is None for reply in others)

"""Other APIs than chat completions: how requests and responses are put into their words, and what a recipe may ask."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pairsmith.config import Endpoint, Judge, ModelSpec, Price, Recipe, Sampling
from pairsmith.errors import ConfigError
from pairsmith.ledger.ledger import Ledger
from pairsmith.llms.bills import most_of, said
from pairsmith.llms.echo import Echo
from pairsmith.llms.endpoint import anthropic, azure, bedrock
from pairsmith.llms.endpoint import attempts as backend
from pairsmith.llms.endpoint.wire import body_of, reply_of
from pairsmith.llms.registry import open_llm
from pairsmith.protocol import Reply, Request
from pairsmith.session import process_session
from pairsmith.testing import KINDS, FakeEndpoint, Fault
from tests.runs import generate, run

KEY = "PAIRSMITH_TEST_KEY"
SCHEMA = {
    "type": "object",
    "properties": {"rating": {"type": "integer", "enum": [1, 2, 3, 4, 5]}},
    "required": ["rating"],
    "additionalProperties": False,
}
PATHS = {
    "anthropic": ("anthropic", ""),
    "anthropic, up to /v1": ("anthropic", "/v1"),
    "azure, by deployment": ("azure", ""),
    "azure, a deployment's own address": ("azure", "/openai/deployments/m"),
    "azure, v1": ("azure", "/openai/v1"),
    "bedrock": ("bedrock", ""),
    "openai": ("openai", "/v1"),
}
VERSIONED = "api-version=2024-10-21"
CALLED = {"type": "tool_use", "name": "reply", "input": {"a": "é"}}
SEARCHED = {"type": "server_tool_use", "name": "web_search", "input": {"query": "A"}}
CHAT = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "One?"},
    {"role": "user", "content": "Two?"},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "Three?"},
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "backoff", lambda *_: 0.01)
    monkeypatch.setenv(KEY, "sk-1")


def request(*messages: dict[str, str], schema: Any = None, seed: int = 1, **sampling: Any) -> Request:
    asked = messages or ({"role": "user", "content": "Why?"},)
    return Request(tuple(asked), Sampling(**{"temperature": 0.5, "max_tokens": 200, **sampling}), seed, schema=schema)


def spec(endpoint: FakeEndpoint, api: str, path: str = "", **fields: Any) -> ModelSpec:
    base = endpoint.url.removesuffix("/v1") + path
    return ModelSpec(backend="openai", model="m", endpoint=Endpoint(api=api, base_url=base, api_key_env=KEY, **fields))


def ask(endpoint: FakeEndpoint, api: str, *requests: Request, path: str = "", **fields: Any) -> list[Reply]:
    return generate(open_llm(spec(endpoint, api, path, **fields), process_session()), requests or [request()])


def body(of: Request) -> dict[str, Any]:
    return body_of(of, "m", "max_tokens")


def read(content: Any, stop: str | None = "end_turn", **more: Any) -> Reply:
    answer = {
        "type": "message",
        "content": content,
        "stop_reason": stop,
        "usage": {"input_tokens": 5, "output_tokens": 2},
    }
    return reply_of(anthropic.response(answer | more), request())


@pytest.mark.parametrize("where", PATHS)
def test_an_answer_is_the_same_whichever_api_it_comes_through(where: str) -> None:
    api, path = PATHS[where]
    asked = [request({"role": "user", "content": f"Question {n}?"}, seed=0) for n in range(3)]
    asked += [request(schema=SCHEMA, seed=0), request(*CHAT, seed=0), request(max_tokens=2, seed=0)]
    with FakeEndpoint() as endpoint:
        replies = ask(endpoint, api, *asked, path=path)
    known = generate(Echo(ModelSpec(backend="echo", model="m")), [*asked[:3], *asked[5:]])
    assert [reply.text for reply in (*replies[:3], replies[5])] == [reply.text for reply in known]
    assert [reply.error for reply in replies] == [None] * 6
    assert json.loads(replies[3].text)["rating"] in range(1, 6)
    assert [reply.finish_reason for reply in replies] == ["stop"] * 5 + ["length"]
    assert sum(sum(reply.cost) for reply in replies) == endpoint.bill > 0


def test_messages_have_the_system_apart_and_turns_that_alternate() -> None:
    sent = anthropic.request(body(request(*CHAT, stop=("END",), top_k=5, schema=SCHEMA, temperature=0.2)))
    texts = [{"type": "text", "text": "One?"}, {"type": "text", "text": "Two?"}]
    assert sent == {
        "model": "m",
        "max_tokens": 200,
        "system": "Be brief.",
        "messages": [
            {"role": "user", "content": texts},
            {"role": "assistant", "content": "Yes."},
            {"role": "user", "content": "Three?"},
        ],
        "temperature": 0.2,
        "top_k": 5,
        "stop_sequences": ["END"],
        "tools": [{"name": "reply", "description": "Takes the reply.", "input_schema": SCHEMA}],
        "tool_choice": {"type": "tool", "name": "reply"},
    }


def test_converse_has_the_same_in_its_own_words() -> None:
    sent = bedrock.request(body(request(*CHAT, stop=("END",), top_k=5, schema=SCHEMA, top_p=0.9)))
    assert sent["system"] == [{"text": "Be brief."}]
    assert sent["messages"][0] == {"role": "user", "content": [{"text": "One?"}, {"text": "Two?"}]}
    assert sent["inferenceConfig"] == {"maxTokens": 200, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"]}
    assert sent["additionalModelRequestFields"] == {"top_k": 5}
    assert sent["toolConfig"]["toolChoice"] == {"tool": {"name": "reply"}}
    assert sent.keys() == {"messages", "system", "inferenceConfig", "additionalModelRequestFields", "toolConfig"}


@pytest.mark.parametrize(
    ("sampling", "sent"),
    [
        ({"temperature": 0.3}, {"temperature": 0.3}),
        ({"temperature": 1, "top_p": 0.9}, {"top_p": 0.9}),
        ({"temperature": 0.3, "top_p": 0.9}, {"temperature": 0.3}),
        ({"temperature": 1}, {"temperature": 1}),
    ],
    ids=str,
)
def test_messages_are_drawn_by_temperature_or_top_p(sampling: dict[str, float], sent: dict[str, float]) -> None:
    assert anthropic.drawn_by(body(request(**sampling))) == sent


@pytest.mark.parametrize(
    ("content", "stop", "text", "thought", "end"),
    [
        ([{"type": "text", "text": "A"}, {"type": "text", "text": "B"}], "end_turn", "AB", None, "stop"),
        ([{"type": "text", "text": "A"}], "max_tokens", "A", None, "length"),
        ([{"type": "text", "text": "A"}], "stop_sequence", "A", None, "stop"),
        ([{"type": "text", "text": "A"}], "pause_turn", "A", None, "length"),
        ([{"type": "text", "text": "A"}], "model_context_window_exceeded", "A", None, "length"),
        ([{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "A"}], "end_turn", "A", "Hm.", "stop"),
        ([{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "A"}], "end_turn", "A", None, "stop"),
        ([{"type": "text", "text": "So:"}, CALLED], "tool_use", '{"a": "é"}', None, "stop"),
        ([SEARCHED, {"type": "text", "text": "A", "citations": []}], "end_turn", "A", None, "stop"),
        (["x", None, {"type": "text", "text": None}, {"type": "text", "text": "A"}], None, "A", None, "stop"),
        ("A", "end_turn", "A", None, "stop"),
    ],
)
def test_messages_are_read(content: Any, stop: str | None, text: str, thought: str | None, end: str) -> None:
    reply = read(content, stop)
    assert (reply.text, reply.reasoning, reply.finish_reason, reply.error) == (text, thought, end, None)
    assert reply.cost == (5, 2)


def test_what_is_no_answer_is_an_error_and_is_billed_once() -> None:
    assert "tool_use" in str(read([{"type": "tool_use", "name": "other", "input": {}}], "tool_use").error)
    assert read(None).cost == (5, 2)
    for answer in ({"type": "error", "error": {"type": "api_error"}}, [1], None, {"content": []}):
        assert anthropic.response(answer) == answer
    for answer in ({"message": "no"}, {"output": None}, {"output": {"message": {"content": None}}}, None):
        assert bedrock.response(answer) == answer
    broken = {"output": {"message": {"content": [{"text": "A"}]}}, "stopReason": "malformed_model_output"}
    assert reply_of(bedrock.response(broken), request()).finish_reason == "length"


ODD: tuple[Any, ...] = (None, 5, "a", [], ["a"], [5], {}, [None], [{}], True)


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_odd_types_in_a_response_are_no_error_of_ours(odd: Any) -> None:
    blocks = [{"type": odd, "text": odd}, {"type": "text", "text": odd}, {"type": "thinking", "thinking": odd},
              {"type": "tool_use", "name": odd}, {"type": "tool_use", "name": "reply"}]  # fmt: skip
    for content in (odd, blocks):
        said_there = {"content": content, "stop_reason": odd, "stop_details": {"explanation": odd}, "usage": odd}
        assert set(anthropic.response(said_there)) == {"choices", "usage"}
    parts = [{"text": odd}, {"toolUse": odd}, {"toolUse": {"name": "reply"}}, {"reasoningContent": odd},
             {"reasoningContent": {"reasoningText": {"text": odd}}}]  # fmt: skip
    for content in (odd, parts):
        bedrock.response({"output": {"message": {"content": content}}, "stopReason": odd, "usage": odd})
        bedrock.response({"output": content, "stopReason": odd})
    made = anthropic.response({"content": blocks, "stop_reason": "end_turn", "usage": odd})
    assert reply_of(made, request()).logprobs is None


def test_a_refusal_is_told_as_one_and_is_not_asked_again() -> None:
    reply = read([], "refusal", stop_details={"type": "refusal", "explanation": "This is about weapons."})
    assert reply.final
    assert reply.error
    assert reply.cost == (5, 2)
    guarded = {"output": {"message": {"content": [{"text": "Blocked."}]}}, "stopReason": "guardrail_intervened"}
    assert reply_of(bedrock.response(guarded), request()).final


def test_thoughts_and_tools_of_converse_are_read() -> None:
    thought = {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "x"}}}
    content = [thought, {"reasoningContent": {"redactedContent": "eA=="}}, {"text": "A"}]
    answer = {"output": {"message": {"role": "assistant", "content": content}}, "stopReason": "end_turn"}
    reply = reply_of(
        bedrock.response(answer | {"usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7}}), request()
    )
    assert (reply.text, reply.reasoning, reply.finish_reason, reply.cost) == ("A", "Hm.", "stop", (3, 4))
    called = {
        "output": {"message": {"content": [{"toolUse": {"name": "reply", "input": {"a": 1}}}]}},
        "stopReason": "tool_use",
    }
    assert reply_of(bedrock.response(called), request()).text == '{"a": 1}'


@pytest.mark.parametrize(
    ("usage", "prompt"),
    [
        ({"input_tokens": 5, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 75}, 100),
        ({"input_tokens": 5, "cache_creation_input_tokens": None, "cache_read_input_tokens": 0}, 5),
        ({"inputTokens": 5, "cacheReadInputTokens": 40, "cacheWriteInputTokens": 2}, 47),
        ({"prompt_tokens": 100, "cache_read_input_tokens": 75}, 100),
    ],
    ids=["anthropic", "no cache", "bedrock", "a gateway that counts them in"],
)
def test_cached_tokens_of_a_prompt_are_counted(usage: dict[str, Any], prompt: int) -> None:
    assert said({"usage": usage})[0] == prompt


def test_a_request_is_held_at_what_a_schema_adds_to_it_too() -> None:
    plain, formed = most_of(request())[0], most_of(request(schema=SCHEMA))[0]
    assert formed > plain + len(json.dumps(SCHEMA)) + 346  # tokens that Anthropic says a tool adds at most


@pytest.mark.parametrize("api", ["anthropic", "azure", "bedrock"])
def test_errors_pass_or_stop_or_concern_one_request(api: str) -> None:
    with FakeEndpoint([KINDS["529"], Fault(429, headers={"retry-after": "0.05"}), KINDS["garbage"]]) as endpoint:
        assert ask(endpoint, api)[0].error is None
        assert len(endpoint.times) == 4
        endpoint.fail(Fault(400, '{"message": "too odd"}'))
        one, other = ask(endpoint, api, request(), request(seed=2), concurrency=1)
        assert "too odd" in str(one.error)
        assert other.error is None
        endpoint.fail(Fault(401, '{"message": "who?"}'))
        with pytest.raises(ConfigError, match="who"):
            ask(endpoint, api)


def test_overload_does_not_count_as_an_endpoint_that_is_down() -> None:
    with FakeEndpoint([KINDS["529"]] * 2) as endpoint:
        assert ask(endpoint, "anthropic", breaker=1, deadline=5)[0].error is None


def test_a_model_that_failed_at_bedrock_is_asked_again() -> None:
    with FakeEndpoint([Fault(424, '{"message": "The model failed"}')]) as endpoint:
        assert ask(endpoint, "bedrock")[0].error is None


def test_a_prompt_that_azure_filters_is_refused_alone() -> None:
    with FakeEndpoint([KINDS["filtered"]]) as endpoint:
        one, other = ask(endpoint, "azure", request(), request(seed=2), concurrency=1)
    assert "content_filter" in str(one.error)
    assert '"hate": {"filtered": true' in str(one.error)
    assert other.error is None


def test_an_account_without_money_stops_the_run() -> None:
    told = {"type": "invalid_request_error", "message": "Your credit balance is too low to access the Anthropic API."}
    fault = Fault(400, json.dumps({"type": "error", "error": told}))
    with FakeEndpoint([fault]) as endpoint, pytest.raises(ConfigError, match="credit balance is too low"):
        ask(endpoint, "anthropic")


def test_a_limit_that_is_used_up_is_waited_for() -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=0.4)).isoformat().replace("+00:00", "Z")
    limits = {"anthropic-ratelimit-input-tokens-remaining": "0", "anthropic-ratelimit-input-tokens-reset": soon}
    others = {
        "anthropic-ratelimit-requests-remaining": "9",
        "anthropic-ratelimit-requests-reset": "2099-01-01T00:00:00Z",
    }
    with FakeEndpoint([Fault(429, headers=limits | others)]) as endpoint:
        assert ask(endpoint, "anthropic")[0].error is None
    assert endpoint.times[1] - endpoint.times[0] > 0.2
    assert (
        anthropic.wait({"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "soon"}) == 0
    )


@pytest.mark.parametrize(
    ("api", "key", "shown"),
    [
        ("anthropic", "sk-1", {"x-api-key": "sk-1", "anthropic-version": "2023-06-01"}),
        ("azure", "sk-1", {"api-key": "sk-1"}),
        ("azure", "eyJhbGciOi.eyJhdWQi.c2ln", {"authorization": "Bearer eyJhbGciOi.eyJhdWQi.c2ln"}),
        ("bedrock", "sk-1", {"authorization": "Bearer sk-1"}),
        ("openai", "sk-1", {"authorization": "Bearer sk-1"}),
    ],
)
def test_a_key_goes_where_the_api_wants_it(
    monkeypatch: pytest.MonkeyPatch, api: str, key: str, shown: dict[str, str]
) -> None:
    monkeypatch.setenv(KEY, key)
    with FakeEndpoint() as endpoint:
        ask(endpoint, api, path="/v1" if api == "openai" else "", headers={"X-Team": "blue"})
    headers = endpoint.headers[0]
    names = {"x-api-key", "anthropic-version", "api-key", "authorization"} & headers.keys()
    assert {name: headers[name] for name in names} == shown
    assert headers["x-team"] == "blue"


@pytest.mark.parametrize(
    ("base_url", "version", "path"),
    [
        ("", None, "/openai/deployments/m/chat/completions?" + VERSIONED),
        ("/", "2025-01-01-preview", "/openai/deployments/m/chat/completions?api-version=2025-01-01-preview"),
        ("/openai", None, "/openai/deployments/m/chat/completions?" + VERSIONED),
        ("/openai/deployments/d", None, "/openai/deployments/d/chat/completions?" + VERSIONED),
        ("/openai/deployments/d/chat/completions", None, "/openai/deployments/d/chat/completions?" + VERSIONED),
        ("/openai/v1/", None, "/openai/v1/chat/completions"),
        ("/openai/v1", "preview", "/openai/v1/chat/completions?api-version=preview"),
        ("/models", "2024-05-01-preview", "/models/chat/completions?api-version=2024-05-01-preview"),
    ],
)
def test_azure_has_two_styles_of_addresses(base_url: str, version: str | None, path: str) -> None:
    resource = "https://r.openai.azure.com"
    assert azure.url(resource + base_url, "m", version) == resource + path


@pytest.mark.parametrize(
    ("base_url", "api"),
    [
        ("https://api.anthropic.com", "anthropic"),
        ("https://api.anthropic.com/v1", "openai"),  # chat completions are spoken there too, and were until now
        ("https://r.services.ai.azure.com/anthropic", "anthropic"),
        ("https://r.openai.azure.com", "azure"),
        ("https://R.OpenAI.Azure.com/openai/deployments/d", "azure"),
        ("https://r.openai.azure.us/", "azure"),
        ("https://r.openai.azure.com/openai/v1", "openai"),
        ("https://gateway.example.org/v1/messages", "anthropic"),
        ("https://openai.azure.com.example.org", "openai"),
        ("https://bedrock-runtime.eu-west-1.amazonaws.com", "bedrock"),
        ("https://bedrock-runtime.eu-west-1.amazonaws.com/openai/v1", "openai"),
        ("https://example.org/api.anthropic.com", "openai"),
        ("http://127.0.0.1:8000/v1", "openai"),
    ],
)
def test_an_api_is_told_by_an_address_that_leaves_no_doubt(base_url: str, api: str) -> None:
    endpoint = Endpoint(base_url=base_url)
    assert endpoint.api == api
    assert Endpoint.model_validate(endpoint.model_dump(mode="json")) == endpoint
    assert Endpoint(base_url=base_url, api="openai").api == "openai"


def test_an_address_as_a_portal_shows_it_is_taken() -> None:
    shown = "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-08-01-preview"
    endpoint = Endpoint(base_url=shown)
    assert (endpoint.api, endpoint.api_version) == ("azure", "2024-08-01-preview")
    assert azure.url(endpoint.base_url, "m", endpoint.api_version) == shown
    for shown in ("https://x.example.org/v1/chat/completions", "https://x.example.org/v1/chat/completions/"):
        assert Endpoint(base_url=shown).base_url == "https://x.example.org/v1"
    project = "https://aiplatform.googleapis.com/v1/projects/p/locations/l"
    for shown in (
        "",
        "/publishers/anthropic",
        "/publishers/anthropic/models/",
        "/publishers/anthropic/models/c:rawPredict",
    ):
        assert anthropic.url(project + shown, "m", None) == f"{project}/publishers/anthropic/models/m:rawPredict"
    for shown in ("", "/", "/model", "/model/c%3A0/converse", "/model/c%3A0/invoke"):
        assert bedrock.url(f"https://b.example.org{shown}", "m", None) == "https://b.example.org/model/m/converse"
    assert anthropic.url("https://api.anthropic.com/v1/messages", "m", None) == "https://api.anthropic.com/v1/messages"


def test_what_an_api_leaves_no_doubt_about_need_not_be_written() -> None:
    assert (Endpoint().base_url, Endpoint().api_key_env) == ("https://api.openai.com/v1", "OPENAI_API_KEY")
    one = Endpoint(api="anthropic")
    assert (one.base_url, one.api_key_env) == ("https://api.anthropic.com", "ANTHROPIC_API_KEY")
    assert Endpoint(api="anthropic", api_key_env=None).api_key_env is None
    assert Endpoint(api="anthropic", api_key_block="a-block").api_key_env is None
    assert Endpoint(base_url="https://r.openai.azure.com").api_key_env == "AZURE_OPENAI_API_KEY"
    assert Endpoint(base_url="https://r.openai.azure.com/openai/v1").api_key_env == "OPENAI_API_KEY"


@pytest.mark.parametrize(
    ("fields", "endpoint", "told"),
    [
        ({}, {"api": "azure"}, "endpoint.base_url: api azure needs one, such as https://RESOURCE.openai.azure.com"),
        ({}, {"api": "bedrock"}, "endpoint.base_url: api bedrock needs one"),
        ({}, {"api": "antropic"}, "did you mean anthropic"),
        ({}, {"api": "anthropic", "mode": "batch"}, "endpoint.mode: batch does not go with api anthropic"),
        ({}, {"base_url": "https://r.openai.azure.com", "mode": "batch"}, "batch does not go with api azure"),
        ({}, {"credentials": "google"}, "endpoint.base_url: credentials need one"),
        ({}, {"credentials": "google", "api": "anthropic"}, "endpoint.base_url: credentials need one"),
        (
            {},
            {"base_url": "http://v/v1", "credentials": "google", "mode": "batch"},
            "batch does not go with credentials",
        ),
        ({}, {"base_url": "http://v/v1", "credentials": "google", "api_key_env": KEY}, "credentials stand for a key"),
        ({"sampling": {"temperature": 1.2}}, {"api": "anthropic"}, "temperature: api anthropic takes 1 at most"),
        ({"sampling": {"top_p": 0.9}}, {"api": "anthropic"}, "api anthropic takes temperature or top_p"),
        (
            {"name": "j", "readout": "logprobs", "protocol": "pointwise"},
            {"api": "anthropic"},
            "judge j: api anthropic gives no logprobs; use readout text or json",
        ),
    ],
    ids=str,
)
def test_what_an_api_does_not_take_is_refused_before_a_run(fields: Any, endpoint: Any, told: str) -> None:
    kind = Judge if "name" in fields else ModelSpec
    with pytest.raises(ValidationError, match=told):
        kind(backend="openai", model="m", endpoint=Endpoint(**endpoint), **fields)


@pytest.mark.parametrize("api", ["anthropic", "azure", "bedrock"])
def test_a_recipe_runs_within_its_budget(echo_recipe: Callable[..., Recipe], api: str, tmp_path: Path) -> None:
    with FakeEndpoint([KINDS["529"]]) as endpoint:
        where = {"api": api, "base_url": endpoint.url.removesuffix("/v1"), "api_key_env": KEY}
        model = {"backend": "openai", "endpoint": where, "price": Price(prompt=1, completion=2).model_dump()}
        members = [{"name": name, "model": name, **model} for name in "ab"]
        judges = [{"name": "j", "model": "j", "readout": "json", **model}]
        changes = {"pool": {"members": members}, "rating": {"judges": judges}, "budget": {"tokens": 10_000_000}}
        recipe = echo_recipe(6, evolution=None, **changes)
        published, summary, _ = run(recipe)
        with closing(Ledger(recipe.ledger_url)) as ledger:
            assert ledger.spending.spent(recipe.name)[0] == endpoint.bill
            assert ledger.spending.doubts() == {"unusable": 0, "reckoned": 0}
        asked = sum(endpoint.asked.values())
        run(recipe)
        assert sum(endpoint.asked.values()) == asked
    assert summary.members["a"]["failed"] == 0
    assert published.pairs > 0

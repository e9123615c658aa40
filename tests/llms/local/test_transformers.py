"""The transformers backend on tiny models of random weights, compared with plain transformers one row at a time."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairsmith.config import LocalOptions, ModelSpec, Sampling
from pairsmith.errors import ConfigError
from pairsmith.llms.local import attention, decoding, machine, scheduling, slots, weights
from pairsmith.llms.local import transformers as backend
from pairsmith.llms.local.slots import Slots, checked_slots
from pairsmith.llms.registry import open_llm
from pairsmith.protocol import Message, Reply, Request
from pairsmith.session import process_session
from tests.conftest import clean_environment, model_id
from tests.runs import generate
from tests.tiny import model_at

RUBRIC = "Rate how well the text answers. " * 3
ASKED = [
    *[f"Say something about {word}." for word in ("rain", "salt", "an old and very winding river", "x")],
    *[f"{RUBRIC} Text {number}: {text}" for number in (1, 2) for text in ("yes", "no", "perhaps, at times")],
]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_at(tmp_path_factory.mktemp("llama"), head="CausalLM", max_position_embeddings=512)


@pytest.fixture(autouse=True)
def loaded_anew() -> Iterator[None]:
    weights.shelf_of(process_session()).loaded.clear()
    yield
    weights.shelf_of(process_session()).loaded.clear()


def spec(folder: Path, **local: Any) -> ModelSpec:
    return ModelSpec(model=str(folder), local=LocalOptions(device="cpu", **local))


def request(text: str, sampling: dict[str, Any] | None = None, seed: int = 1, **fields: Any) -> Request:
    chat: tuple[Message, ...] = ({"role": "user", "content": text},)
    return Request(chat, Sampling(**{"temperature": 0, "max_tokens": 12, **(sampling or {})}), seed, **fields)


def plain(folder: Path, asked: Request) -> tuple[list[int], str]:
    """The new tokens by `generate`, and their text up to the first end."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    encoded = tokenizer.apply_chat_template(
        list(asked.messages), add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.inference_mode():
        out = model.generate(
            **encoded, max_new_tokens=asked.sampling.max_tokens, do_sample=False, pad_token_id=0, eos_token_id=1
        )
    tokens = out[0, encoded["input_ids"].shape[1] :].tolist()
    return tokens, tokenizer.decode([token for token in tokens if token != 1], skip_special_tokens=True)


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Qwen3", "Mistral", "Gemma"])
@pytest.mark.parametrize("rows", [1, 3, 32])
def test_greedy_texts_are_those_of_plain_generate(tmp_path: Path, kind: str, rows: int) -> None:
    settings = {"sliding_window": None} if kind == "Mistral" else {}
    folder = model_at(tmp_path, kind, head="CausalLM", max_position_embeddings=512, head_dim=8, **settings)
    asked = [request(text, {"max_tokens": 3 + number}) for number, text in enumerate(ASKED)]
    replies = generate(open_llm(spec(folder, batch_size=rows), process_session()), asked)
    assert only_engine().scheduler
    for one, reply in zip(asked, replies, strict=True):
        tokens, text = plain(folder, one)
        assert reply.text == text
        assert reply.finish_reason == ("stop" if 1 in tokens else "length")
        assert reply.n_tokens == len([token for token in tokens if token != 1])


def test_rows_of_unlike_lengths_look_back_by_spans(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    looking_back = slots.looking_back

    def noted(these: Any) -> Any:
        looked.append(len(these))
        return looking_back(these)

    monkeypatch.setattr(slots, "looking_back", noted)
    monkeypatch.setattr(scheduling, "FEW", 1)
    asked = [request(f"{number}" + " word" * (number * number // 8)) for number in range(26)]
    replies = generate(open_llm(spec(llama, batch_size=26), process_session()), asked)
    assert max(looked) > 1
    assert [reply.text for reply in replies] == [plain(llama, one)[1] for one in asked]


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=9))
def test_spans_are_the_cheapest(ends: list[int]) -> None:
    def cost(begins: Sequence[int]) -> int:
        parts = [ends[first:last] for first, last in pairwise([*begins, len(ends)])]
        return sum(attention.SPAN_COST + len(part) * max(part) for part in parts)

    found = attention.spans(ends)
    ways = [(0, *rest) for count in range(len(ends)) for rest in combinations(range(1, len(ends)), count)]
    assert cost([span.first for span in found]) == min(map(cost, ways))


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=200))
def test_spans_see_as_much_as_their_longest_row(ends: list[int]) -> None:
    found = attention.spans(ends)
    assert found[0].first == 0
    for span, last in zip(found, [span.first for span in found[1:]] + [len(ends)], strict=True):
        assert span.seen == max(ends[span.first : last])


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 5), st.integers(1, 40))
def test_rows_are_dealt_to_sessions_each_once_and_the_long_ones_evenly(
    lengths: list[int], sessions: int, free: int
) -> None:
    rows = [decoding.Row(n, request("", {"max_tokens": 1}), [n] * length) for n, length in enumerate(lengths)]
    waiting = decoding.WaitingRows()
    waiting.add(decoding.Call(rows))
    first = [waiting.take(place, sessions, 0, free, 100) for place in range(sessions)]
    taken = [part[1] if part else [] for part in first]
    sizes = [len(part) for part in taken]
    if free * sessions >= len(rows):
        assert sum(sizes) == len(rows)
        assert max(sizes) - min(sizes) <= -(-len(rows) // sessions)
    if sessions * free <= len(rows):
        assert sizes == [free] * sessions
        longest = [max(row.room for row in part) for part in taken]
        assert min(longest) >= sorted((row.room for row in rows), reverse=True)[sessions - 1]
    for place in range(sessions):
        waiting.leave(place)
    while left := waiting.take("another", 1, 0, free, 100):
        taken.append(left[1])
    assert sorted(row.index for part in taken for row in part) == list(range(len(rows)))


ENDS = {"bos_token_id": 0, "eos_token_id": 1}
LOCAL = {"attention_types": [[["global", "local"], 1]], "window_size": 16, **ENDS}
CHUNKS = {"attention_chunk_size": 16, "head_dim": 8, **ENDS}


@pytest.mark.parametrize("kind", ["Mistral", "Gemma2", "Gemma3Text", "Olmo3", "GptOss"])
@pytest.mark.parametrize("rows", [1, 3, 32])
def test_layers_that_see_a_window_see_no_more(tmp_path: Path, kind: str, rows: int) -> None:
    sizes = {"num_local_experts": 4, "num_experts_per_tok": 2} if kind == "GptOss" else {}
    mixed = {} if kind == "Mistral" else {"layer_types": ["sliding_attention", "full_attention"]}
    settings = {"max_position_embeddings": 512, "head_dim": 8, "sliding_window": 16, **ENDS, **sizes, **mixed}
    folder = model_at(tmp_path, kind, head="CausalLM", **settings)
    asked = [request(text, {"max_tokens": 3 + 2 * number}) for number, text in enumerate(ASKED)]
    replies = generate(open_llm(spec(folder, batch_size=rows), process_session()), asked)
    assert only_engine().scheduler
    assert [reply.text for reply in replies] == [plain(folder, one)[1] for one in asked]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("GPTNeo", LOCAL), ("Llama4Text", CHUNKS), ("Moshi", {"sliding_window": 16, **ENDS}), ("Mamba", ENDS)],
)
def test_models_with_states_and_windows_of_their_own_are_left_to_generate(
    tmp_path: Path, kind: str, settings: dict[str, Any]
) -> None:
    folder = model_at(tmp_path, kind, head="CausalLM", max_position_embeddings=512, **settings)
    asked = [request(text) for text in ASKED]
    replies = generate(open_llm(spec(folder, batch_size=3), process_session()), asked)
    assert not only_engine().scheduler
    assert [reply.text for reply in replies] == [plain(folder, one)[1] for one in asked]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_dtype_works_whether_or_not_the_processor_has_it(llama: Path, dtype: str) -> None:
    replies = generate(open_llm(spec(llama, dtype=dtype), process_session()), [request(text) for text in ASKED])
    assert [reply.error for reply in replies] == [None] * len(ASKED)
    assert all(reply.n_tokens for reply in replies)


def test_slots_are_filled_copied_and_extended_in_any_order(llama: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(llama).eval()
    assert checked_slots(model)
    rows = [[5, 6, 7, 8, 9, 10], [20, 21, 22], [5, 6, 7, 30]]
    slots = Slots(model, 4, 8)
    with torch.inference_mode():
        slots.extend([3, 1], [rows[0][:3], rows[1][:1]], [0, 0])
        slots.copy(3, [0, 2], 0, 3)
        got = slots.extend([2, 1, 0], [rows[0][3:], rows[1][1:], rows[2][3:]], [3, 1, 3])
        for row, logits in zip(rows, got, strict=True):
            assert torch.allclose(model(torch.tensor([row])).logits[0, -1], logits, atol=1e-4)


def test_what_rows_share_is_computed_once(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []
    extend = Slots.extend
    monkeypatch.setattr(Slots, "extend", lambda self, s, tokens, starts: (
        computed.append(sum(map(len, tokens))) or extend(self, s, tokens, starts)  # type: ignore[func-returns-value]
    ))  # fmt: skip
    asked = [request(f"{RUBRIC} {number}", {"max_tokens": 1}) for number in range(8)]
    engine = loaded(llama)
    replies = generate(open_llm(spec(llama), process_session()), asked)
    alone = sum(len(engine.encode(one.messages)) for one in asked)
    assert sum(computed) < alone / 2  # each core computes the rubric once
    assert [reply.text for reply in replies] == [plain(llama, one)[1] for one in asked]


def test_f17_sampled_texts_depend_on_the_seed_alone(llama: Path) -> None:
    ways: tuple[dict[str, Any], ...] = ({"temperature": 1.0}, {"temperature": 0.7, "top_p": 0.9}, {"top_k": 20})
    asked = [request(text, ways[n % 3], seed=n) for n, text in enumerate([*ASKED, *ASKED])]
    together = generate(open_llm(spec(llama), process_session()), asked)
    backwards = generate(open_llm(spec(llama, batch_size=2), process_session()), asked[::-1])[::-1]
    assert [reply.text for reply in together] == [reply.text for reply in backwards]
    assert len({reply.text for reply in together}) == len(asked)


def test_a_reply_is_handed_over_while_others_are_written(llama: Path) -> None:
    asked = [request("short", {"max_tokens": 1}), request("long", {"max_tokens": 100})]
    first, *rest = open_llm(spec(llama), process_session()).stream(asked)
    assert [index for index, _ in first] == [0]
    assert [index for group in rest for index, _ in group] == [1]


def test_a_model_that_does_not_write_is_refused(tmp_path: Path) -> None:
    folder = model_at(tmp_path / "judge")
    with pytest.raises(ConfigError, match=r"judge: no model that writes texts: it lacks the weights lm_head\.weight"):
        generate(open_llm(spec(folder), process_session()), [request("Hi")])


def test_a_model_whose_end_is_token_0_ends_there(tmp_path: Path) -> None:
    folder = model_at(tmp_path, head="CausalLM", max_position_embeddings=512, eos_token_id=0)
    engine = weights.shelf_of(process_session()).take(backend.TextModel, str(folder), spec(folder))
    assert engine.tokenizer.eos_token_id == 1
    assert engine.vocabulary.eos == [0]


def test_a_stop_string_ends_a_row_and_is_cut_off(llama: Path) -> None:
    whole = plain(llama, request("Go on", {"max_tokens": 40}))[1]
    stop = whole[7:9]
    (reply,) = generate(
        open_llm(spec(llama), process_session()), [request("Go on", {"max_tokens": 40, "stop": (stop,)})]
    )
    assert reply.text == whole.split(stop)[0]
    assert reply.finish_reason == "stop"
    assert reply.n_tokens < 40


def test_choices_come_with_the_log_probabilities_of_plain_logits(llama: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    asked = [request(text, {"max_tokens": 1}, choices=tuple("12345")) for text in ASKED]
    replies = generate(open_llm(spec(llama), process_session()), asked)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(llama).eval(), AutoTokenizer.from_pretrained(llama)
    digits = [tokenizer(digit, add_special_tokens=False)["input_ids"][0] for digit in "12345"]
    for one, reply in zip(asked, replies, strict=True):
        ids = tokenizer.apply_chat_template(list(one.messages), add_generation_prompt=True, return_dict=True)
        with torch.inference_mode():
            logits = model(torch.tensor([ids["input_ids"]])).logits[0, -1]
        expected = torch.log_softmax(logits[digits], -1).tolist()
        assert list((reply.logprobs or {}).values()) == pytest.approx(expected, abs=1e-4)
        assert reply.text == "12345"[max(range(5), key=lambda place: expected[place])]
    with pytest.raises(ConfigError, match="one token each"):
        generate(open_llm(spec(llama), process_session()), [request("x", choices=("12",))])


def test_calls_of_several_threads_share_slots_and_get_what_is_theirs(llama: Path) -> None:
    llm, got = open_llm(spec(llama, batch_size=4), process_session()), dict[int, list[Reply]]()
    asked = {n: [request(f"{text} {n}") for text in ASKED[: 3 + n]] for n in range(4)}
    threads = [
        threading.Thread(target=lambda n=n: got.update({n: generate(llm, asked[n])})) for n in asked  # type: ignore[misc]
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for n, requests in asked.items():
        assert [reply.text for reply in got[n]] == [plain(llama, one)[1] for one in requests]


def test_running_out_of_memory_halves_the_rows_and_loses_none(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    admitted, step = list[int](), decoding.ContinuousBatch.step

    def tight(self: decoding.ContinuousBatch) -> None:
        admitted.append(self.count)
        if self.count > 2:
            raise MemoryError
        step(self)

    monkeypatch.setattr(decoding.ContinuousBatch, "step", tight)
    asked = [request(text) for text in ASKED]
    replies = generate(open_llm(spec(llama, batch_size=8), process_session()), asked)
    assert {8, 2} <= {*admitted}
    assert [reply.text for reply in replies] == [plain(llama, one)[1] for one in asked]


def test_a_row_that_no_memory_is_enough_for_is_an_error_to_try_again(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(self: decoding.ContinuousBatch) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(decoding.ContinuousBatch, "step", no_room)
    (reply,) = generate(open_llm(spec(llama), process_session()), [request("x")])
    assert "out of memory" in (reply.error or "")
    assert not reply.final


def test_an_error_in_a_pass_is_raised_and_the_engine_goes_on(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = decoding.ContinuousBatch.step

    def broken(self: decoding.ContinuousBatch) -> None:
        raise ValueError("broken")

    monkeypatch.setattr(decoding.ContinuousBatch, "step", broken)
    llm = open_llm(spec(llama), process_session())
    with pytest.raises(ValueError, match="broken"):
        generate(llm, [request(text) for text in ASKED])
    monkeypatch.setattr(decoding.ContinuousBatch, "step", step)
    assert [reply.text for reply in generate(llm, [request("x")])] == [plain(llama, request("x"))[1]]


def test_a_call_that_is_given_up_leaves_its_slots(llama: Path) -> None:
    llm = open_llm(spec(llama, batch_size=2), process_session())
    stream = llm.stream([request(text, {"max_tokens": 400}) for text in ("a", "b", "c", "d", "e", "f", "g")])
    short = generate(llm, [request("x")])  # the first call has not begun: a generator waits to be asked
    del stream
    stream = llm.stream([request("q", {"max_tokens": 1}), *(request(t, {"max_tokens": 400}) for t in "abcdefg")])
    next(stream)
    stream.close()
    assert generate(llm, [request("x")]) == short
    assert only_engine().is_idle


def test_the_bound_of_memory_decides_how_many_rows_go_together(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "used_memory", lambda device: 1.0e9)
    engine = loaded(llama, memory_gb=1.251)
    room, row = 64, 64 * 2 * 2 * 2 * 8 * 4  # layers, keys and values, heads, size of a head, bytes
    fitting = int(1e6 / engine.lane.width / row - 1)
    assert engine.scheduler.slots_that_fit(engine.model, engine.lane, 10_000, room) == fitting
    assert engine.scheduler.slots_that_fit(engine.model, engine.lane, 2, room) == 2
    assert loaded(llama, memory_gb=0.1).scheduler.slots_that_fit(engine.model, engine.lane, 8, room) == 1


def test_weights_that_rest_make_room_for_others(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = model_at(tmp_path, "Qwen2", head="CausalLM")
    first = loaded(llama)
    assert loaded(llama) is first
    monkeypatch.setattr(weights, "free_memory", lambda device: 0)
    with first.in_use():
        loaded(other)
        assert len(weights.shelf_of(process_session()).loaded) == 2
    weights.shelf_of(process_session()).loaded.pop(
        next(name for name in weights.shelf_of(process_session()).loaded if name[0] == str(other))
    )
    loaded(other)
    assert [name[0] for name in weights.shelf_of(process_session()).loaded] == [str(other)]


def test_the_layout_is_measured_once_per_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(machine, "cores", lambda: 4)
    monkeypatch.setattr(
        machine, "_passes_a_second", lambda replicas, threads: measured.append((replicas, threads)) or 1.3 * threads
    )
    for _ in range(2):
        machine.cpu_layout.cache_clear()
        assert machine.cpu_layout() == (1, 4)
    assert measured == [(4, 1), (2, 2), (1, 4)]
    machine.cpu_layout.cache_clear()


def loaded(folder: Path, **local: Any) -> backend.TextModel:
    return weights.shelf_of(process_session()).take(backend.TextModel, str(folder), spec(folder, **local))


def only_engine() -> Any:
    (engine,) = weights.shelf_of(process_session()).loaded.values()
    return engine


ASKING = """
import sys
from pairsmith.config import LocalOptions, ModelSpec, Sampling
from pairsmith.llms.recorded import Recorded; from pairsmith.ledger.ledger import open_ledger
from pairsmith.protocol import Request; from pairsmith.llms.registry import open_llm
from pairsmith.session import process_session

folder, ledger = sys.argv[1:]
spec = ModelSpec(model=folder, local=LocalOptions(device="cpu", batch_size=2))
llm = Recorded(open_llm(spec, process_session()), open_ledger(ledger, process_session()))
sampling = Sampling(temperature=0, max_tokens=200)
for group in llm.stream([Request(({"role": "user", "content": f"Number {n}"},), sampling, n) for n in range(24)]):
    print(len(group), flush=True)
print("asked", llm.calls, flush=True)
"""


def test_f01_a_kill_loses_only_rows_in_slots(llama: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", ASKING, str(llama), f"sqlite:///{tmp_path}/ledger.sqlite"]
    with subprocess.Popen(command, env=clean_environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        handed_over = sum(int(next(process.stdout)) for _ in range(5))
        process.kill()
    told = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=True).stdout
    asked = int(told.split("asked ")[1])
    assert asked <= 24 - handed_over


MEASURED = r"""
import re, sys
from pathlib import Path
from pairsmith.config import LocalOptions, ModelSpec, Sampling
from pairsmith.protocol import Request; from pairsmith.llms.registry import open_llm
from pairsmith.session import process_session

spec = ModelSpec(model=sys.argv[1], local=LocalOptions(device="cpu", memory_gb=2))
sampling = Sampling(temperature=0, max_tokens=4)
asked = [Request(({"role": "user", "content": "Write a story. " * 60 + str(n)},), sampling, 1) for n in range(24)]
replies = [reply for group in open_llm(spec, process_session()).stream(asked) for _, reply in group]
assert len(replies) == 24 and not any(reply.error for reply in replies)
print(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])  # unlike ru_maxrss, without its parent's
"""


@pytest.mark.model
def test_the_bound_of_memory_is_kept() -> None:
    command = [sys.executable, "-c", MEASURED, model_id("smollm2")]
    told = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=True).stdout
    assert int(told.splitlines()[-1]) < 2e6

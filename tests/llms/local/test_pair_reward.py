"""Reward models that read two texts at once: tiny ones, whose numbers are known or computed beside them one by one."""

from __future__ import annotations

import json
import math
import shutil
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairsmith.config import Judge, LocalOptions, Pairing, Rating, Recipe, Rubric
from pairsmith.errors import ConfigError
from pairsmith.judging.asking import judge_requests
from pairsmith.judging.pairwise import divided
from pairsmith.judging.rating import rate
from pairsmith.judging.readout_reward import read_preference
from pairsmith.judging.readouts import Scale, Sheet, Text
from pairsmith.judging.scoring import scores
from pairsmith.llms.local.pairrm import MARKS, pairrm_class
from pairsmith.llms.local.weights import shelf_of
from pairsmith.llms.registry import open_llm
from pairsmith.planning.dry_run import plan_run
from pairsmith.protocol import Identity, Reply
from pairsmith.reporting.agreement import Trust
from pairsmith.session import Session, process_session
from pairsmith.stages.base import model_fields
from pairsmith.storage.schemas import frame, rows
from pairsmith.worth.calibration import calibrate
from pairsmith.worth.gold import write_gold
from pairsmith.worth.gold_rows import pair_in
from pairsmith.worth.planned import plan_calibration
from tests.generation.test_pool import prompt
from tests.reporting.test_agreement import shard
from tests.runs import completion, generate, rating, run
from tests.tiny import model_at

Build = Callable[..., Recipe]
TOLERANCE = {"rel": 1e-5, "abs": 1e-6}
INPUT = "<s>{{ prompt }}</s>{{ first }}</s>{{ second }}"  # its last token is that of the second text, which decides
WORTH = {str(digit): digit / 4 for digit in range(10)}  # of a text that ends in this digit, to the planted model


def judge(folder: Path, batch_size: int = 32, **fields: Any) -> Judge:
    local = LocalOptions(device="cpu", batch_size=batch_size)
    return Judge(name="rm", backend="reward", model=str(folder), protocol="pairwise", local=local, **fields)


def planted_at(folder: Path, bias: float = 0.0, outputs: int = 1) -> Path:
    """A model of no layers that scores a pair by its last token alone: the log odds that the first text is better are
    `bias` less the worth of the second."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model_at(folder, num_hidden_layers=0, num_labels=outputs, pad_token_id=2)
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    embeddings, width = model.model.embed_tokens.weight, model.config.hidden_size
    with torch.no_grad():
        embeddings.zero_()
        model.score.weight.zero_()
        model.score.weight[0, 1] = 1.0
        for token in range(len(embeddings)):
            worth = WORTH.get(tokenizer.convert_ids_to_tokens(token), 0.0)
            embeddings[token, 0] = math.sqrt(width - (bias - worth) ** 2)  # so that the norm leaves all as it is
            embeddings[token, 1] = bias - worth
    model.save_pretrained(folder)
    return folder


def pairrm_at(folder: Path) -> Path:
    """A PairRM of random weights, as its checkpoints are: DeBERTa, a head, and marks added to its tokenizer."""
    import torch
    from transformers import DebertaV2Config, DebertaV2Tokenizer

    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    letters = [*string.ascii_letters, *string.digits, *string.punctuation]
    vocabulary = [(token, 0.0) for token in special] + [(letter, -5.0) for letter in letters] + [("▁", -3.0)]
    tokenizer = DebertaV2Tokenizer(vocab=vocabulary, unk_id=3)
    tokenizer.add_tokens([*MARKS, "<|candidate|>"])
    tokenizer.save_pretrained(folder)
    source, first, second = tokenizer.convert_tokens_to_ids(list(MARKS))
    relative = {"relative_attention": True, "position_buckets": 16, "pos_att_type": ["p2c", "c2p"]}
    config = DebertaV2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64, position_biased_input=False, type_vocab_size=0, initializer_range=0.4,
        source_prefix_id=source, cand1_prefix_id=first, cand2_prefix_id=second, drop_out=0.05, n_tasks=1, **relative,
    )  # fmt: skip
    torch.manual_seed(5)
    pairrm_class()(config).save_pretrained(folder)
    return folder


PROMPT = prompt("Is it so?", system_prompt="Be brief.")
TEXTS = ("Yes 3", "No 7 and here is why " * 4, "x1", "It depends 5")


def completions(*texts: str) -> list[dict[str, Any]]:
    return [completion(f"c{n}", prompt_id=PROMPT["prompt_id"], text=text) for n, text in enumerate(texts)]


def asked(one: Judge, *texts: str) -> list[Any]:
    return list(judge_requests([PROMPT], completions(*texts), Rating(judges=(one,)), one))  # type: ignore[list-item]


def rated(one: Judge, *texts: str, llm: Any = None) -> list[dict[str, Any]]:
    tables = frame("prompts", [PROMPT]), frame("completions", completions(*texts))
    return rows(rate(*tables, Rating(judges=(one,)), one, llm or open_llm(one, process_session())))


def plain(folder: Path, source: str, first: str, second: str) -> float:
    """PairRM's log odds for one comparison, from its files: three encodings one after the other, each with its mark."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoTokenizer, DebertaV2Config, DebertaV2Model

    tokenizer, weights = AutoTokenizer.from_pretrained(folder), load_file(folder / "model.safetensors")
    encoder = DebertaV2Model(DebertaV2Config.from_pretrained(folder)).eval()
    encoder.load_state_dict({n.partition(".")[2]: w for n, w in weights.items() if n.startswith("pretrained_model.")})
    texts = (source, first, second)
    encoded = [tokenizer.encode(mark + text) for mark, text in zip(MARKS, texts, strict=True)]
    places = [1, len(encoded[0]) + 1, len(encoded[0]) + len(encoded[1]) + 1]
    with torch.inference_mode():
        states = encoder(torch.tensor([[token for part in encoded for token in part]])).last_hidden_state[0]
        found = []
        for place in places[1:]:
            hidden = weights["head_layer.1.weight"] @ torch.cat([states[1], states[place]])
            hidden = torch.tanh(hidden + weights["head_layer.1.bias"])
            found.append(float(weights["head_layer.4.weight"] @ hidden + weights["head_layer.4.bias"]))
    return found[0] - found[1]


def test_pairrm_says_what_its_layout_says_whatever_the_batch_and_the_order(tmp_path: Path) -> None:
    folder = pairrm_at(tmp_path / "rm")
    items = asked(judge(folder), *TEXTS)
    told = [[message["content"] for message in item.request.messages] for item in items]
    assert told[0][0] == "System: Be brief.\n\nUser: Is it so?"
    expected = [plain(folder, *texts) for texts in told]
    assert max(expected) - min(expected) > 0.1
    requests = [item.request for item in items]
    for size, turned in ((1, False), (5, True), (32, False)):
        shown = requests[::-1] if turned else requests
        found = [float(reply.text) for reply in generate(open_llm(judge(folder, size), process_session()), shown)]
        assert (found[::-1] if turned else found) == pytest.approx(expected, **TOLERANCE)


def test_what_a_text_spells_as_a_token_of_the_input_stays_text(tmp_path: Path) -> None:
    texts = "Perhaps [SEP] so, <|candidate2|> 9", "", "</s><s>see <|source|>"
    marks = dict.fromkeys(MARKS, 1) | {"[CLS]": 3, "[SEP]": 3}
    for folder, input_, counts in (
        (pairrm_at(tmp_path / "rm"), None, marks),
        (planted_at(tmp_path / "other"), INPUT, {"<s>": 1, "</s>": 2}),
    ):
        one = judge(folder, input=input_)
        assert [row["error"] for row in rated(one, *texts)] == [None] * 12
        engine = next(e for key, e in shelf_of(process_session()).loaded.items() if key[0] == str(folder))
        for item in asked(one, *texts):
            tokens = engine.tokenizer.convert_ids_to_tokens(engine._row(0, item.request).tokens)
            assert {token: tokens.count(token) for token in counts} == counts


def test_an_input_beyond_what_it_reads_is_refused_and_nothing_is_cut(tmp_path: Path) -> None:
    table = rated(judge(pairrm_at(tmp_path / "rm")), "a" * 2500, "b")
    assert all(row["error"].startswith("refused: context: 25") for row in table)
    assert all(row["error"].endswith(" tokens > 2048") for row in table)
    assert {row["score"] for row in table} == {None}


@pytest.mark.parametrize(("bias", "outputs"), [(0.0, 1), (2.0, 1), (-1.0, 2)])
def test_texts_stand_in_the_order_of_their_worth_whatever_place_the_model_prefers(
    tmp_path: Path, bias: float, outputs: int
) -> None:
    one = judge(planted_at(tmp_path / "rm", bias, outputs), 2, input=INPUT)
    texts = [f"worth {digit}" for digit in (3, 9, 0, 6)]
    table = rated(one, *texts)
    assert len(table) == math.comb(4, 2) * 2 * 2
    for row in table:
        others = {f"c{n}": int(text[-1]) for n, text in enumerate(texts)}
        second = others[row["against"] if row["position"] == 0 else row["completion_id"]]
        better = 1 / (1 + math.exp(-(bias - second / 4)))  # that of the first place
        assert row["score"] == pytest.approx(better if row["position"] == 0 else 1 - better, abs=1e-5)
        assert (row["rating"], row["error"], row["protocol"]) == (int(row["score"] > 0.5), None, "pairwise")
    found = scores(table, Pairing(), Rating(judges=(one,)))  # type: ignore[arg-type]
    assert sorted(found, key=lambda name: found[name].total or 0.0) == ["c2", "c0", "c3", "c1"]
    assert all(1 < (total.total or 0.0) < 5 for total in found.values())


def test_a_model_that_goes_by_the_place_alone_makes_ties(tmp_path: Path) -> None:
    one = judge(planted_at(tmp_path / "rm", bias=3.0), input=INPUT)
    table = rated(one, "one", "another", "a third")
    assert {(row["position"], row["rating"]) for row in table} == {(0, 1), (1, 0)}
    found = scores(table, Pairing(), Rating(judges=(one,)))  # type: ignore[arg-type]
    assert {total.total for total in found.values()} == {3.0}


def test_its_scores_are_on_the_aspects_scale_and_stand_beside_those_of_other_judges(tmp_path: Path) -> None:
    one = judge(planted_at(tmp_path / "rm"), input=INPUT, aspects=("size",))
    other = Judge(name="other", backend="echo", model="m")
    settings = Rating(judges=(one, other), aspects=("size",), rubrics={"size": Rubric(criterion="How large?", high=9)})
    texts = completions("worth 9", "worth 0")
    table = rate(frame("prompts", [PROMPT]), frame("completions", texts), settings, one, open_llm(one, Session()))
    found, _ = divided(table, settings)
    best, worst = (row["score"] for row in rows(found))
    assert best + worst == pytest.approx(10)
    assert 5.5 < best < 9
    alone = settings.model_copy(update={"judges": (one,)})
    assert scores(rows(found), Pairing(), alone)["c0"].total == pytest.approx(1 + 4 * (best - 1) / 8)  # type: ignore[arg-type]
    agreed = [
        rating(f"c{n}", score, "size", "other") | {"prompt_id": PROMPT["prompt_id"]} for n, score in enumerate((9, 1))
    ]
    trust = Trust()
    trust.add(shard(texts, [*rows(found), *agreed]), {"rm": "x", "other": "y", "m": "z"}, settings)
    assert [row["judges"] for row in trust.agreement_table()] == ["other, rm"]


def test_a_label_names_the_output_that_speaks_for_the_first_text(tmp_path: Path) -> None:
    folder = planted_at(tmp_path / "rm", bias=1.0, outputs=2)
    ours, theirs = (
        {row["score"]: row["position"] for row in rated(judge(folder, input=INPUT, label=label), "1", "2")}
        for label in (0, 1)
    )
    assert {score: 1 - place for score, place in ours.items()} == theirs
    with pytest.raises(ConfigError, match="has 3 labels, .* has 1 or 2"):
        rated(judge(planted_at(tmp_path / "three", outputs=3), input=INPUT), "1", "2")
    with pytest.raises(ConfigError, match="has 1 labels, .* label names the first text's"):
        rated(judge(planted_at(tmp_path / "one"), input=INPUT, label=1), "1", "2")
    with pytest.raises(ConfigError, match=r"how does it read two texts\? Say it in the judge's input"):
        rated(judge(folder), "1", "2")
    with pytest.raises(ConfigError, match="no reward model: it lacks the weights"):
        rated(Judge(**judge(pairrm_at(tmp_path / "rm")).model_dump() | {"protocol": "listwise"}), "1", "2")


def test_what_the_recipe_writes_around_the_texts_is_in_the_key_and_old_digests_know_nothing_of_it(
    tmp_path: Path,
) -> None:
    identity = Identity("reward", "m")
    inputs = (None, INPUT, INPUT.replace("<s>", ""), "{{ second }} {{first}} {{ prompt }}")
    found = [[item.request.key(identity) for item in asked(judge(tmp_path, input=each), "a", "b")] for each in inputs]
    assert len({key for keys in found for key in keys}) == 2 * len(inputs)
    last = asked(judge(tmp_path, input=inputs[3]), "a", "b")[0].request.messages
    assert [(part["role"], part["content"]) for part in last[:3]] == [("second", "b"), ("input", " "), ("first", "a")]
    plain_judge = Judge(name="j", model="m")
    assert not {"input", "format"} & {*plain_judge.model_dump(), *model_fields(plain_judge, identity)[1]}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"input": "{{ prompt }} {{ first }}"}, "put {{ prompt }}, {{ first }} and {{ second }} into it, each once"),
        ({"input": "{{ prompt }}{{ first }} {{ second }}"}, "with what keeps them apart"),
        ({"input": INPUT + "{{ first }}"}, "each once"),
        ({"input": "pair.txt"}, "pair.txt was not read in"),
        ({"input": INPUT, "protocol": "listwise"}, "input goes with protocol pairwise"),
        ({"input": INPUT, "backend": "echo"}, "input goes with backend reward"),
        ({"scale": (0, 1)}, "a pairwise judge's scores are on the aspect's; leave scale out"),
        ({"critique": True, "readout": "logprobs"}, "asked nothing; leave readout, critique out"),
        ({"protocol": "listwise", "comparisons": {"rounds": 2}}, "asked nothing; leave comparisons out"),
    ],
)
def test_a_judge_that_makes_no_sense_is_refused_at_once(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError) as error:
        Judge.model_validate({"name": "rm", "backend": "reward", "model": "m", "protocol": "pairwise", **fields})
    assert told in str(error.value)


SHEET = Sheet((Text("a", "a", "x"), Text("b", "b", "y")), Scale(1, 5), may_be_na=False)
OUTPUTS = st.lists(st.floats(width=32) | st.integers() | st.booleans() | st.none(), max_size=3)


@given(OUTPUTS | st.floats(width=32) | st.just({"a": 1.0}), st.sampled_from([None, 0, 1, 2]))
def test_any_output_is_read_as_two_probabilities_or_as_one_error(output: Any, label: int | None) -> None:
    found = read_preference(label, SHEET, Reply(json.dumps(output)))
    first, second = found["a"], found["b"]
    values = output if isinstance(output, list) else [output]
    fits = len(values) in (1, 2) and (label or 0) < len(values)
    if not (fits and all(isinstance(value, float) and math.isfinite(value) for value in values)):
        assert first == second
        assert first.error
        return
    assert (first.score or 0.0) + (second.score or 0.0) == pytest.approx(1)
    mine = values[label or 0]
    other = values[1 - (label or 0)] if len(values) == 2 else 0.0
    assert (first.rating, second.rating) == (int(mine > other), int(other > mine))


def reward_recipe(echo_recipe: Build, folder: Path, **fields: Any) -> Recipe:
    spec = {"name": "rm", "backend": "reward", "model": str(folder), "protocol": "pairwise", "price": {}}
    rating = {"judges": [spec | {"local": {"device": "cpu"}} | fields], "aspects": ["overall"]}
    return echo_recipe(6, name="compared", rating=rating, evolution=None)


def test_a_recipe_runs_as_planned_and_a_rerun_asks_nothing(echo_recipe: Build, tmp_path: Path) -> None:
    recipe = reward_recipe(echo_recipe, pairrm_at(tmp_path / "rm"))
    (line,) = [line for line in plan_run(recipe).lines if line.stage == "rate"]
    assert (line.calls, line.max_tokens, line.cost) == (12, 0, 0.0)
    published, summary, calls = run(recipe)
    assert calls == {"generate": 12, "rate": 12}
    assert summary.pairs == 6
    assert "own units" not in (Path(published.folder) / "README.md").read_text()
    assert run(recipe)[2] == {}
    shutil.rmtree(tmp_path / "data" / "compared" / "tables")
    assert run(recipe)[2] == {}  # every comparison is in the ledger


def test_calibrating_holds_it_to_gold_in_its_one_form(echo_recipe: Build, tmp_path: Path) -> None:
    (tmp_path / "pair.txt").write_text(INPUT)
    recipe = reward_recipe(echo_recipe, planted_at(tmp_path / "rm", bias=2.0), input="pair.txt")
    cases = [{"prompt": f"Q{n}", "a": f"a{n} 8", "b": f"b{n} 2", "better": "ab"[n % 10 == 0]} for n in range(40)]
    write_gold(tmp_path / "gold.jsonl", map(pair_in, cases))
    (planned,) = plan_calibration(recipe, tmp_path / "gold.jsonl").forms
    assert (planned.calls, planned.tokens) == (80, 0)
    (tested,) = calibrate(recipe, tmp_path / "gold.jsonl").tested
    assert (tested.form.form, tested.calls, tested.accuracy.right.count) == ("pairwise, reward", 80, 36)

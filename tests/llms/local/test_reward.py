"""Reward models as judges: tiny models with random weights, compared with plain transformers one by one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairsmith.config import Judge, LocalOptions, Pairing, Rating, Recipe, Sampling
from pairsmith.config.loading import load_recipe
from pairsmith.errors import ConfigError, TableError
from pairsmith.judging.asking import judge_requests
from pairsmith.judging.rating import rate
from pairsmith.judging.readout_reward import read_reward
from pairsmith.judging.readouts import Read
from pairsmith.judging.scoring import scores
from pairsmith.llms.registry import open_llm
from pairsmith.planning.dry_run import plan_run
from pairsmith.protocol import Identity, Message, Reply, Request
from pairsmith.reporting import charts
from pairsmith.reporting.agreement import Trust
from pairsmith.reporting.summary_tables import aspect_table, member_table
from pairsmith.session import process_session
from pairsmith.storage.schemas import frame, rows, validated
from tests.command_line import cli
from tests.conftest import ROOT, model_id
from tests.generation.test_pool import prompt
from tests.reporting.shards import counted
from tests.reporting.test_agreement import shard
from tests.runs import completion, generate, rating, run
from tests.tiny import TEMPLATE, model_at, tokenizer_at

Build = Callable[..., Recipe]
STERN = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + TEMPLATE
TOLERANCE = {"rel": 1e-5, "abs": 1e-5}  # of float32: what the make-up of a batch may change
TEXTS = ("Yes.", "No, and here is why. " * 6, "", "It depends on the weather.", "é" * 40, "Perhaps so.", "x")


def judge(folder: Path, batch_size: int = 32, **fields: Any) -> Judge:
    return Judge(
        name=fields.pop("name", "rm"),
        backend="reward",
        model=str(folder),
        local=LocalOptions(device="cpu", batch_size=batch_size, dtype=fields.pop("dtype", "auto")),
        **fields,
    )


def conversation(text: str, system: str | None = None) -> Request:
    chat: list[Message] = [{"role": "system", "content": system}] if system else []
    chat += [{"role": "user", "content": "Is it so?"}, {"role": "assistant", "content": text}]
    return Request(tuple(chat), Sampling(temperature=0, max_tokens=1), 0)


def scored(spec: Judge, requests: list[Request]) -> list[Any]:
    replies = generate(open_llm(spec, process_session()), requests)
    assert not [reply.error for reply in replies if reply.error]
    return [json.loads(reply.text) for reply in replies]


def plain(folder: Path, request: Request) -> list[float]:
    """What transformers gives for one conversation in a batch of its own, with the model's files as they are."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    if tokenizer.chat_template:
        encoded = tokenizer.apply_chat_template(list(request.messages), return_tensors="pt", return_dict=True)
    else:
        encoded = tokenizer(*(message["content"] for message in request.messages), return_tensors="pt")
    with torch.inference_mode():
        return list(model(**encoded).logits[0].tolist())


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("Llama", {"pad_token_id": 2}),
        ("Llama", {"pad_token_id": 1}),  # the EOS, with which the template ends
        ("Llama", {}),  # none: the last token counts, EOS or not
        ("Llama", {"special": {"pad_token": "</s>"}}),
        ("Qwen2", {"vocab_size": 300}),  # more embeddings than tokens
        ("GPT2", {"pad_token_id": 1}),  # counts positions from the left
        ("Bert", {"pad_token_id": 2, "template": None}),
    ],
)
def test_scores_are_those_of_plain_transformers_whatever_the_batch_and_the_order(
    tmp_path: Path, kind: str, settings: dict[str, Any]
) -> None:
    folder = model_at(tmp_path / "rm", kind, **settings)
    asked = [conversation(text) for text in TEXTS]
    expected = [plain(folder, request)[0] for request in asked]
    assert max(expected) - min(expected) > 0.1
    for size in (1, 3, 32):
        assert scored(judge(folder, size), asked) == pytest.approx(expected, **TOLERANCE)
    assert scored(judge(folder, 3), asked[::-1]) == pytest.approx(expected[::-1], **TOLERANCE)


def test_a_model_without_a_pad_token_scores_the_last_token_even_if_that_is_the_tokenizers_pad(tmp_path: Path) -> None:
    no_end = TEMPLATE.replace("{{ eos_token }}", "")
    folder = model_at(tmp_path / "rm", template=no_end)
    (good, bad) = generate(open_llm(judge(folder), process_session()), [conversation("Fine."), conversation("Fine<s>")])
    assert float(good.text) == pytest.approx(plain(folder, conversation("Fine."))[0], **TOLERANCE)
    assert bad.final
    assert "it ends in token 0, which pads" in str(bad.error)


def test_one_bos_no_generation_prompt_and_no_system_role_where_the_template_knows_none(tmp_path: Path) -> None:
    folder = model_at(tmp_path / "rm", template=STERN)
    llm: Any = open_llm(judge(folder), process_session())
    generate(llm, [conversation("Yes.")])
    engine = _engine(folder)
    told = engine.tokenizer.decode(engine._row(0, conversation("Yes.", "Be brief.")).tokens)
    assert told == "<s>[user] Be brief.\n\nIs it so?</s>[assistant] Yes.</s>"


def test_a_reply_reads_back_exactly_and_counts_its_tokens(tmp_path: Path) -> None:
    folder = model_at(tmp_path / "rm")
    (reply,) = generate(open_llm(judge(folder), process_session()), [conversation("Yes.")])
    assert read_reward(reply.text, None) == Read(score=float(reply.text))
    assert (reply.n_prompt_tokens, reply.n_tokens) == (35, 0)
    assert open_llm(judge(folder), process_session()).identity.backend == "reward"


def test_a_conversation_beyond_the_context_is_refused_for_good_and_one_that_just_fits_is_not(tmp_path: Path) -> None:
    folder = model_at(tmp_path / "rm", max_position_embeddings=60)
    fits, long = generate(open_llm(judge(folder), process_session()), [conversation("x" * 29), conversation("x" * 30)])
    assert fits.error is None
    assert (fits.n_prompt_tokens, long.error, long.final) == (60, "context: 61 tokens > 60", True)
    assert long.text == ""


def test_several_labels(tmp_path: Path) -> None:
    folder = model_at(tmp_path / "rm", num_labels=3, pad_token_id=2)
    with pytest.raises(ConfigError, match=r"has 3 labels, .*LABEL_2.* as in label: 0"):
        generate(open_llm(judge(folder), process_session()), [conversation("Yes.")])
    with pytest.raises(ConfigError, match="has 3 labels"):
        generate(open_llm(judge(folder, label=3), process_session()), [conversation("Yes.")])
    (values,) = scored(judge(folder, label=1), [conversation("Yes.")])
    assert values == pytest.approx(plain(folder, conversation("Yes.")), **TOLERANCE)
    table = rated(judge(folder, label=1), [completion("c", text="Yes.")], question="Is it so?")
    assert [(row["score"], row["rating"]) for row in table] == [(pytest.approx(values[1], **TOLERANCE), None)]


def test_what_is_no_reward_model_is_refused(tmp_path: Path) -> None:
    import transformers

    size = tokenizer_at(tmp_path / "writer")
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.LlamaConfig(vocab_size=size, num_labels=1, **small)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "writer")
    with pytest.raises(ConfigError, match=r"writer: no reward model: it lacks the weights score\.weight"):
        generate(open_llm(judge(tmp_path / "writer"), process_session()), [conversation("Yes.")])
    untold = model_at(tmp_path / "untold", template=None)
    with pytest.raises(ConfigError, match="its tokenizer has no chat template"):
        generate(open_llm(judge(untold), process_session()), [conversation("Yes.")])
    with pytest.raises(ConfigError, match="cannot be loaded"):
        generate(open_llm(judge(tmp_path), process_session()), [conversation("Yes.")])


@pytest.mark.model
def test_a_chat_model_is_no_reward_model() -> None:
    with pytest.raises(ConfigError, match="lacks the weights"):
        generate(open_llm(judge(Path(model_id("smollm2"))), process_session()), [conversation("Yes.")])


@pytest.mark.model
def test_the_layout_of_a_real_chat_model(tmp_path: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    from pairsmith.llms.local.hub_models import stored_at

    for name in ("smollm2", "qwen"):
        source, folder = stored_at(model_id(name)), tmp_path / name
        torch.manual_seed(1)
        config = AutoConfig.from_pretrained(source, num_labels=1)
        config.num_hidden_layers = 2
        config.layer_types = (getattr(config, "layer_types", None) or [])[:2] or None
        model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(source).save_pretrained(folder)
        asked = [conversation(text, "Be honest." if n % 2 else None) for n, text in enumerate(TEXTS)]
        expected = [plain(folder, request)[0] for request in asked]
        assert scored(judge(folder, 4), asked) == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_scores_that_are_not_finite_are_errors_and_are_asked_again(tmp_path: Path) -> None:
    import torch

    folder = model_at(tmp_path / "rm")
    llm: Any = open_llm(judge(folder), process_session())
    generate(llm, [conversation("Yes.")])
    with torch.no_grad():
        _engine(folder).model.score.weight[:] = math.inf
    (reply,) = generate(llm, [conversation("No.")])
    assert reply.text == ""
    assert "not finite" in str(reply.error)
    assert not reply.final
    (row,) = rated(judge(folder), [completion("c", text="No.")])
    assert (row["rating"], row["score"]) == (None, None)
    assert row["error"].startswith("failed: the score is not finite")


def test_the_head_of_a_model_in_bfloat16_does_not_round_to_its_8_bits(tmp_path: Path) -> None:
    folder = model_at(tmp_path / "rm", pad_token_id=2)
    asked = [conversation(text) for text in TEXTS]
    found = scored(judge(folder, dtype="bfloat16"), asked)
    assert found == pytest.approx([plain(folder, request)[0] for request in asked], rel=0.2, abs=0.5)
    import torch

    assert [score for score in found if float(torch.tensor(score).bfloat16()) != score]


@given(st.floats(allow_nan=True, allow_infinity=True, width=32))
def test_a_score_is_read_back_as_it_was_or_not_at_all(value: float) -> None:
    found = read_reward(json.dumps(value), None)
    assert (found.score == value and found.error is None) if math.isfinite(value) else found.error
    assert found.rating is None


@given(st.text(max_size=30) | st.sampled_from(["true", "null", "[]", "[[1.0]]", "{}", "1", '"1.0"', "[1.0, 2.0]", "-"]))
def test_any_reply_is_read_as_a_number_or_an_error(reply: str) -> None:
    for label in (None, 0, 1):
        found = read_reward(reply, label)
        assert (found.score is None) != (found.error is None)


QUESTION = "What rises?"


class Fixed:
    """A reward model whose score is the length of the answer, less 10."""

    identity = Identity("reward", "fixed")

    def stream(self, requests: Any) -> Any:
        for index, request in enumerate(requests):
            yield [(index, Reply(str(float(len(request.messages[-1]["content"]) - 10)), "stop"))]


def rated(
    spec: Judge, texts: list[dict[str, Any]], llm: Any = None, question: str = QUESTION, **row: Any
) -> list[dict[str, Any]]:
    asked = prompt(question, **row)
    texts = [text | {"prompt_id": asked["prompt_id"]} for text in texts]
    config = Rating(judges=(spec,))
    return rows(
        rate(
            frame("prompts", [asked]),
            frame("completions", texts),
            config,
            spec,
            llm or open_llm(spec, process_session()),
        )
    )


def test_a_text_is_scored_once_as_the_last_turn_of_its_conversation(tmp_path: Path) -> None:
    spec = judge(tmp_path, aspects=("helpfulness",))
    asked = prompt(QUESTION, system_prompt="Be brief.", reference="Bread.")
    texts = [completion(name, prompt_id=asked["prompt_id"], text=name * 3) for name in ("a", "b")]
    broken = completion("c", prompt_id=asked["prompt_id"], error="failed: x")
    items = list(judge_requests([asked], [*texts, broken], Rating(judges=(spec,), aspects=("helpfulness",)), spec))
    assert [item.request.messages for item in items] == [
        (
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": text},
        )
        for text in ("aaa", "bbb")
    ]
    table = rated(spec, texts, Fixed())
    told = [(row["aspect"], row["protocol"], row["score"], row["rating"], row["error"]) for row in table]
    assert told == [("helpfulness", "reward", -7.0, None, None)] * 2
    validated("ratings", frame("ratings", table))


def test_only_a_reward_may_be_beyond_the_scales_and_it_must_be_finite() -> None:
    validated("ratings", frame("ratings", [rating("c", -250.0, protocol="reward", rating=None)]))
    endless = rating("c", 1.0, protocol="reward", rating=None) | {"score": math.inf}
    for row in (rating("c", -1.0, rating=None), endless):
        with pytest.raises(TableError, match="score"):
            validated("ratings", frame("ratings", [row]))


def panel(*rewards: dict[str, Any], llms: int = 1, **fields: Any) -> Rating:
    judges = [{"name": f"llm{n}", "backend": "echo", "model": f"echo-{n}", "seed": n} for n in range(llms)]
    given = [{"name": "rm", "backend": "reward", "model": f"rm{n}"} | one for n, one in enumerate(rewards)]
    return Rating.model_validate({"judges": judges + given, **fields})


def told_of(values: dict[str, float], judge: str, aspect: str = "overall") -> list[dict[str, Any]]:
    kind = {"protocol": "reward", "rating": None} if judge == "rm" else {}
    return [rating(name, score, aspect, judge, **kind) for name, score in values.items()]


REWARDS = {"a": -12.5, "b": 3.0, "c": 40.0}


def test_a_reward_model_alone_scores_in_its_own_units() -> None:
    found = scores(told_of(REWARDS, "rm"), Pairing(), panel({}, llms=0))
    assert {name: one.total for name, one in found.items()} == REWARDS


def test_a_scale_puts_rewards_beside_ratings_and_clamps_nothing() -> None:
    both = told_of(REWARDS, "rm") + told_of(dict.fromkeys(REWARDS, 3.0), "llm0")
    found = scores(both, Pairing(), panel({"scale": [-10, 10]}))
    assert {name: one.total for name, one in found.items()} == pytest.approx({"a": 1.75, "b": 3.3, "c": 7.0})


def test_z_scores_need_no_scale_and_know_no_units() -> None:
    both = told_of(REWARDS, "rm") + told_of({"a": 1.0, "b": 5.0, "c": 3.0}, "llm0")
    thousands = {name: 1000 * score for name, score in REWARDS.items()}
    larger = told_of(thousands, "rm") + told_of({"a": 1.0, "b": 5.0, "c": 3.0}, "llm0")
    config = panel({}, aggregation="z-scored")
    one, other = scores(both, Pairing(), config), scores(larger, Pairing(), config)
    assert [one[name].total for name in "abc"] == pytest.approx([other[name].total for name in "abc"])
    assert sum(found.total or 0.0 for found in one.values()) == pytest.approx(0)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"judges": [{}]}, "the scores of ['rm'] have no scale"),
        ({"judges": [{}], "aggregation": "median"}, "give scale: [low, high], aggregation: z-scored, or calibration"),
        ({"judges": [{}, {"name": "rm2"}], "llms": 0}, "the scores of ['rm', 'rm2'] have no scale"),
        ({"judges": [{}], "llms": 0, "checks": [{"kind": "exact-match", "name": "right"}]}, "have no scale"),
        ({"judges": [{"scale": [5, 5]}]}, "scale: 5 must be less than 5"),
        ({"judges": [{"readout": "json"}]}, "asked nothing; leave readout out"),
        ({"judges": [{"sampling": {"max_tokens": 1}, "critique": True}]}, "leave sampling, critique out"),
        ({"judges": [{"aspects": ["critique"]}]}, "and no critique"),
        ({"judges": [{}], "llms": 0, "aspects": ["overall", "honesty"]}, "no judge rates ['honesty']"),
        ({"judges": [{"backend": "echo", "label": 1}]}, "go with backend reward, and only with it"),
        ({"judges": [{"label": -1}]}, "greater than or equal to 0"),
        ({"judges": [{"aspects": ["taste"], "scale": [0, 1]}], "own_family": "skip"}, "all rate the same aspects"),
        ({"judges": [{"scale": [0, 1], "model": "x"}, {"scale": [0, 1], "name": "b", "model": "x"}]}, "same answers"),
    ],
)
def test_a_mix_that_makes_no_sense_is_refused_at_once(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError) as error:
        panel(*fields.pop("judges"), **fields)
    assert told in str(error.value)


def test_what_makes_sense_is_taken() -> None:
    gate = [{"kind": "regex", "name": "short", "pattern": "^.{1,99}$", "gate": True}]
    assert panel({}, llms=0, checks=gate).judged_aspects == ["overall"]
    both = panel({"aspects": ["taste"], "scale": [0, 1]}, aspects=["helpfulness", "honesty"])
    assert both.judged_aspects == ["helpfulness", "honesty", "taste"]
    assert panel({}, {"name": "b"}, llms=0, aggregation="z-scored").judged_aspects == ["overall"]


def test_an_aspect_is_never_left_without_a_judge_for_the_sake_of_families() -> None:
    own = panel({"aspects": ["taste"], "scale": [0, 1], "family": "x"}, aspects=["overall"])
    llm, rm = own.judges
    assert own.rates(rm, "x", {"x"})  # nobody else tells of taste
    assert own.rates(llm, llm.family_name, {llm.family_name})
    same = panel({"scale": [0, 1], "family": "x"})
    assert not same.rates(same.judges[1], "y", {"x", "y"})
    assert same.rates(same.judges[1], "y", {"y"})


@pytest.mark.parametrize("place", ["pool.members.0.backend=reward", "evolution.evolver.backend=reward"])
def test_a_reward_model_cannot_write(place: str) -> None:
    with pytest.raises(ConfigError, match="only a judge can have backend reward"):
        load_recipe(ROOT / "recipes" / "echo.yaml", [place])


def test_agreement_is_told_on_one_scale_or_not_at_all() -> None:
    texts = [completion(name, text=name * 9) for name in REWARDS]
    both = told_of({"a": 0.0, "b": 5.0, "c": 10.0}, "rm") + told_of({"a": 1.0, "b": 3.0, "c": 5.0}, "llm0")
    families = {"rm": "x", "llm0": "echo", "m": "x"}
    trust = Trust()
    trust.add(shard(texts, both), families, panel({"scale": [0, 10]}))
    (row,) = trust.agreement_table()
    assert (row["judges"], row["alpha"], row["exact"]) == ("llm0, rm", 1.0, 1.0)
    apart = Trust()
    apart.add(shard(texts, both), families, panel({}, aggregation="z-scored"))
    assert apart.agreement_table() == []
    assert apart.least_agreement() is None
    by_judge = {row["judge"]: row for row in apart.bias_table()}
    assert by_judge["rm"]["self-preference"] is None
    assert (by_judge["rm"]["ratings"], by_judge["rm"]["ties"]) == (3, 0.0)


def test_the_report_keeps_rewards_apart_from_ratings() -> None:
    texts = [completion(name, text=name * 9) for name in REWARDS]
    both = told_of({"a": -1234.5, "b": 3.0, "c": 40.0}, "rm") + told_of({"a": 1.0, "b": 3.0, "c": 5.0}, "llm0")
    summary = counted(shard(texts, both))
    (member,) = member_table(summary)
    assert (member["overall"], member["overall by rm"]) == (3.0, -397.17)
    assert {score for _, _, score in summary.scores} == {1, 3, 5}
    ((name, chart),) = charts.rewards(summary.histograms)
    assert name == "overall by rm"
    assert len(chart.bars) <= 25


@given(st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=40))
def test_any_rewards_make_a_histogram(values: list[float]) -> None:
    steps: dict[tuple[str, int], int] = {}
    for value in values:
        for name, step in (("x by y", charts.reward_step(value)), ("margin", charts.margin_step(abs(value)))):
            steps[name, step] = steps.get((name, step), 0) + 1
    ((_, rewards),), margins = charts.rewards(steps), charts.margins(steps)
    for chart in (rewards, margins):
        assert chart is not None
        assert len(chart.bars) <= 25
        assert sum(int(bar.description.split(": ")[1].split()[0]) for bar in chart.bars) == len(values)


def reward_recipe(echo_recipe: Build, folder: Path, count: int = 6, **changes: Any) -> Recipe:
    spec = {"name": "rm", "backend": "reward", "model": str(folder), "local": {"device": "cpu"}, "price": {}}
    rating = {"judges": [spec], "aspects": ["overall"]}
    return echo_recipe(count, **{"name": "rewarded", "rating": rating, "evolution": None, **changes})


def test_a_recipe_with_a_reward_model_alone_runs_and_a_rerun_asks_nothing(echo_recipe: Build, tmp_path: Path) -> None:
    folder = model_at(tmp_path / "rm", max_position_embeddings=1024)
    recipe = reward_recipe(echo_recipe, folder)
    published, summary, calls = run(recipe)
    assert calls == {"generate": 12, "rate": 12}
    assert summary.pairs == 6
    version = Path(published.folder)
    assert "a reward model gives a score alone" in (version / "README.md").read_text()
    assert "Rewards: overall by rm" in (version / "report.html").read_text()
    import pyarrow.parquet as pq

    (file,) = version.glob("data/*.parquet")
    for row in pq.read_table(file).to_pylist():
        assert row["chosen_score"] > row["rejected_score"]
        assert row["chosen_ratings"][0]["score"] == row["chosen_score"]
        assert row["chosen_ratings"][0]["rating"] is None
    again, _, calls = run(recipe)
    assert (again.version, again.new, calls) == (published.version, False, {})
    wide = max(row["score_margin"] for row in pq.read_table(file).to_pylist())
    fewer = reward_recipe(echo_recipe, folder, pairing={"min_margin": wide})
    assert run(fewer)[1].pairs == 1


@pytest.mark.parametrize(
    "strategy",
    ["best-vs-random", "best-vs-second", "best-vs-low", "per-aspect", "evolved-vs-original", "all-above-margin"],
)
def test_every_strategy_takes_rewards(echo_recipe: Build, tmp_path: Path, strategy: str) -> None:
    folder = model_at(tmp_path / "rm", max_position_embeddings=1024)
    evolver = {"evolver": {"backend": "echo", "model": "echo-evolver"}}
    recipe = reward_recipe(echo_recipe, folder, pairing={"strategy": strategy}, evolution=evolver)
    _, summary, _ = run(recipe)
    assert summary.paired > 0
    assert summary.paired + sum(summary.prompt_reasons.values()) == 6


def test_a_reward_model_beside_a_judge_and_a_check(echo_recipe: Build, tmp_path: Path) -> None:
    folder = model_at(tmp_path / "rm", max_position_embeddings=1024)
    llm = {"name": "judge", "backend": "echo", "model": "echo-judge", "protocol": "pointwise"}
    spec = {"name": "rm", "backend": "reward", "model": str(folder), "aspects": ["taste"], "local": {"device": "cpu"}}
    checks = [{"kind": "regex", "name": "long", "pattern": ".{120}"}]
    rating = {"judges": [llm, spec], "aspects": ["overall"], "checks": checks, "aggregation": "z-scored"}
    weights = {"aspect_weights": {"taste": 2.0}, "conflicts": "drop"}
    published, summary, _ = run(echo_recipe(8, name="mixed", rating=rating, pairing=weights))
    assert summary.pairs > 0
    assert {row["aspect"] for row in aspect_table(summary)} == {"overall by judge", "taste by rm", "long by checks"}
    assert "taste by rm" in (Path(published.folder) / "report.html").read_text()


def test_a_dry_run_and_a_budget_know_that_nothing_is_generated(echo_recipe: Build, tmp_path: Path) -> None:
    folder = model_at(tmp_path / "rm", max_position_embeddings=1024)
    (line,) = [line for line in plan_run(reward_recipe(echo_recipe, folder)).lines if line.stage == "rate"]
    assert (line.calls, line.max_tokens, line.cost) == (12, 0, 0.0)
    assert line.prompt_tokens > 0
    changes = {"budget": {"tokens": 10**6}, "name": "held"}
    assert run(reward_recipe(echo_recipe, folder, **changes))[1].pairs == 6


@pytest.mark.prefect
def test_the_command_line_runs_a_reward_model(echo_recipe: Build, tmp_path: Path, prefect_api: dict[str, str]) -> None:
    import yaml

    folder = model_at(tmp_path / "rm", max_position_embeddings=1024)
    recipe = reward_recipe(echo_recipe, folder, 4).model_dump(mode="json", exclude_defaults=True)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert cli("validate", "recipe.yaml", cwd=tmp_path).returncode == 0
    first = cli("run", "recipe.yaml", cwd=tmp_path, **prefect_api)
    assert first.returncode == 0, first.stderr
    assert "4 pairs" in first.stdout
    again = cli("run", "recipe.yaml", cwd=tmp_path, **prefect_api)
    assert "Asked the models 0 times" in again.stdout
    shown = cli("show", str(tmp_path / "data" / "rewarded"), cwd=tmp_path)
    assert shown.returncode == 0
    assert "(rm)" in shown.stdout


def _engine(folder: Path) -> Any:
    from pairsmith.llms.local.weights import shelf_of

    return next(engine for key, engine in shelf_of(process_session()).loaded.items() if key[0] == str(folder))

"""Similarity by embeddings, with a tiny encoder of random weights that each test module builds for itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pairsmith.config import Encoder, Pairing, Recipe, Sampling
from pairsmith.errors import ConfigError, ModelNotFound
from pairsmith.ledger.ledger import open_ledger
from pairsmith.llms.local.encoder import SentenceEncoder, packed
from pairsmith.pairing.candidates import cosine, evidence_of
from pairsmith.pairing.select import pair
from pairsmith.protocol import Request
from pairsmith.session import process_session
from pairsmith.stages.base import open_store
from pairsmith.storage.schemas import frame, rows
from tests.generation.test_pool import prompt
from tests.runs import completion, generate, rating, run

Build = Callable[..., Recipe]
WORDS = "the a fox dog sky sea is was red blue deep runs sleeps over under and of it".split()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of random weights that knows a few words; its context holds 16 tokens."""
    torch = pytest.importorskip("torch")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    known = {word: n for n, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(known), max_position_embeddings=16, **sizes)).save_pretrained(folder)
    return folder


def vectors(model: Path, *texts: str) -> list[str]:
    requests = [Request(({"role": "user", "content": text},), Sampling(), seed=0) for text in texts]
    return [
        reply.text
        for reply in generate(SentenceEncoder(Encoder(model=str(model), device="cpu"), process_session()), requests)
    ]


def test_a_vector_is_the_mean_of_the_token_states_whatever_runs_beside_it(model: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    texts = ["the sky is blue", "a dog sleeps", "the sea was deep and blue and red", "fox"]
    alone = [vectors(model, text)[0] for text in texts]
    assert vectors(model, *texts) == alone
    assert vectors(model, *reversed(texts)) == alone[::-1]
    tokenizer, weights = AutoTokenizer.from_pretrained(model), AutoModel.from_pretrained(model).eval()
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = weights(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    mask = batch["attention_mask"][:, :, None]
    means = (states * mask).sum(1) / mask.sum(1)
    expected = [packed((mean / mean.norm()).numpy()) for mean in means]
    assert [cosine(one, other) for one, other in zip(alone, expected, strict=True)] == [1.0] * 4
    wanted = round(float(torch.nn.functional.cosine_similarity(means[0], means[1], dim=0)), 3)
    assert cosine(*alone[:2]) == pytest.approx(max(0.0, wanted), abs=1e-3)


def test_the_end_of_a_long_text_counts(model: Path) -> None:
    long = "the fox runs over the sea and " * 6
    same, other, empty = vectors(model, long + "the sky", long + "deep deep deep", "")
    assert same != other
    assert 0 <= cosine(same, other) < 1
    assert np.isfinite(cosine(empty, same))


def test_cosines_are_rounded_and_stay_between_0_and_1() -> None:
    one, other = (packed(np.array(v, dtype=np.float32)) for v in ([1.0, 0.0], [-1.0, 0.0]))
    assert (cosine(one, one), cosine(one, other)) == (1.0, 0.0)
    slanted = packed(np.array([0.123456789, 0.99234], dtype=np.float32))
    assert cosine(one, slanted) == 0.1235


def test_what_is_no_sentence_model_is_refused(model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    with pytest.raises(ModelNotFound, match="cannot be loaded"):
        vectors(tmp_path, "a")
    folder = shutil.copytree(model, tmp_path / "partial")
    weights = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in weights.items() if "layer.1" not in k}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match="lacks the weights"):
        vectors(folder, "a")


def test_pairs_too_alike_by_another_measure_give_way_to_the_next_best() -> None:
    about = prompt("What is it?")
    made = [completion(name, prompt_id=about["prompt_id"], text=name) for name in ("best", "twin", "far")]
    scored = [rating(n, s, prompt_id=about["prompt_id"]) for n, s in (("best", 5), ("twin", 1), ("far", 3))]

    def alike(one: str, other: str) -> float:
        return 0.99 if {one, other} == {"best", "twin"} else 0.2

    evidence = replace(evidence_of(frame("ratings", scored), Pairing()), similarity=alike)
    pairs, left = pair(frame("prompts", [about]), frame("completions", made), Pairing(), evidence)
    assert [(row["chosen_id"], row["rejected_id"], row["similarity"]) for row in rows(pairs)] == [("best", "far", 0.2)]
    assert [row["reason"] for row in rows(left)] == ["similar"]


def test_a_run_keeps_vectors_in_the_ledger_and_pairs_the_same_whatever_the_shards(
    model: Path, echo_recipe: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    similarity = {"model": str(model), "device": "cpu"}

    def found(recipe: Recipe) -> list[Any]:
        store = open_store(recipe)
        files = sorted(Path(store.root).glob("tables/*/published*.parquet"))
        import pyarrow.parquet as pq

        made = [row for file in files for row in pq.read_table(file).to_pylist()]
        return sorted(json.dumps({k: row[k] for k in ("chosen_id", "rejected_id", "similarity")}) for row in made)

    one = echo_recipe(12, name="one", pairing={"similarity": similarity, "max_similarity": 1.0})
    published, _, _ = run(one)
    small = one.model_copy(update={"name": "small", "shard_size": 5, "ledger": f"sqlite:///{tmp_path}/other.sqlite"})
    run(small)
    assert found(small) == found(one)
    card = Path(published.folder, "README.md").read_text()
    assert f"| encoder | similarity | {model.name} |" in card
    assert "| encoder similarity |" in card
    assert str(model) not in card

    known = open_ledger(one.ledger_url, process_session()).replies.count()
    monkeypatch.setattr("pairsmith.llms.local.encoder._Model", None)  # loading it again would fail
    again = echo_recipe(12, name="one", pairing={"similarity": similarity, "max_similarity": 1.0, "seed": 1})
    later, _, calls = run(again)
    assert (later.new, sum(calls.values())) == (True, 0)
    assert open_ledger(one.ledger_url, process_session()).replies.count() == known

"""Both answers of a pair from one pass, and a training that reads pairs so beside TRL's own, with tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pairsmith.storage.local_files import LocalFiles
from pairsmith.worth.arms import Arm, Pair, Settings, shuffled
from pairsmith.worth.reading import Tokens, log_probs, reads_together
from pairsmith.worth.reference import reference_of
from pairsmith.worth.training import Lab
from tests.tiny import model_at

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("one_thread")]
SETTINGS = Settings(tokens=96, epochs=2, learning_rate=3e-3, batch=4)
TOKENS = Tokens([0, 70, 71, 72], [80, 81, 82, 83, 84, 1], [90, 91, 1])


def nothing(*_: object) -> None:
    """Hears of progress and says nothing."""


def loaded(folder: Path, kind: str = "Llama", **settings: Any) -> Any:
    from transformers import AutoModelForCausalLM

    where = model_at(folder, kind, head="CausalLM", special={"pad_token": "<pad>"}, **settings)
    return AutoModelForCausalLM.from_pretrained(where, dtype="float32").eval()


def told_one_by_one(model: Any, prompt: list[int], answer: list[int]) -> float:
    """An answer's log-probability from a pass over the whole text, as its definition has it."""
    import torch

    with torch.inference_mode():
        scores = model(input_ids=torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
    return sum(float(scores[len(prompt) + place - 1, token]) for place, token in enumerate(answer))


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("kind", ["Llama", "GPT2"])
def test_both_answers_have_the_log_probabilities_that_each_has_alone(tmp_path: Path, kind: str, together: bool) -> None:
    model = loaded(tmp_path, kind)
    found = log_probs(model, TOKENS, together)
    for value, answer in zip(found.tolist(), (TOKENS.chosen, TOKENS.rejected), strict=True):
        assert value == pytest.approx(told_one_by_one(model, TOKENS.prompt, answer), abs=1e-4)
    bare = Tokens([], TOKENS.chosen, TOKENS.rejected)
    first = told_one_by_one(model, bare.rejected[:1], bare.rejected[1:])
    assert log_probs(model, bare, together)[1].item() == pytest.approx(first, abs=1e-4)


def test_a_model_whose_layers_see_a_window_alone_reads_answers_apart_where_they_are_longer(tmp_path: Path) -> None:
    long = Tokens(TOKENS.prompt, TOKENS.chosen * 4, TOKENS.rejected * 4)
    assert reads_together(loaded(tmp_path / "llama"), long)
    windowed = loaded(tmp_path / "mistral", "Mistral", sliding_window=8)
    assert not reads_together(windowed, long)
    assert log_probs(windowed, long, together=False)[0].item() == pytest.approx(
        told_one_by_one(windowed, long.prompt, long.chosen), abs=1e-4
    )


def trained_by_trl(lab: Lab, pairs: tuple[Pair, ...], seed: int, folder: Path) -> Any:
    """TRL's own trainer with a reference model, batches of two pairs that are filled up, and all words' scores."""
    import datasets
    import trl

    arguments = trl.DPOConfig(
        output_dir=str(folder), seed=seed, data_seed=seed, beta=SETTINGS.beta, max_length=SETTINGS.tokens,
        learning_rate=SETTINGS.learning_rate, num_train_epochs=SETTINGS.epochs, per_device_train_batch_size=2,
        gradient_accumulation_steps=SETTINGS.batch // 2, report_to=[], logging_strategy="no", save_strategy="no",
        disable_tqdm=True, gradient_checkpointing=False, bf16=False, use_cpu=True, dataloader_pin_memory=False,
    )  # fmt: skip
    rows = [{"prompt": list(one.prompt), "chosen": list(one.chosen), "rejected": list(one.rejected)} for one in pairs]
    model, data = lab.load(), datasets.Dataset.from_list(rows)
    trl.DPOTrainer(model, lab.load(), arguments, train_dataset=data, processing_class=lab.tokenizer).train()
    return model


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_training_ends_with_the_weights_that_trls_own_trainer_ends_with(tmp_path: Path) -> None:
    lab = Lab(str(model_at(tmp_path / "model", head="CausalLM", special={"pad_token": "<pad>"})))
    texts = [f"tree {'oak ' * (number % 5)}" for number in range(12)]
    pairs = [
        Pair(str(number), *(({"role": role, "content": content},) for role, content in sides))
        for number, text in enumerate(texts)
        for sides in [[("user", f"Name {text}"), ("assistant", text), ("assistant", text.upper() * 2)]]
    ]
    arm = Arm("set", True, 3, shuffled(pairs, 3))
    known = reference_of(lab, pairs, LocalFiles(str(tmp_path / "arms")), nothing)
    theirs = trained_by_trl(lab, arm.pairs, arm.seed, tmp_path / "trl").state_dict()
    before = lab.load().state_dict()
    assert max(float((theirs[name] - before[name]).abs().max()) for name in theirs) > SETTINGS.learning_rate
    for lab._together in (True, False):
        ours = lab.trained(arm, SETTINGS, known, nothing).state_dict()
        for name, weights in theirs.items():
            assert float((ours[name] - weights).abs().max()) < SETTINGS.learning_rate / 100, name


def test_the_untrained_model_is_asked_once_for_all_arms_on_the_same_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, files = Lab(str(model_at(tmp_path / "model", head="CausalLM"))), LocalFiles(str(tmp_path / "arms"))
    pairs = [
        Pair(str(number), *(({"role": "user", "content": f"{side} {number}"},) for side in ("p", "c", "r")))
        for number in range(4)
    ]
    first = reference_of(lab, pairs, files, nothing)
    monkeypatch.setattr(Lab, "load", None)  # whoever loads the model now fails
    for arm in (pairs, shuffled(pairs, 0), shuffled(pairs, 1)[::-1]):
        assert reference_of(lab, arm, files, nothing) == first
    assert first[pairs[0].changed.name] == first[pairs[0].name][::-1]
    assert len(first) == 8

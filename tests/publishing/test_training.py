"""TRL's DPOTrainer takes two steps on a published dataset, with a tiny model made here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pairsmith.config import Recipe
from tests.conftest import model_id
from tests.runs import run


@pytest.mark.model
def test_dpo_takes_two_steps(echo_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    import datasets
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from trl import DPOConfig, DPOTrainer

    from pairsmith.llms.local.hub_models import stored_at

    published, _, _ = run(echo_recipe(8))
    train = datasets.load_dataset(published.folder, split="train", cache_dir=str(tmp_path / "cache"))
    tokenizer = AutoTokenizer.from_pretrained(stored_at(model_id("smollm2")))
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2
    )
    arguments = DPOConfig(
        output_dir=str(tmp_path / "out"), max_steps=2, per_device_train_batch_size=2, report_to=[], use_cpu=True,
        logging_steps=1, bf16=False, gradient_checkpointing=False, save_strategy="no",
    )  # fmt: skip
    model, reference = LlamaForCausalLM(config), LlamaForCausalLM(config)
    trainer = DPOTrainer(model, reference, args=arguments, train_dataset=train, processing_class=tokenizer)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert trainer.state.global_step == 2
    assert len(losses) == 2
    assert all(0 < loss < 10 for loss in losses)

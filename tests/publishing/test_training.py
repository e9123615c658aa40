"""TRL's trainers take two steps on published datasets, with a tiny model made here: no weights are fetched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pairsmith.config import Recipe
from tests.runs import run
from tests.tiny import tokenizer_at

LN2 = 0.6931
ROWS: list[dict[str, Any]] = [
    *({"prompt": f"Question {n}: name a tree."} for n in range(4)),
    *({"prompt": f"Question {n}: name a river.", "system_prompt": "You are brief."} for n in range(4)),
    *({"prompt": [{"role": "user", "content": f"Hello {n}"}, {"role": "assistant", "content": "Hello."},
                  {"role": "user", "content": "Name a town."}]} for n in range(4)),
]  # fmt: skip
UNJUDGED = {
    "rating": None, "evolution": None, "pairing": {"strategy": "member-order", "member_order": ["brief", "long"]}
}  # fmt: skip
MEMBERS = [{"name": name, "backend": "echo", "model": f"echo-{name}"} for name in ("brief", "long")]


@pytest.fixture(params=["judged", "unjudged"])
def folder(request: pytest.FixtureRequest, echo_recipe: Callable[..., Recipe], tmp_path: Path) -> str:
    """A published version with chats of one turn and of several, with system prompts and without, in all exports."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    changes = UNJUDGED if request.param == "unjudged" else {}
    exports = {"publishing": {"exports": ["kto", "reward"]}, "pool": {"members": MEMBERS}}
    published, summary, _ = run(echo_recipe(1, prompts={"sources": [{"path": str(path)}]}, **exports, **changes))
    assert summary.pairs > len(ROWS) / 2
    return published.folder


@pytest.mark.model
@pytest.mark.filterwarnings("ignore")
def test_trl_trains_on_what_is_published(folder: str, tmp_path: Path) -> None:
    import datasets
    import torch
    import trl
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast
    from trl.experimental import orpo

    size = tokenizer_at(tmp_path / "tokens", pad_token="<pad>")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path / "tokens")

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip

    def losses(trainer: Any, settings: Any, form: str = "default", **more: Any) -> list[float]:
        """The losses of two steps on the training split of a form of the published data."""
        arguments = settings(
            output_dir=str(tmp_path / "out"), max_steps=2, per_device_train_batch_size=2, report_to=[], use_cpu=True,
            logging_steps=1, bf16=False, gradient_checkpointing=False, save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        train = datasets.load_dataset(folder, form, split="train", cache_dir=str(tmp_path / "cache"))
        kind = LlamaForSequenceClassification if trainer is trl.RewardTrainer else LlamaForCausalLM
        made = trainer(kind(config), args=arguments, train_dataset=train, processing_class=tokenizer, **more)
        made.train()
        assert made.state.global_step == 2
        return [entry["loss"] for entry in made.state.log_history if "loss" in entry]

    pairs = datasets.load_dataset(folder, split="train", cache_dir=str(tmp_path / "cache"))
    assert "margin" not in pairs.column_names
    assert {tuple(message["role"] for message in chat) for chat in pairs["prompt"]} == {
        ("user",), ("system", "user"), ("user", "assistant", "user")
    }  # fmt: skip
    policy = LlamaForCausalLM(config)
    assert losses(trl.RewardTrainer, trl.RewardConfig)[0] == pytest.approx(LN2, abs=0.05)
    assert losses(trl.RewardTrainer, trl.RewardConfig, "reward")[0] == pytest.approx(LN2, abs=0.05)
    assert all(0 < loss < 10 for loss in losses(trl.DPOTrainer, trl.DPOConfig, ref_model=policy))
    assert all(0 < loss < 10 for loss in losses(trl.KTOTrainer, trl.KTOConfig, "kto", ref_model=policy))
    assert all(0 < loss < 10 for loss in losses(orpo.ORPOTrainer, orpo.ORPOConfig))

"""PairRM's head on transformers' DeBERTa, whose checkpoints name a class that transformers does not have.

The encoder's last states at the marks of the prompt and of a text go through a small network into a score of that text;
the difference of both scores is the log odds that the first text is the better. Layout, as the names of its weights
give it: https://github.com/yuchenlin/LLM-Blender/blob/main/llm_blender/pair_ranker/pairrm.py; weights:
https://huggingface.co/llm-blender/PairRM-hf.
"""

from __future__ import annotations

from functools import cache
from typing import Any

ARCHITECTURE = "DebertaV2PairRM"
MARKS = ("<|source|>", "<|candidate1|>", "<|candidate2|>")  # of the prompt, the first and the second text
LONGEST = 2048  # tokens that PairRM was trained to read; DeBERTa's positions are relative and give no limit


@cache
def pairrm_class() -> Any:
    """The model's class, for `from_pretrained`. Its config has the ids of the marks."""
    import torch
    from torch.nn import Dropout, Linear, Sequential, Tanh
    from transformers import DebertaV2Model, DebertaV2PreTrainedModel
    from transformers.modeling_outputs import SequenceClassifierOutput

    class DebertaV2PairRM(DebertaV2PreTrainedModel):  # type: ignore[misc]
        base_model_prefix = "pretrained_model"

        def __init__(self, config: Any) -> None:
            config.num_labels = 1
            super().__init__(config)
            size, dropout = config.hidden_size, config.drop_out
            self.pretrained_model = DebertaV2Model(config)
            self.head_layer = Sequential(
                Dropout(dropout), Linear(2 * size, size), Tanh(), Dropout(dropout), Linear(size, 1)
            )
            self.post_init()

        def forward(self, input_ids: Any, attention_mask: Any = None) -> Any:
            states = self.pretrained_model(input_ids, attention_mask=attention_mask).last_hidden_state
            rows = torch.arange(len(input_ids), device=input_ids.device)

            def at(mark: int) -> Any:
                return states[rows, (input_ids == mark).int().argmax(dim=1)]

            source = at(self.config.source_prefix_id)
            first, second = (
                self.head_layer(torch.cat([source, at(mark)], dim=-1))
                for mark in (self.config.cand1_prefix_id, self.config.cand2_prefix_id)
            )
            return SequenceClassifierOutput(logits=first - second)

    return DebertaV2PairRM

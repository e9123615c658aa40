"""Models of random weights and few layers, made in a moment, with a tokenizer of single bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def tokenizer_at(folder: Path, template: str | None = TEMPLATE, pairs: bool = False, **special: str) -> int:
    """A tokenizer of single bytes that puts a BOS, or the marks of pairs, before every text; returns its size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    marks = ["<s>", "</s>", "<pad>", "<cls>", "<sep>"]
    vocabulary = {token: n for n, token in enumerate([*marks, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.add_special_tokens(marks)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = (
        processors.TemplateProcessing(
            single="<cls> $A <sep>", pair="<cls> $A <sep> $B:1 <sep>:1", special_tokens=[("<cls>", 3), ("<sep>", 4)]
        )
        if pairs
        else processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    )
    names = {"cls_token": "<cls>", "sep_token": "<sep>", "pad_token": "<pad>"} if pairs else {"bos_token": "<s>"}
    inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if pairs else [])]
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", model_input_names=inputs, **names, **special
    )
    made.chat_template = template
    made.save_pretrained(folder)
    return len(vocabulary)


def model_at(
    folder: Path,
    kind: str = "Llama",
    template: str | None = TEMPLATE,
    head: str = "SequenceClassification",
    **settings: Any,
) -> Path:
    """A model of random weights and few layers whose answers differ."""
    import torch
    import transformers

    size = tokenizer_at(folder, template, pairs=kind == "Bert", **settings.pop("special", {}))
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    if kind == "GPT2":
        small = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}
    elif kind != "Bert":
        small["num_key_value_heads"] = 2
    limits = {"vocab_size": size, "max_position_embeddings": 256, "initializer_range": 0.4, "num_labels": 1}
    config = getattr(transformers, f"{kind}Config")(**{**limits, **small, **settings})
    torch.manual_seed(5)
    getattr(transformers, f"AutoModelFor{head}").from_config(config).save_pretrained(folder)
    return folder

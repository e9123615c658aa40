"""A chat as the tokens that a model reads, for all local backends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pairsmith.errors import ConfigError
from pairsmith.protocol import Message
from pairsmith.text.templating import transcript


def encode(tokenizer: Any, messages: Sequence[Message], answered: bool = False) -> list[int]:
    """Token ids of a chat, with the prompt for an answer behind them unless it is `answered` already.

    The tokenizer adds no BOS token where the model's template writes its own.
    """
    if tokenizer.chat_template is None:
        return list(tokenizer(transcript(messages) + "\n\nAssistant:")["input_ids"])
    from jinja2 import TemplateError

    try:
        return _template(tokenizer, messages, answered)
    except TemplateError:  # as templates without a system role raise it
        return _template(tokenizer, without_system(messages), answered)


def _template(tokenizer: Any, messages: Sequence[Message], answered: bool) -> list[int]:
    text = tokenizer.apply_chat_template(list(messages), add_generation_prompt=not answered, tokenize=False)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def without_system(messages: Sequence[Message]) -> list[Message]:
    """The same chat with the system message in front of the first user message's text."""
    system = [message["content"] for message in messages if message["role"] == "system"]
    rest = [dict(message) for message in messages if message["role"] != "system"]
    rest[0]["content"] = "\n\n".join([*system, rest[0]["content"]])
    return rest


def choice_tokens(tokenizer: Any, choices: Sequence[str]) -> dict[str, int]:
    """The token of each choice. ConfigError where a choice has several."""
    tokens = {choice: tokenizer(choice, add_special_tokens=False)["input_ids"] for choice in choices}
    if any(len(ids) != 1 for ids in tokens.values()):
        raise ConfigError(f"readout logprobs needs choices of one token each, this tokenizer has {tokens}")
    return {choice: ids[0] for choice, ids in tokens.items()}

"""A chat as the tokens that a model reads, for all local backends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pairsmith.errors import ConfigError
from pairsmith.protocol import Message, Request
from pairsmith.text.templating import transcript, without_system
from pairsmith.text.thoughts import MARKS


def asked(tokenizer: Any, request: Request) -> list[int]:
    """Token ids of a request's chat, with the prompt for an answer behind them."""
    sampling = request.sampling
    messages = without_system(request.messages) if sampling.fold_system else request.messages
    return encode(tokenizer, messages, template_kwargs=sampling.template_kwargs)


def encode(
    tokenizer: Any,
    messages: Sequence[Message],
    answered: bool = False,
    template_kwargs: Mapping[str, Any] | None = None,
) -> list[int]:
    """Token ids of a chat, with the prompt for an answer behind them unless it is `answered` already.

    The tokenizer adds no BOS token where the model's template writes its own. `template_kwargs`: what the template is
    given beside the chat.
    """
    if tokenizer.chat_template is None:
        return list(tokenizer(transcript(messages) + "\n\nAssistant:")["input_ids"])
    from jinja2 import TemplateError

    try:
        return _template(tokenizer, messages, answered, template_kwargs or {})
    except TemplateError:  # as templates without a system role raise it
        return _template(tokenizer, without_system(messages), answered, template_kwargs or {})


def _template(tokenizer: Any, messages: Sequence[Message], answered: bool, more: Mapping[str, Any]) -> list[int]:
    text = tokenizer.apply_chat_template(list(messages), add_generation_prompt=not answered, tokenize=False, **more)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def choice_tokens(tokenizer: Any, choices: Sequence[str]) -> dict[str, int]:
    """The token of each choice. ConfigError where a choice has several."""
    tokens = {choice: tokenizer(choice, add_special_tokens=False)["input_ids"] for choice in choices}
    if any(len(ids) != 1 for ids in tokens.values()):
        raise ConfigError(f"readout logprobs needs choices of one token each, this tokenizer has {tokens}")
    return {choice: ids[0] for choice, ids in tokens.items()}


def special_tokens(tokenizer: Any) -> tuple[frozenset[int], frozenset[int]]:
    """The ids of a tokenizer's special tokens: those that mark thoughts, as Mistral's do, and the others."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).items()
    special = {number: token.content for number, token in added if token.special}
    marks = frozenset(number for number, content in special.items() if content in MARKS)
    return marks, frozenset(special) - marks


def spoken(tokenizer: Any, tokens: Sequence[int], marks: frozenset[int], others: frozenset[int]) -> str:
    """The text of an answer's tokens, without special tokens except for those that mark thoughts."""
    if marks.isdisjoint(tokens):
        return str(tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))
    kept = [token for token in tokens if token not in others]
    return str(tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False))

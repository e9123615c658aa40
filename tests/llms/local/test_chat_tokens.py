"""A chat as tokens, and an answer's tokens as text, with a tokenizer of a few words."""

from __future__ import annotations

from typing import Any

import pytest

from pairsmith.config import Sampling
from pairsmith.llms.local.chat_tokens import asked, special_tokens, spoken
from pairsmith.progress import answered
from pairsmith.protocol import Reply, Request

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' and strict %}{{ raise_exception('no system') }}{% endif %}"
    "{{ m.role }} {{ m.content }} {% endfor %}"
    "{% if enable_thinking is defined and not enable_thinking %}quiet{% endif %}"
)
SPECIAL = ["[THINK]", "[/THINK]", "<s>", "</s>"]
WORDS = ["system", "user", "brief", "tree", "quiet", "Hm", "Oak"]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    tokenizers = pytest.importorskip("tokenizers")
    from transformers import PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate([*WORDS, *SPECIAL, "?"])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="?"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.add_special_tokens(SPECIAL)
    fast = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")
    fast.chat_template = TEMPLATE
    return fast


def request(**sampling: Any) -> Request:
    chat = ({"role": "system", "content": "brief"}, {"role": "user", "content": "tree"})
    return Request(chat, Sampling(**sampling), 1)


def test_the_template_gets_the_recipes_words_and_a_folded_system_message(tokenizer: Any) -> None:
    def read(**sampling: Any) -> str:
        return str(tokenizer.decode(asked(tokenizer, request(**sampling))))

    assert read() == "system brief user tree"
    assert read(template_kwargs={"enable_thinking": False}) == "system brief user tree quiet"
    assert read(fold_system=True) == "user brief tree"
    assert read(template_kwargs={"strict": True}) == "user brief tree"  # a template that refuses a system message


def test_marks_that_are_special_tokens_stay_so_that_a_thought_can_be_told(tokenizer: Any) -> None:
    special = special_tokens(tokenizer)
    ids = tokenizer.convert_tokens_to_ids(["[THINK]", "Hm", "[/THINK]", "Oak", "</s>"])
    text = spoken(tokenizer, ids, *special)
    assert "</s>" not in text
    reply = answered(request(), Reply(text, "stop"))
    assert (reply.text, reply.reasoning) == ("Oak", "Hm")
    assert spoken(tokenizer, ids[3:], *special) == "Oak"

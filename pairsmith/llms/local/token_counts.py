"""Lengths of texts in tokens of a tokenizer that a recipe names. No weights are loaded."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from pairsmith.config import LengthGap, Pairing, Signal
from pairsmith.errors import ModelNotFound
from pairsmith.llms.local.named_weights import commit_of, is_from_hub, load_revision, located
from pairsmith.session import Session

P = TypeVar("P", Pairing, Signal)


def token_counter(session: Session) -> Callable[[LengthGap, str], int]:
    """A function that counts the tokens of a text by the tokenizer of a `LengthGap`, each text once.

    Tokens that the tokenizer puts around every text do not count. It raises ModelNotFound.
    """
    tokenizers: dict[LengthGap, Any] = {}

    @cache
    def count(gap: LengthGap, text: str) -> int:
        if gap not in tokenizers:
            assert gap.tokenizer is not None
            place = located(gap.tokenizer, gap.revision)
            kept = ("tokenizer", place.path, place.revision)
            tokenizers[gap] = session.keep(kept, lambda: _loaded(place.path, place.revision))
        return len(tokenizers[gap](text, add_special_tokens=False, verbose=False)["input_ids"])

    return count


def tokenizer_identities(pairing: Pairing) -> list[list[str | None]]:
    """The tokenizers that decide which pairs there are, each with its revision. Loads nothing."""
    gaps = [part.length_gap for _, part in pairing.parts]
    return [[gap.tokenizer, located(gap.tokenizer, gap.revision).revision] for gap in gaps if gap and gap.tokenizer]


def with_commits(pairing: Pairing) -> Pairing:
    """The same with the commit of each tokenizer from the hub in place of a branch, a tag or no revision."""
    signals = tuple(_with_commit(signal) for signal in pairing.signals)
    return _with_commit(pairing).model_copy(update={"signals": signals})


def _with_commit(part: P) -> P:
    gap = part.length_gap
    if gap is None or gap.tokenizer is None or not is_from_hub(gap.tokenizer, gap.revision):
        return part
    commit, _ = commit_of(gap.tokenizer, gap.revision, anew=True)
    found = gap.model_copy(update={"revision": commit or gap.revision})
    return part.model_copy(update={"max_length_difference": found})


def require(pairing: Pairing) -> None:
    """Raise ModelNotFound where a tokenizer of the recipe is from the hub and cannot be found there. Loads nothing."""
    for model, revision in tokenizer_identities(pairing):
        if model is not None and is_from_hub(model, revision):
            load_revision(model, revision)


def _loaded(path: str, revision: str | None) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path, revision=load_revision(path, revision))
    except (OSError, ValueError) as error:
        raise ModelNotFound(f"{path}: its tokenizer cannot be loaded: {str(error).splitlines()[0]}") from error

"""What people read instead of names in tables: the reasons of rejections and refused rewrites, and who was asked."""

from __future__ import annotations

from collections.abc import Mapping

from pairsmith.storage.schemas import Reason

WORDS: dict[str, str] = {
    Reason.UNREADABLE: "the row cannot be read",
    Reason.MISSING: "the prompt is missing",
    Reason.WRONG_TYPE: "the prompt is neither text nor a chat",
    Reason.BAD_CHAT: "the chat is not a proper one",
    Reason.BLANK: "the prompt is blank",
    Reason.TOO_LONG: "the prompt is too long",
    Reason.DUPLICATE: "the same prompt again",
    Reason.CONTAMINATED: "shares words with a benchmark",
    Reason.NEAR_DUPLICATE: "too much like an earlier prompt",
    Reason.FORGOTTEN: "taken out by a person",
    Reason.NO_COMPLETION: "no member answered",
    Reason.FAILED: "the request failed; the next run asks again",
    Reason.REFUSED: "the model refused the request",
    Reason.EMPTY: "the answer is empty",
    Reason.TRUNCATED: "the answer was cut off",
    Reason.EVOLUTION_FAILED: "the rewrite was no good",
    Reason.SUPERSEDED: "replaced by a later rewrite",
    Reason.CHECK_FAILED: "failed a check",
    Reason.FLAGGED: "flagged by the guard",
    Reason.SCREENED: "holds a secret or personal data",
    Reason.UNRATED: "a judge gave no usable rating",
    Reason.TOO_FEW: "fewer than two answers to choose from",
    Reason.TIE: "the best answers are tied",
    Reason.MARGIN: "the margin is too small",
    Reason.CONFLICT: "the aspects contradict each other",
    Reason.IDENTICAL: "the answers are identical",
    Reason.SIMILAR: "the answers are too much alike",
    Reason.DISAGREE: "not all raters who must agree put the answers in this order",
    Reason.LENGTHS: "the lengths of the answers differ too much",
    Reason.NO_MATCH: "no two answers that the strategy may pair",
    f"{Reason.TRUNCATED}: cut off at max_tokens": "the answer was cut off at max_tokens",
    "merged": "joined with a row of the same prompt",
}
FLAWS: dict[str, str] = {
    "unchanged": "the rewrite is the answer unchanged",
    "leaks the request's words": "the rewrite repeats the request's words",
    "speaks of itself as a rewrite": "the rewrite speaks of itself as one",
    "refusal": "the evolver refused",
}


def in_words(reason: str) -> str:
    """A reason as a person would say it; what is no reason, such as an endpoint's own words, as it is.

    >>> in_words("too_few"), in_words("evolution_failed: refusal")
    ('fewer than two answers to choose from', 'the evolver refused')
    """
    kind, _, flaw = reason.partition(": ")
    if kind == Reason.EVOLUTION_FAILED and flaw in FLAWS:
        return FLAWS[flaw]
    return WORDS.get(reason, reason)


def reasons_text(reasons: Mapping[str, int], most: int | None = None) -> str:
    """Reasons in words with their counts, the commonest first; of more than `most`, it says that there are others.

    >>> reasons_text({"tie": 2, "too_few": 1300})
    'fewer than two answers to choose from (1,300), the best answers are tied (2)'
    """
    ranked = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    told = [f"{in_words(reason)} ({count:,})" for reason, count in ranked[:most]]
    return ", ".join(told) + (" and others" if len(ranked) > len(told) else "")


def called(who: str) -> str:
    """A member, evolver or judge as people call it: by its role and name, or the name alone where that says the role.

    >>> called("judge judge"), called("member brief")
    ('judge', 'member brief')
    """
    role, _, name = who.partition(" ")
    return name if name.casefold().startswith(role.casefold()) else who

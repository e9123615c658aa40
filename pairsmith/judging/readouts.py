"""The sheet that a judge fills in, and the result of reading its reply: one rating or null for each text.

A judge replies in one of four forms, and a module for each form reads it: free text (`readout_text`), a JSON object
(`readout_json`), the probabilities of digits (`readout_logprobs`), a reward model's score (`readout_reward`);
`readout_values` reads a single rating; `own_format` reads what trained judges write. Whatever a reply says, reading it
gives exactly one `Read` for each text. A rating is taken only if the text's mark ties it to the text and if it is
unambiguous, whole and on the scale. Otherwise it is null, with an error that says why. Nothing is clamped, rounded or
guessed.
"""

from __future__ import annotations

from dataclasses import dataclass

NOT_APPLICABLE = "not_applicable"
MARK = r"[0-9a-f]{6}"  # the pattern of a text's mark, as `templating.nonces` makes it


@dataclass(frozen=True)
class Scale:
    """Whole ratings from `low` to `high`, both included."""

    low: int
    high: int

    def digits(self, may_be_na: bool) -> tuple[str, ...]:
        """The tokens with which a logprobs reply can begin; N stands for not applicable."""
        return tuple(str(n) for n in range(self.low, self.high + 1)) + (("N",) if may_be_na else ())


@dataclass(frozen=True)
class Text:
    """A completion as a judge sees it: under a mark."""

    completion_id: str
    mark: str
    text: str


@dataclass(frozen=True)
class Sheet:
    """What a judge was asked to fill in.

    `unbound`: whether a rating line without a mark can be trusted. It cannot if a text or the prompt contains such a
    line, since the judge may be quoting it. `thoughts`: whether a `</think>` in the reply ends a thought. It may not if
    a text contains one, for the same reason.
    """

    texts: tuple[Text, ...]
    scale: Scale
    may_be_na: bool
    unbound: bool = True
    thoughts: bool = True

    @property
    def shown(self) -> tuple[str, ...]:
        """What the judge was shown, and may quote."""
        return tuple(text.text for text in self.texts)


@dataclass(frozen=True)
class Read:
    """What a reply says about one text.

    `rating` and `score` are null where `error` is set. `rating` is also null for a score that is not a whole number,
    such as a reward model's or one that a source gave.
    """

    rating: int | None = None
    score: float | None = None
    rationale: str | None = None
    error: str | None = None

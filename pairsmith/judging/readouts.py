"""What a judge fills in, and what is read of it: a sheet of texts with marks -> one rating or null for each of them.

A judge answers in one of four forms, and each form has a reader of its own beside this module: free text
(`readout_text`), a JSON object (`readout_json`), the probabilities of digits (`readout_logprobs`), a reward model's
score (`readout_reward`); `readout_values` reads one rating as it is written. The readers are total: any reply gives
exactly one `Read` per text, and a rating is taken only where it is bound to its text by the text's mark and is
unambiguous, whole and on the scale. Everything else is null with an error that says why; nothing is clamped, rounded or
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
        """The first tokens that a logprobs reply can begin with; N stands for not applicable."""
        return tuple(str(n) for n in range(self.low, self.high + 1)) + (("N",) if may_be_na else ())


@dataclass(frozen=True)
class Text:
    """A completion as a judge sees it."""

    completion_id: str
    mark: str
    text: str


@dataclass(frozen=True)
class Sheet:
    """What a judge was asked to fill in. `unbound`: whether a rating line without a mark can be trusted, which it
    cannot where a text or the prompt holds such a line itself, since the judge may be quoting it. `thoughts`: whether
    a `</think>` in the reply ends a thought, which it may not where a text holds one, for the same reason."""

    texts: tuple[Text, ...]
    scale: Scale
    may_be_na: bool
    unbound: bool = True
    thoughts: bool = True


@dataclass(frozen=True)
class Read:
    """What a reply says of one text. Both numbers are null where `error` is set; `rating` also where a score need not
    be whole: a reward, or one that was given."""

    rating: int | None = None
    score: float | None = None
    rationale: str | None = None
    error: str | None = None

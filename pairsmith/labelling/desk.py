"""One person at work: which pair is next, what was said of it, and how it is taken back."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pairsmith.errors import ConfigError
from pairsmith.labelling.drawing import in_order_for, left_for
from pairsmith.labelling.journal import LONGEST_NOTE, Journal, Label
from pairsmith.labelling.pairs import Draw
from pairsmith.storage.decisions import now
from pairsmith.worth.gold import Better

Choice = Literal["left", "right", "tie", "skip"]
CHOICES: tuple[Choice, ...] = get_args(Choice)


class Stale(ConfigError):
    """A label for a pair that is not the one to be labelled now, as from a page in another window."""


class Desk:
    """The drawn pairs in a person's order, with their journal. All that it says is free of names, models and scores."""

    def __init__(self, draw: Draw, journal: Journal, who: str) -> None:
        self.draw, self.journal, self.who = draw, journal, who
        self.order = in_order_for(who, draw.seed, draw.pairs)
        self._undone: Label | None = None  # what was taken back last, until its pair is labelled again

    @property
    def current(self) -> str | None:
        """The pair to be labelled now: the one whose label was taken back, else the first without one, if any."""
        if self._undone:
            return self._undone.pair
        return next((one for one in self.order if one not in self.journal.now), None)

    def state(self) -> dict[str, Any]:
        """What the page shows: how far it is, and the pair to be labelled with its sides in this person's order."""
        shown: dict[str, Any] | None = None
        if key := self.current:
            gold = self.draw.pairs[key].gold
            texts = (gold.a, gold.b) if self._left(key) == "a" else (gold.b, gold.a)
            shown = {"id": key, "prompt": gold.chat, "left": texts[0], "right": texts[1]}
            shown["note"] = self._undone.note if self._undone else ""
        done = sum(one in self.journal.now for one in self.order)
        return {"done": done, "total": len(self.order), "can_undo": self._last() is not None, "pair": shown}

    def label(self, key: str, choice: Choice, note: str = "") -> None:
        """Write what the person said of the current pair.

        Raises Stale for another pair, ConfigError for a note that is too long, OSError where the disk fails.
        """
        if key != self.current:
            raise Stale("this pair is labelled already, or another is to be labelled first")
        if len(note) > LONGEST_NOTE:
            raise ConfigError(f"note: {len(note):,} characters; a note has {LONGEST_NOTE:,} at most")
        left = self._left(key)
        meant: dict[Choice, Better] = {"left": left, "right": "b" if left == "a" else "a", "tie": "tie", "skip": "skip"}
        self._write(key, meant[choice], note.strip())
        self._undone = None

    def undo(self) -> None:
        """Take back the last label of this draw, so that its pair is shown again, with its note."""
        if last := self._last():
            self._write(last.pair, None, "")
            self._undone = last

    def _last(self) -> Label | None:
        return next((one for one in reversed(self.journal.now.values()) if one.pair in self.draw.pairs), None)

    def _left(self, key: str) -> Literal["a", "b"]:
        return left_for(self.who, self.draw.seed, key)

    def _write(self, key: str, better: Better | None, note: str) -> None:
        draw, drawn = self.draw, self.draw.pairs[key].gold.drawn or ""
        shown = (self._left(key), drawn, draw.version, draw.seed, draw.count)
        self.journal.add(Label(key, better, self.who, *shown, at=now(), note=note))

"""The exception tree.

PairsmithError
├── ConfigError       a recipe, template or option is wrong: fix it, a retry cannot help
│   ├── WrongFields   fields of a recipe are wrong
│   ├── NoText        a template shows a value that has no text of its own
│   ├── ModelNotFound weights or tokenizer cannot be found or read
│   └── NoConditionalWrites  a storage does not support conditional writes
├── DataError         input or stored data is not what it should be
│   ├── DamagedFile   a stored file is there and holds something other than what was written
│   └── TableError    a stored table is damaged, of another kind, or does not fit its schema
│       └── AbsentTable   there is no such table
└── RunError          a run ended without finishing its work
    ├── ManyFailed    all was done, but a member, evolver or judge failed too often for a version to be released
    ├── BudgetSpent   the budget allows no further request
    └── StorageUnreachable  a stored file could not be read, so it is not known what it holds
"""

from collections.abc import Sequence
from typing import Any


class PairsmithError(Exception):
    """Base of everything that pairsmith raises on purpose."""


class ConfigError(PairsmithError):
    """A recipe, template or option is wrong; retrying cannot help."""


class WrongFields(ConfigError):
    """Fields of a recipe are wrong. `mistakes`: the place of each, names and indices, and what is wrong there."""

    def __init__(self, message: str, mistakes: Sequence[tuple[tuple[str | int, ...], str]] = ()) -> None:
        super().__init__(message)
        self.mistakes = mistakes


class ModelNotFound(ConfigError):
    """A model's weights or tokenizer cannot be found or read."""


class NoText(ConfigError):
    """A template shows a value that is no text, number or boolean."""


class NoConditionalWrites(ConfigError):
    """A storage cannot make a write depend on the file being absent or unchanged."""


class DataError(PairsmithError):
    """Input or stored data is not what it should be."""


class DamagedFile(DataError):
    """A stored file was read whole and does not hold what was written; what it held may be made anew."""


class TableError(DataError):
    """A stored table is damaged, of another kind, or does not fit its schema."""


class AbsentTable(TableError):
    """A table that is needed is not there."""


class RunError(PairsmithError):
    """A run ended before all its work was done; the finished part is kept."""


class ManyFailed(RunError):
    """All was done, and what came of it is not released: a member, evolver or judge failed in too many of its calls.

    `result`: what the flow run would have returned.
    """

    def __init__(self, message: str, result: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.result = result or {}


class BudgetSpent(RunError):
    """The budget allows no further request."""


class StorageUnreachable(RunError):
    """A stored file could not be read, even after several tries. It counts neither as absent nor as damaged."""

"""The exception tree.

PairsmithError
├── ConfigError       a recipe, template or option is wrong: fix it, a retry cannot help
│   ├── ModelNotFound weights or tokenizer cannot be found or read
│   └── NoConditionalWrites  a storage does not support conditional writes
├── DataError         input or stored data is not what it should be
│   └── TableError    a stored table is damaged, of another kind, or does not fit its schema
└── RunError          a run ended without finishing its work
    └── BudgetSpent   the budget allows no further request
"""


class PairsmithError(Exception):
    """Base of everything that pairsmith raises on purpose."""


class ConfigError(PairsmithError):
    """A recipe, template or option is wrong; retrying cannot help."""


class ModelNotFound(ConfigError):
    """A model's weights or tokenizer cannot be found or read."""


class NoConditionalWrites(ConfigError):
    """A storage cannot make a write depend on the file being absent or unchanged."""


class DataError(PairsmithError):
    """Input or stored data is not what it should be."""


class TableError(DataError):
    """A stored table is damaged, of another kind, or does not fit its schema."""


class RunError(PairsmithError):
    """A run ended before all its work was done; the finished part is kept."""


class BudgetSpent(RunError):
    """The budget allows no further request."""

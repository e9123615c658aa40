"""The exception tree.

PairsmithError
├── ConfigError       a recipe, template or option is wrong: fix it, a retry cannot help
│   ├── ModelNotFound weights or tokenizer cannot be found or read
│   └── NoConditionalWrites  a storage cannot write on a condition
├── DataError         input or stored data is not what it should be
│   └── TableError    a stored table is damaged, foreign or fails its schema
└── RunError          a run ended without finishing its work
    └── BudgetSpent   nothing more can be asked within the budget
"""


class PairsmithError(Exception):
    """Base of everything that pairsmith raises on purpose."""


class ConfigError(PairsmithError):
    """A recipe, template or option is wrong; retrying cannot help."""


class ModelNotFound(ConfigError):
    """A model's weights or tokenizer cannot be found or read."""


class NoConditionalWrites(ConfigError):
    """A storage cannot write a file on the condition that it is absent, or as it was."""


class DataError(PairsmithError):
    """Input or stored data is not what it should be."""


class TableError(DataError):
    """A stored table is damaged, foreign or fails its schema."""


class RunError(PairsmithError):
    """A run ended without finishing its work; what it finished is kept."""


class BudgetSpent(RunError):
    """Nothing more can be asked within the budget."""

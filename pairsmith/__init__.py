"""pairsmith: build preference datasets. The library: pure logic, no Prefect.

Start at `pairsmith.recipes.load_recipe`; each stage is a module of its own: `prompts`, `generation`, `evolution`,
`rating`, `pairing`, `publishing`. The workflow that chains them lives in the packages `tasks` and `flows`.
"""

import os

__version__ = "0.1.0"
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # Arrow's own keeps what was freed: see pairsmith.memory

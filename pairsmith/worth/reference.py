"""What the untrained model gives for the answers that arms train on: reckoned once for all arms, and kept.

An arm with sides shuffled, another seed and another `--eval` read the same texts, so all find the same file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pairsmith.ids import fingerprint
from pairsmith.storage.local_files import LocalFiles
from pairsmith.worth.arms import Pair
from pairsmith.worth.asking import log_probs_of
from pairsmith.worth.training import Lab, Reference, Tell

REVISION = 1  # to be raised where the code makes another result of the same inputs


def reference_of(lab: Lab, pairs: Sequence[Pair], files: LocalFiles, tell: Tell) -> Reference:
    """For each pair by its name, the untrained model's log-probabilities of its answers: kept, or reckoned now."""
    in_order = {pair.name: pair for pair in (min(pair, pair.changed, key=lambda one: one.name) for pair in pairs)}
    read = [[name, pair.prompt, pair.chosen, pair.rejected] for name, pair in sorted(in_order.items())]
    file = f"untrained-{fingerprint('untrained', REVISION, lab.made_by, read)}.json"
    known = kept_json(files, file)
    if known is None:
        known = log_probs_of(lab, lab.load(), list(in_order.values()), tell, "untrained model")
        files.write(file, json.dumps(known, indent=1).encode("utf-8"))
    return known | {pair.changed.name: known[name][::-1] for name, pair in in_order.items()}


def kept_json(files: LocalFiles, name: str) -> dict[str, Any] | None:
    """What a file holds, where it is there and whole."""
    if not files.exists(name):
        return None
    try:
        found: dict[str, Any] = json.loads(files.read(name))
    except ValueError:
        return None
    return found

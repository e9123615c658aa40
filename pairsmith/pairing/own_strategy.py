"""A user's own strategy: a function of the candidates of one prompt and the recipe's `pairing`, like the built-in ones.

The candidates that it yields are replaced by the original ones, so that no pair has a text or score that it made up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from pairsmith.config import Pairing
from pairsmith.config.plugins import failed, load_plugin
from pairsmith.errors import ConfigError, PairsmithError
from pairsmith.pairing.candidates import Candidate


def pairs_of(name: str, candidates: Sequence[Candidate], pairing: Pairing) -> Iterator[tuple[Candidate, Candidate]]:
    """The pairs that the strategy of that name yields, in order of preference. Raises ConfigError if it fails or yields
    anything but a pair of two different candidates."""
    strategy: Callable[[Sequence[Candidate], Pairing], Iterable[object]] = load_plugin(name)
    by_id = {candidate.id: candidate for candidate in candidates}
    copies = tuple(replace(candidate, row=candidate.row.copy()) for candidate in candidates)
    try:
        for pair in strategy(copies, pairing):
            ids = [str(getattr(one, "id", "")) for one in pair] if isinstance(pair, tuple | list) else []
            if len(ids) != 2 or ids[0] == ids[1] or not by_id.keys() >= set(ids):
                raise ConfigError(f"{name} yielded {pair!r:.200}, which is no pair of two different candidates")
            yield by_id[ids[0]], by_id[ids[1]]
    except PairsmithError:
        raise
    except (Exception, SystemExit) as error:
        raise failed(name, error) from error

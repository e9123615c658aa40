"""H1: whatever befell a data set, it ends as if nothing had: see `histories`.

PAIRSMITH_HISTORIES says how many are tried, PAIRSMITH_HISTORY replays the one with that seed and prints it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pairsmith.ledger.ledger import Ledger
from pairsmith.testing import FakeEndpoint
from tests.faults.harness import complete
from tests.faults.histories import WEATHER, World, build_here, live_through, recipe_of

Tally = Callable[..., None]


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("half", [0, 1])
def test_h1_histories_end_as_if_nothing_had_happened(
    new_ledger: Callable[[], str], histories: int, tmp_path: Path, tally: Tally, half: int
) -> None:
    replayed = os.environ.get("PAIRSMITH_HISTORY")
    for seed in [int(replayed)] if replayed else range(half, histories, 2):
        repeated = one_history(seed, tmp_path / str(seed), new_ledger)
        tally(1, 0, repeated)


def one_history(seed: int, folder: Path, new_ledger: Callable[[], str]) -> int:
    """Live through a history and check its end; returns how many charged answers were to a request asked before."""
    with FakeEndpoint(weather=WEATHER) as endpoint:
        world = World(folder, endpoint, new_ledger)
        try:
            live_through(world, seed)
            endpoint.recover()
            outcome = complete(world.recipe(), work=build_here)
            again = complete(world.recipe(), work=build_here)
            assert outcome.digest == again.digest == undisturbed(world)
            assert again.calls == 0
            repeated = sum(endpoint.answered.values()) - len(endpoint.answered)
            assert repeated <= world.under_way + world.dropped + world.unusable
            check_spending(world)
        except BaseException:
            story = "\n".join(world.story)
            print(f"history {seed} (PAIRSMITH_HISTORY={seed} replays it):\n{story}")
            raise
        return repeated


def undisturbed(world: World) -> str:
    """The digest of the same recipe and prompts where nothing was before."""
    folder = world.folder / "undisturbed"
    with FakeEndpoint() as endpoint:
        ledger = f"sqlite:///{folder}/ledger.sqlite"
        return complete(recipe_of(folder, endpoint, world.settings, world.wanted, ledger), work=build_here).digest


def check_spending(world: World) -> None:
    """The ledger counted what was charged, but for answers that were under way when their process was killed."""
    book = Ledger(world.ledger)
    counted = [row for row in book.spending.rows() if not row["is_reckoned"]]
    book.close()
    charged = world.endpoint.answered
    missing = charged.total() - len(counted)
    tokens = world.endpoint.bill - sum(row["n_prompt_tokens"] + row["n_tokens"] for row in counted)
    again = [name for name, count in charged.items() if count > 1]
    assert 0 <= missing <= world.under_way, f"{missing} answers are not counted; charged more than once: {again}"
    assert (tokens > 0) == (missing > 0), f"{tokens} tokens are not counted, {missing} answers"

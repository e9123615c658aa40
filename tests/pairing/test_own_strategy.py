"""A strategy of one's own: what it yields is held against the candidates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pairsmith.config import Pairing
from pairsmith.errors import ConfigError
from pairsmith.judging.scoring import Scores
from pairsmith.pairing.candidates import Candidate
from pairsmith.pairing.own_strategy import pairs_of
from tests.pairing.cases import selected
from tests.runs import completion

TEXTS = [completion(f"c{n}", text=text) for n, text in enumerate(("short", "a bit longer", "the longest text of all"))]
CANDIDATES = [Candidate(row, Scores(float(n)), row["completion_id"]) for n, row in enumerate(TEXTS)]
OWN = """
from dataclasses import replace
def in_order(candidates, pairing):
    assert isinstance(candidates, tuple)
    yield from zip(candidates[1:], candidates)
def altered(candidates, pairing):
    candidates[1].row["text"] = "mine"
    yield replace(candidates[0], worth=9.0, root="r"), candidates[1]
def itself(candidates, pairing): return [(candidates[0], candidates[0])]
def three(candidates, pairing): return [candidates]
def ids(candidates, pairing): return [("c1", "c0")]
def nothing(candidates, pairing): return None
def late(candidates, pairing):
    yield candidates[1], candidates[0]
    raise KeyError("no such thing")
def leaves(candidates, pairing): raise SystemExit(2)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    (tmp_path / "own_strategy_module.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    return lambda name: Pairing(strategy=f"own_strategy_module:{name}").strategy


def ids(pairs: Any) -> list[tuple[str, str]]:
    return [(chosen.id, rejected.id) for chosen, rejected in pairs]


def test_pairs_come_in_the_order_of_the_strategy(own: Callable[[str], str]) -> None:
    assert ids(pairs_of(own("in_order"), CANDIDATES, Pairing())) == [("c1", "c0"), ("c2", "c1")]


def test_a_candidate_stays_as_it_was_given(own: Callable[[str], str]) -> None:
    ((chosen, rejected),) = pairs_of(own("altered"), CANDIDATES, Pairing())
    assert chosen is CANDIDATES[0]
    assert rejected.row["text"] == "a bit longer"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("itself", "own_strategy_module:itself yielded .* which is no pair of two different candidates"),
        ("three", "own_strategy_module:three yielded"),
        ("ids", "own_strategy_module:ids yielded"),
        ("nothing", "own_strategy_module:nothing failed: TypeError"),
        ("late", "own_strategy_module:late failed: KeyError: 'no such thing'"),
        ("leaves", "own_strategy_module:leaves failed: SystemExit: 2"),
    ],
)
def test_a_strategy_that_fails_is_an_error_of_the_recipe(own: Callable[[str], str], name: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        list(pairs_of(own(name), CANDIDATES, Pairing()))
    stranger = replace(CANDIDATES[0], row=TEXTS[0] | {"completion_id": "stranger"})
    with pytest.raises(ConfigError, match="no pair of two different candidates"):
        list(pairs_of(own("in_order"), [CANDIDATES[0], stranger, stranger], Pairing()))


def test_one_pair_is_taken_or_as_many_as_the_recipe_says(own: Callable[[str], str]) -> None:
    table = {candidate.id: candidate.scores for candidate in CANDIDATES}
    for most, expected in ((None, [("c1", "c0")]), (2, [("c1", "c0"), ("c2", "c1")])):
        pairing = Pairing(strategy=own("in_order"), max_pairs=most)
        selection = selected(TEXTS, table, pairing, True)
        assert [(pair["chosen_id"], pair["rejected_id"]) for pair in selection.pairs] == expected
        assert {pair["strategy"] for pair in selection.pairs} == {"own_strategy_module:in_order"}

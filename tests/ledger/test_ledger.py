"""A ledger by its URL."""

from __future__ import annotations

from pathlib import Path

from pairsmith.ledger.ledger import open_ledger


def test_a_process_opens_a_ledger_once(tmp_path: Path) -> None:
    one, other = (f"sqlite:///{tmp_path}/{name}.sqlite" for name in ("one", "other"))
    assert open_ledger(one) is open_ledger(one)
    assert open_ledger(one) is not open_ledger(other)

"""A ledger by its URL."""

from __future__ import annotations

from pathlib import Path

from pairsmith.ledger.ledger import open_ledger
from pairsmith.session import Session


def test_a_process_opens_a_ledger_once(tmp_path: Path) -> None:
    one, other = (f"sqlite:///{tmp_path}/{name}.sqlite" for name in ("one", "other"))
    session, other_session = Session(), Session()
    assert open_ledger(one, session) is open_ledger(one, session)
    assert open_ledger(one, session) is not open_ledger(other, session)
    assert open_ledger(one, other_session) is not open_ledger(one, session)

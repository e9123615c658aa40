"""Batches under way, noted in the ledger until their replies are recorded."""

from __future__ import annotations

from dataclasses import replace

from pairsmith.ledger.batches import Batch
from pairsmith.ledger.ledger import Ledger

BATCH = Batch("token", None, "http://one", "m", ("k", "l"))


def test_a_batch_is_pending_for_its_endpoint_and_model_until_it_is_closed(ledger_url: str) -> None:
    batches, elsewhere = Ledger(ledger_url).batches, replace(BATCH, token="other", endpoint="http://other")
    batches.note(BATCH)
    batches.note(elsewhere)
    assert Ledger(ledger_url).batches.pending("http://one", "m") == [BATCH]
    assert batches.pending("http://one", "another") == []
    batches.close(BATCH)
    assert batches.pending("http://one", "m") == []
    assert batches.pending("http://other", "m") == [elsewhere]


def test_the_id_that_a_batch_was_given_takes_the_place_of_none(ledger_url: str) -> None:
    batches = Ledger(ledger_url).batches
    batches.note(BATCH)
    batches.note(BATCH.with_id("batch_1"))
    assert batches.pending("http://one", "m") == [replace(BATCH, id="batch_1")]

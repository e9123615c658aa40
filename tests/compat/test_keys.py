"""The ledger's keys stay what version 0.1.0 made them, so that every reply that was ever paid for is found again.

`keys-0.1.0.json` holds 30 requests of all kinds and the keys that 0.1.0 gave them. It is never written anew: a key that
differs means that all ledgers forget such replies, and the models are asked and paid for once more. A field added to
Request, Sampling or a message may enter the key only where it differs from its default.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pairsmith.config import Sampling
from pairsmith.protocol import Identity, Request

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "keys-0.1.0.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=[case["what"] for case in CASES])
def test_a_request_has_the_key_that_it_always_had(case: dict[str, Any]) -> None:
    request = Request(
        messages=tuple(case["messages"]),
        sampling=Sampling(**case["sampling"]),
        seed=case["seed"],
        sample=case.get("sample", 0),
        schema=case.get("schema"),
        choices=tuple(case["choices"]) if "choices" in case else None,
    )
    assert request.key(Identity(**case["identity"])) == case["key"]


def test_the_thirty_keys_are_all_there() -> None:
    assert len({case["key"] for case in CASES}) == 30

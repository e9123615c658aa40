"""Imported where children are forked from: what a run loads at its first table, so that no child has to."""

from __future__ import annotations

import pairsmith.llms.endpoint.client
import pairsmith.llms.endpoint.openai  # noqa: F401
import tests.faults.harness  # noqa: F401
from pairsmith.storage.schemas import TABLES, frame, validated
from pairsmith.storage.store import digest_of

for table in TABLES:
    digest_of(validated(table, frame(table, [])))

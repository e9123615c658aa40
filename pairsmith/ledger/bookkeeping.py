"""What a person does with a ledger: open it, export and import replies, and check them. `pruning` drops
those that nobody uses."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from pairsmith.errors import DataError
from pairsmith.ledger.ledger import Ledger
from pairsmith.ledger.replies import checksum_of
from pairsmith.ledger.schema import spending, spending_of

FORMAT = 2  # of a line with a reply; in the first, it told what the reply had cost


def ledger_at(workspace: Path | str, url: str | None = None) -> Ledger:
    """The ledger at `url`, or the workspace's own; raises DataError where there is none."""
    if url is None and "://" in str(workspace):
        raise DataError(f"{workspace}: no ledger is kept there; name the one that the recipe names with --ledger")
    file = Path(workspace, "ledger.sqlite")
    if url is None and not file.exists():
        raise DataError(f"{file}: no ledger there; name one with --ledger, or another --workspace")
    return Ledger(url or f"sqlite:///{file}")


def export(ledger: Ledger, file: Path) -> int:
    """Write every reply as a line of JSON, then what each answer cost; returns the number of replies."""
    count = 0
    with open(file, "w", encoding="utf-8") as lines:
        for row in ledger.replies.rows():
            lines.write(_line(row | {"format": FORMAT}))
            count += 1
        for row in ledger.spending.rows():
            lines.write(_line(row))
    return count


def import_(ledger: Ledger, file: Path) -> tuple[int, int]:
    """Add the lines of an export; returns (replies read, new). Raises DataError that names a damaged line.

    The lines before the damaged one are kept. What was spent counts here too, once however often it is imported.
    """
    try:
        with open(file, encoding="utf-8", newline="\n") as lines:
            numbered = enumerate(lines, start=1)
            return ledger.replies.add(row for number, line in numbered for row in _rows(line, f"{file}:{number}"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from error


def verify(ledger: Ledger) -> tuple[int, list[str]]:
    """The number of replies, and the keys of those that do not match their checksum."""
    count, damaged = 0, []
    for row in ledger.replies.rows():
        count += 1
        if checksum_of(row["key"], row["reply"]) != row["checksum"]:
            damaged.append(row["key"])
    return count, damaged


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row | {"recorded_at": row["recorded_at"].isoformat()}) + "\n"


def _rows(line: str, where: str) -> list[dict[str, Any]]:
    """The rows in a line of an export. A reply exported before costs were has its own with it."""
    try:
        row = json.loads(line)
        row["recorded_at"] = datetime.fromisoformat(row["recorded_at"])
        if "id" in row:
            return [{column.name: row[column.name] for column in spending.columns}]
        told = row.pop("format", None)
        row = {"asker": None} | row
        sound = checksum_of(row["key"], row["reply"]) == row["checksum"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{where}: not a line of an export: {type(error).__name__}: {error}") from None
    if not sound:
        raise DataError(f"{where}: the reply does not match its checksum")
    return [row] if told else [row, spending_of(row)]

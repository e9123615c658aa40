"""What a person does with a ledger: open it, export and import replies, check them, and find those nobody uses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pairsmith.errors import DataError
from pairsmith.ledger.ledger import Ledger
from pairsmith.ledger.replies import checksum_of
from pairsmith.storage.opening import files_at

_ASKED = re.compile(r"[^/]+/tables/[^/]+/(completions|ratings)\.[^/]+\.parquet")  # tables of what models were asked


def ledger_at(workspace: Path | str, url: str | None = None) -> Ledger:
    """The ledger at `url`, or the workspace's own; raises DataError where there is none."""
    if url is None and "://" in str(workspace):
        raise DataError(f"{workspace}: no ledger is kept there; name the one that the recipe names with --ledger")
    file = Path(workspace, "ledger.sqlite")
    if url is None and not file.exists():
        raise DataError(f"{file}: no ledger there; name one with --ledger, or another --workspace")
    return Ledger(url or f"sqlite:///{file}")


def export(ledger: Ledger, file: Path) -> int:
    """Write every reply as a line of JSON; returns the number of replies."""
    count = 0
    with open(file, "w", encoding="utf-8") as lines:
        for row in ledger.replies.rows():
            lines.write(json.dumps(row | {"recorded_at": row["recorded_at"].isoformat()}) + "\n")
            count += 1
    return count


def import_(ledger: Ledger, file: Path) -> tuple[int, int]:
    """Add the lines of an export; returns (lines read, new). Raises DataError that names a damaged line.

    The lines before the damaged one are kept.
    """
    try:
        with open(file, encoding="utf-8", newline="\n") as lines:
            return ledger.replies.add(_row(line, f"{file}:{number}") for number, line in enumerate(lines, start=1))
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


def unused(ledger: Ledger, workspaces: Iterable[Path | str]) -> list[str]:
    """Keys of the replies that no table of any data set in these workspaces uses."""
    used: set[str] = set()
    for files in map(files_at, map(str, workspaces)):
        for name in filter(_ASKED.fullmatch, files.tree("")):
            try:
                with files.open(name) as file:
                    used.update(pq.read_table(file, columns=["request"])["request"].to_pylist())
            except Exception as error:
                place = files.url(name)
                raise DataError(f"{place}: cannot be read ({error}); run its recipe again before pruning") from error
    return [row["key"] for row in ledger.replies.rows() if row["key"] not in used]


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = {"asker": None, "alias": None, "host": None} | json.loads(line)
        row["recorded_at"] = datetime.fromisoformat(row["recorded_at"])
        sound = checksum_of(row["key"], row["reply"]) == row["checksum"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{where}: not a line of an export: {type(error).__name__}: {error}") from None
    if not sound:
        raise DataError(f"{where}: the reply does not match its checksum")
    return row  # type: ignore[no-any-return]

"""Take prompts out of published versions: their rows leave the data files, and the pages that show samples go."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pairsmith.errors import DamagedFile, DataError
from pairsmith.ids import fingerprint
from pairsmith.storage.commits import new_upload
from pairsmith.storage.reads import whole
from pairsmith.storage.store import Store
from pairsmith.storage.versions import Version, version_at

Row = dict[str, Any]
_PAGE = "<!doctype html><title>Report</title><p>Prompts were taken out of this version, and its report with them.</p>\n"


def searchable(store: Store, name: str) -> Version:
    """A version by its name. Raises DataError where it is damaged, so that nobody knows what is in it."""
    version = version_at(store, name)
    if version is None:
        raise DataError(
            f"{store.url(f'versions/{name}')}: damaged, so it cannot be searched; remove it, then do it again"
        )
    return version


def redact(store: Store, version: Version, is_meant: Callable[[Row], bool], yes: bool) -> int:
    """Take the rows for which `is_meant` is true out of a version; returns how many there are.

    `yes`: do it; otherwise they are only counted. Its version.json gets the new digests of its files, the new number of
    pairs and a note; the version's own digest changes, since its content has.
    """
    removed, texts = 0, dict[str, bytes]()
    for file in version.files:
        kept, out = _searched(store, version, file, is_meant)
        removed += out if file.startswith("data/") else 0
        if out:
            texts[file] = kept
    if yes and texts:
        files = version.files | {file: hashlib.sha256(content).hexdigest() for file, content in texts.items()}
        digest, forgotten = fingerprint(version.digest, files), version.about.get("forgotten", 0) + removed
        about = {"files": files, "pairs": version.pairs - removed, "digest": digest, "forgotten": forgotten}
        _replace(store, version, texts | {"report.html": _PAGE.encode()}, version.about | about)
    return removed


def _replace(store: Store, version: Version, texts: Mapping[str, bytes], about: dict[str, Any]) -> None:
    """Replace files of a version; those of a commit get new names, since other versions may share the old ones."""
    upload = new_upload()
    places = {file: f"{upload}/{file}" if version.parts else version.place(file) for file in texts}
    for file, content in texts.items():
        store.write_bytes(places[file], content)
    if version.parts:
        store.write_json(f"versions/{version.name}.json", about | {"parts": version.parts | places})
    else:
        store.write_json(f"versions/{version.name}/version.json", about)


def _searched(store: Store, version: Version, file: str, is_meant: Callable[[Row], bool]) -> tuple[bytes, int]:
    try:
        return _without(file, whole(store.files, version.place(file), version.files[file]), is_meant)
    except (FileNotFoundError, DamagedFile, ValueError, KeyError, csv.Error, pa.ArrowException) as error:
        place = store.url(version.place(file))
        raise DataError(
            f"{place}: cannot be searched ({type(error).__name__}: {error}); remove {version.name} first"
        ) from None


def _without(file: str, content: bytes, leaves: Callable[[Row], bool]) -> tuple[bytes, int]:
    """A data file without some rows, and their number."""
    if file.endswith(".jsonl"):
        lines = [line for line in content.split(b"\n") if line.strip()]
        stays = [line for line in lines if not leaves(json.loads(line))]
        return b"".join(line + b"\n" for line in stays), len(lines) - len(stays)
    if file.endswith(".csv"):
        names, *cells = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        kept = [row for row in cells if not leaves(dict(zip(names, row, strict=True)))]
        written = io.StringIO(newline="")
        csv.writer(written).writerows([names, *kept])
        return written.getvalue().encode("utf-8-sig"), len(cells) - len(kept)
    table = pq.read_table(io.BytesIO(content))
    stays_in = [not leaves(row) for row in table.to_pylist()]
    buffer = io.BytesIO()
    pq.write_table(table.filter(pa.array(stays_in, pa.bool_())), buffer)
    return buffer.getvalue(), stays_in.count(False)

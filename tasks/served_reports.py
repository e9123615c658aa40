"""Which reports a service shows: those of versions that its own runs published, noted in a folder of the service.

`pairsmith serve` names the folder and its address in the environment of its runs. A note holds where a data set is and
which version; the report stays there, so that what is pruned or forgotten there is not shown any more.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from pairsmith.errors import PairsmithError
from pairsmith.ids import fingerprint
from pairsmith.storage.disk import write_synced
from pairsmith.storage.previews import version_or_preview
from pairsmith.storage.store import Store
from pairsmith.storage.versions import Version

FOLDER, ADDRESS = "PAIRSMITH_REPORTS", "PAIRSMITH_REPORTS_URL"
PAGES = {"report.html": "text/html; charset=utf-8", "recipe.yaml": "text/plain; charset=utf-8"}  # that are shown
_NAME = re.compile(r"[0-9a-f]{32}")


def note(store: Store, version: Version) -> str | None:
    """Let the service show a version's report; returns its address, or None where this run belongs to no service."""
    folder, address = os.environ.get(FOLDER), os.environ.get(ADDRESS)
    if not folder or not address:
        return None
    name = fingerprint(store.root, version.name, version.digest)[:32]
    there = {"root": store.root, "version": version.name, "digest": version.digest}
    Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    new = Path(folder, f"{name}.{os.getpid()}.new")
    write_synced(new, json.dumps(there).encode())
    new.replace(Path(folder, f"{name}.json"))
    return f"{address}/{name}/report.html"


def page(folder: Path, name: str, page: str) -> bytes | None:
    """A page of a version by the name of its note; None where no run noted it, or it is not there any more."""
    if not _NAME.fullmatch(name) or page not in PAGES:
        return None
    try:
        there = json.loads((folder / f"{name}.json").read_bytes())
        store = Store(there["root"])
        version = version_or_preview(store, there["version"])
        if version is None or version.digest != there["digest"]:
            return None
        return store.files.read(version.place(page))
    except (OSError, ValueError, KeyError, PairsmithError):
        return None

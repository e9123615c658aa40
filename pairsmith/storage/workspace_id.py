"""The name of a data set for locks among machines: an id that its folder keeps, whatever path leads there.

A path will not do. Two machines have different data sets under the same path, and one data set is mounted, or linked
to, under several.
"""

from __future__ import annotations

import json
import uuid

from pairsmith.errors import NoConditionalWrites
from pairsmith.storage.files import Files, refuse_unconditional
from pairsmith.storage.reads import field_of

FILE = "id.json"


def workspace_id(files: Files) -> str:
    """The id of a data set's folder, made at the first call; its address where the storage cannot make one safely.

    A copy of a folder has the id of the original, until the file is deleted from the copy.
    """
    if not files.exists(FILE):
        try:
            refuse_unconditional(files, "the lock is named by its address")
            files.put_if_absent(FILE, json.dumps({"id": uuid.uuid4().hex}).encode())
        except NoConditionalWrites:
            return files.url("")
    return str(field_of(files, FILE, "id", "delete it while no run works on this data set, and it is made anew"))

"""The digest that a table's file carries is compared with its content on every load."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pairsmith.errors import TableError
from pairsmith.storage.schemas import frame, rows
from pairsmith.storage.store import Store, TableRef

REF = TableRef("rejections", "abc")


def table(detail: str) -> pa.Table:
    """One row, valid by its schema."""
    row = {"prompt_id": "p", "stage": "load", "reason": "blank", "detail": detail}
    return pa.Table.from_pandas(frame("rejections", [row]), preserve_index=False)


def test_a_sound_file_whose_content_does_not_match_its_digest_is_refused(tmp_path: Path) -> None:
    """Another program wrote other rows and kept the metadata: the checksums of the file's pages are right."""
    store = Store(str(tmp_path))
    store.write(REF, table("line 1").to_pandas(), "mark")
    metadata = store.read_arrow(REF).schema.metadata
    store.write_arrow(REF, table("line 2").replace_schema_metadata(metadata))
    assert store.read_arrow(REF).column("detail").to_pylist() == ["line 2"]
    with pytest.raises(TableError, match=r"rejections\.all\.parquet: the content does not match its digest"):
        store.load(REF)
    assert store.fresh(REF, "mark") is None


def test_a_file_with_another_copy_of_the_same_rows_is_taken(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    made = store.write(REF, table("line 1").to_pandas(), "mark")
    store.write_arrow(REF, table("line 1").replace_schema_metadata(store.read_arrow(REF).schema.metadata))
    found = store.fresh(REF, "mark")
    assert found is not None
    assert (found.digest, rows(found.data)) == (made.digest, rows(made.data))

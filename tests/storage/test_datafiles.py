"""The clearest pair of a version is that of the largest margin, whichever file and group of rows it stands in."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairsmith.storage.datafiles import MARGIN, PREFERENCE, clearest_pair

margins = st.none() | st.integers(-3, 3).map(float)


def written(folder: Path, files: list[list[float | None]]) -> list[Path]:
    """Files with a row for each margin, in groups of two rows; each row's `prompt_id` is its number over all files."""
    paths, start = [], 0
    for number, found in enumerate(files):
        rows = [{MARGIN: margin, "prompt_id": str(start + place)} for place, margin in enumerate(found)]
        paths.append(folder / f"train-{number}.parquet")
        pq.write_table(pa.Table.from_pylist(rows, schema=PREFERENCE), paths[-1], row_group_size=2)
        start += len(found)
    return paths


@given(st.lists(st.lists(margins, max_size=5), min_size=1, max_size=3))
def test_the_first_of_the_largest_margins(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[float | None]]
) -> None:
    folder = tmp_path_factory.mktemp("data")
    every = [margin for found in files for margin in found]
    pair = clearest_pair(written(folder, files))
    known = [margin for margin in every if margin is not None]
    if not every:
        assert pair is None
    else:
        assert pair is not None
        assert (int(pair["prompt_id"]), list(pair)) == (every.index(max(known)) if known else 0, PREFERENCE.names)

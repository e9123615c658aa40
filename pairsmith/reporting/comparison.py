"""How two published versions differ: in prompts, pairs, scores, and in the members that were chosen.

Only numbers are kept: for every pair the hashes of its prompt and texts, its scores and a code for its member, about
100 bytes however long the texts are. Files are read a column and a batch at a time. Hashes have 64 bits: the chance
that two of 10^7 prompts share one is about 10^-6.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pairsmith.errors import DataError
from pairsmith.storage.datafiles import MARGIN, File, at, beginning, code, column_batches, published_files

_CODES = ("prompt_id", "chosen", "rejected")  # kept as hashes
_NUMBERS = {"chosen_score": "chosen score", "rejected_score": "rejected score", MARGIN: "margin"}  # in words


@dataclass(frozen=True)
class ComparedVersion:
    """One of the two versions; `pairs_in_both`: its pairs whose prompts are in both versions."""

    folder: Path | str
    prompts: int
    pairs: int
    pairs_in_both: int


@dataclass(frozen=True)
class Shift:
    """A number's mean in A and in B, over the `count` prompts or pairs that have it in both versions."""

    what: str
    count: int
    a: float
    b: float

    @property
    def shift(self) -> float:
        return self.b - self.a


@dataclass(frozen=True)
class Flip:
    """A pair whose chosen and rejected texts swapped: the beginning of its prompt, and ids and margins in A and B."""

    prompt_id: str
    prompt: str
    chosen_a: str
    chosen_b: str
    margin_a: float | None
    margin_b: float | None


@dataclass(frozen=True)
class Comparison:
    """What `compare` found. All but `a` and `b` is about the prompts that both versions have.

    `kept` and `flipped` count the pairs of A that have a counterpart of their own in B; `changed_a` and `changed_b`
    count the pairs left in A and in B, which may be different numbers. `of_prompts`: shifts of the means per prompt;
    `of_kept`: shifts over the kept pairs, whose texts are the same. `members`: times chosen in A and in B.
    """

    a: ComparedVersion
    b: ComparedVersion
    prompts_in_both: int
    kept: int
    flipped: int
    of_prompts: tuple[Shift, ...]
    of_kept: tuple[Shift, ...]
    members: dict[str, tuple[int, int]]
    flips: tuple[Flip, ...]

    @property
    def changed_a(self) -> int:
        return self.a.pairs_in_both - self.kept - self.flipped

    @property
    def changed_b(self) -> int:
        return self.b.pairs_in_both - self.kept - self.flipped


def compare(a: Path | str, b: Path | str, show: int = 3) -> Comparison:
    """Compare two versions, or the `latest` of two data sets, by folder or URL.

    `flips` are the first `show` in A's order. Two pairs are the same if both of their texts are, normalised by
    `ids.normalised`, whoever wrote them. Raises DataError that names the folder or file where there is no data set, or
    one that pairsmith did not make.
    """
    files_a, files_b = published_files(a), published_files(b)
    frame_a, frame_b = _read(a, files_a), _read(b, files_b)
    prompts_a, prompts_b = frame_a["prompt_id"].unique(), frame_b["prompt_id"].unique()
    both = np.intersect1d(prompts_a, prompts_b, assume_unique=True)
    common_a, common_b = (frame[frame["prompt_id"].isin(both)] for frame in (frame_a, frame_b))
    pairs_a, pairs_b = _by(common_a, list(_CODES)), _by(common_b, list(_CODES))
    kept = _matched(pairs_a, pairs_b)
    flipped = _matched(_left(pairs_a, kept), _left(pairs_b, kept).rename(columns=_SWAPPED))
    prompts = _by(common_a, ["prompt_id"]).merge(_by(common_b, ["prompt_id"]), on="prompt_id", suffixes=("_a", "_b"))
    return Comparison(
        a=ComparedVersion(_place(a, files_a), len(prompts_a), len(frame_a), len(common_a)),
        b=ComparedVersion(_place(b, files_b), len(prompts_b), len(frame_b), len(common_b)),
        prompts_in_both=len(both),
        kept=int(kept["matched"].sum()),
        flipped=int(flipped["matched"].sum()),
        of_prompts=_shifts(prompts.assign(matched=1)),
        of_kept=_shifts(kept),
        members=_members(common_a, common_b),
        flips=_flips(flipped.sort_values("row_a").head(show), files_a, files_b),
    )


_SWAPPED = {"chosen": "rejected", "rejected": "chosen"}


def _place(dataset: Path | str, files: Sequence[File]) -> Path | str:
    """Where a version is: its own folder on a disk, else the address it was named by."""
    return files[0].parent.parent if isinstance(files[0], Path) else dataset


def _read(dataset: Path | str, files: Sequence[File]) -> pd.DataFrame:
    """A row per pair: hashes, numbers and the member, in the order of the files."""
    columns: dict[str, Any] = {}
    for name in _CODES:
        found = [
            np.fromiter(map(code, part.to_pylist()), np.uint64, len(part)) for (part,) in column_batches(files, [name])
        ]
        columns[name] = np.concatenate([np.empty(0, np.uint64), *found])
    for name in _NUMBERS:
        found = [part.to_numpy(zero_copy_only=False) for (part,) in column_batches(files, [name])]
        numbers = np.concatenate([np.empty(0), *found])
        columns[name] = np.where(np.isfinite(numbers), numbers, np.nan)
    names: dict[str | None, int] = {}
    codes = [
        np.fromiter((names.setdefault(name, len(names)) for name in part.to_pylist()), np.int32, len(part))
        for (part,) in column_batches(files, ["chosen_member"])
    ]
    members = [name or "" for name in names]
    columns["member"] = pd.Categorical.from_codes(np.concatenate([np.empty(0, np.int32), *codes]), pd.Index(members))
    frame = pd.DataFrame(columns)
    if frame.empty:
        raise DataError(f"{dataset}: its dataset holds no pair")
    return frame.assign(row=np.arange(len(frame)))


def _by(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """A row per key, sorted: its number of pairs (`matched`), its first row, and the means of its numbers."""
    means = {name: pd.NamedAgg(name, "mean") for name in _NUMBERS}
    grouped = frame.groupby(keys, sort=True)
    return grouped.agg(matched=pd.NamedAgg("row", "size"), row=pd.NamedAgg("row", "min"), **means).reset_index()


def _matched(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """The keys in both frames, columns with `_a` and `_b`; `matched`: the number of pairs with a counterpart."""
    joined = a.merge(b, on=list(_CODES), suffixes=("_a", "_b"))
    return joined.assign(matched=np.minimum(joined["matched_a"], joined["matched_b"]))


def _left(pairs: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """The pairs that were not kept. Of a text pair that occurs twice, one may be kept and one left."""
    used = pairs[list(_CODES)].merge(kept[[*_CODES, "matched"]], how="left", on=list(_CODES))["matched"]
    left = pairs.assign(matched=pairs["matched"] - used.fillna(0).astype(np.int64).to_numpy())
    return left[left["matched"] > 0]


def _shifts(joined: pd.DataFrame) -> tuple[Shift, ...]:
    """Means over the rows with a number in both versions, weighted by `matched`."""
    shifts = []
    for name in _NUMBERS:
        known = joined[joined[f"{name}_a"].notna() & joined[f"{name}_b"].notna()]
        weights = known["matched"].to_numpy()
        if count := int(weights.sum()):
            means = [float((known[f"{name}_{side}"].to_numpy() * weights).sum() / count) for side in "ab"]
            shifts.append(Shift(_NUMBERS[name], count, *means))
    return tuple(shifts)


def _members(a: pd.DataFrame, b: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Member -> times chosen in each version, the most often chosen first."""
    times_a, times_b = (Counter({str(k): int(n) for k, n in side["member"].value_counts().items()}) for side in (a, b))
    names = sorted(times_a.keys() | times_b.keys(), key=lambda name: (-times_a[name] - times_b[name], name))
    return {name: (times_a[name], times_b[name]) for name in names if times_a[name] or times_b[name]}


def _flips(flipped: pd.DataFrame, files_a: Sequence[File], files_b: Sequence[File]) -> tuple[Flip, ...]:
    """The pairs of `flipped`, with their prompts, ids and margins read from the files."""
    rows_a, rows_b = flipped["row_a"].tolist(), flipped["row_b"].tolist()
    prompts, names = at(files_a, "prompt", rows_a), at(files_a, "prompt_id", rows_a)
    chosen_a, chosen_b = at(files_a, "chosen_id", rows_a), at(files_b, "chosen_id", rows_b)
    margins_a, margins_b = at(files_a, MARGIN, rows_a), at(files_b, MARGIN, rows_b)
    return tuple(
        Flip(names[x], beginning(prompts[x]), chosen_a[x], chosen_b[y], margins_a[x], margins_b[y])
        for x, y in zip(rows_a, rows_b, strict=True)
    )

from __future__ import annotations

import copy
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairsmith.config import Recipe
from pairsmith.errors import DataError
from pairsmith.publishing.pair_rows import to_table
from pairsmith.reporting.comparison import Comparison, compare
from pairsmith.storage import datafiles
from tests.command_line import cli
from tests.runs import run

Build = Callable[..., Recipe]


def row(prompt: str, chosen: str, rejected: str, scores: tuple[float | None, float | None] = (4, 2)) -> dict[str, Any]:
    """A published pair; a text's id and member are told by the text."""
    high, low = scores
    sides: dict[str, Any] = {}
    for side, text, score in (("chosen", chosen, high), ("rejected", rejected, low)):
        sides |= {side: [{"role": "assistant", "content": text}], f"{side}_score": score, f"{side}_id": f"id-{text}"}
        sides |= {f"{side}_member": f"member-{text[:1]}", f"{side}_model": "x", f"{side}_ratings": []}
    margin = None if high is None or low is None else high - low
    return sides | {
        "prompt": [{"role": "user", "content": prompt}], "margin": margin, "similarity": None, "strategy": "s",
        "source": "f", "prompt_id": f"p-{prompt}",
    }  # fmt: skip


@pytest.fixture
def version(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows as a published version, in train and test, and returns its folder."""

    def write(name: str, train: list[dict[str, Any]], test: list[dict[str, Any]] | None = None) -> Path:
        folder = tmp_path / name
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "data").mkdir(parents=True)
        for split, rows in (("train", train), ("test", test)):
            if rows is not None:
                pq.write_table(to_table(rows), folder / "data" / f"{split}-0.parquet", row_group_size=2)
        return folder

    return write


def counts(found: Comparison) -> tuple[int, ...]:
    return found.prompts_in_both, found.kept, found.flipped, found.changed_a, found.changed_b


def assert_mirrored(there: Comparison, back: Comparison) -> None:
    assert (there.a, there.b) == (back.b, back.a)
    assert (there.prompts_in_both, there.kept, there.flipped) == (back.prompts_in_both, back.kept, back.flipped)
    assert (there.changed_a, there.changed_b) == (back.changed_b, back.changed_a)
    assert there.members == {name: (a, b) for name, (b, a) in back.members.items()}
    for shifts, others in ((there.of_prompts, back.of_prompts), (there.of_kept, back.of_kept)):
        assert shifts == tuple(replace(other, a=other.b, b=other.a) for other in others)


def test_pairs_are_kept_flipped_or_changed(version: Callable[..., Path]) -> None:
    a = version("a", [row("1", "x", "y"), row("2", "x", "y"), row("3", "x", "y"), row("only a", "x", "y")])
    b = version(
        "b",
        [row("3", "x", "z", (3, 2)), row("1", "x", "y", (5, 1))],
        [row("2", "y", "x", (3, 2)), row("only b", "x", "y"), row("only b", "x", "z")],
    )
    found = compare(a, b)
    assert (found.a.prompts, found.a.pairs, found.a.pairs_in_both) == (4, 4, 3)
    assert (found.b.prompts, found.b.pairs, found.b.pairs_in_both) == (4, 5, 3)
    assert counts(found) == (3, 1, 1, 1, 1)
    assert found.members == {"member-x": (3, 2), "member-y": (0, 1)}
    chosen, rejected, margin = found.of_prompts
    assert (chosen.what, chosen.count, chosen.a) == ("chosen score", 3, 4.0)
    assert rejected.what == "rejected score"
    assert (chosen.b, rejected.shift) == pytest.approx((11 / 3, -1 / 3))
    assert (margin.what, margin.a, margin.b, margin.shift) == ("margin", 2.0, 2.0, 0.0)
    assert [(shift.count, shift.shift) for shift in found.of_kept] == [(1, 1.0), (1, -1.0), (1, 2.0)]
    (flip,) = found.flips
    assert (flip.prompt_id, flip.prompt, flip.chosen_a, flip.chosen_b) == ("p-2", "2", "id-x", "id-y")
    assert (flip.margin_a, flip.margin_b) == (2.0, 1.0)
    assert_mirrored(found, compare(b, a))


def test_a_pair_has_one_counterpart_at_most(version: Callable[..., Path]) -> None:
    a = version("a", [row("1", "x", "y"), row("1", "x", "y"), row("1", "y", "x"), row("1", "u", "v")])
    b = version("b", [row("1", "x", "y"), row("1", "v", "u"), row("1", "v", "u")])
    assert counts(compare(a, b)) == (1, 1, 1, 2, 1)
    both_ways = version("both ways", [row("1", "x", "y"), row("1", "y", "x")])
    assert counts(compare(a, both_ways)) == (1, 2, 0, 2, 0)


def test_texts_are_the_same_in_their_normal_form_and_prompts_by_id(version: Callable[..., Path]) -> None:
    a = version("a", [row("1", "one\r\ntwo", "cafe\N{COMBINING ACUTE ACCENT} "), row("2", "x", "y")])
    b = version("b", [row("1", "one\ntwo\n", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"), row("3", "x", "y")])
    assert counts(compare(a, b)) == (1, 1, 0, 0, 0)


def test_means_are_over_what_has_scores_in_both(version: Callable[..., Path]) -> None:
    a = version("a", [row("1", "x", "y", (None, None)), row("2", "x", "y", (4, 1)), row("2", "x", "z", (2, 1))])
    b = version("b", [row("1", "x", "y", (3, 2)), row("2", "x", "y", (5, float("inf")))])
    found = compare(a, b)
    (chosen,) = found.of_prompts
    assert (chosen.count, chosen.a, chosen.b) == (1, 3.0, 5.0)  # the mean of the prompt's two pairs
    assert [(shift.what, shift.count, shift.shift) for shift in found.of_kept] == [("chosen score", 1, 1.0)]


def test_the_first_flips_are_quoted_in_the_order_of_a(version: Callable[..., Path]) -> None:
    a = version("a", [row(f"{n} " + "long\n words " * 30, "x", f"y{n}") for n in range(6)], [row("t", "x", "y")])
    b = version("b", [row("t", "y", "x")], [row(f"{n} " + "long\n words " * 30, f"y{n}", "x") for n in range(6)])
    found = compare(a, b)
    assert [flip.chosen_b for flip in found.flips] == ["id-y0", "id-y1", "id-y2"]
    assert found.flips[1].prompt.startswith("1 long words long")
    assert len(found.flips[1].prompt) == datafiles.PROMPT_CHARS + 3
    assert [flip.prompt_id for flip in compare(a, b, show=99).flips][-1] == "p-t"
    assert compare(a, b, show=0).flips == ()


def test_no_prompt_in_both(version: Callable[..., Path]) -> None:
    found = compare(version("a", [row("1", "x", "y")]), version("b", [row("2", "x", "y")]))
    assert counts(found) == (0, 0, 0, 0, 0)
    assert (found.of_prompts, found.of_kept, found.members, found.flips) == ((), (), {}, ())


_pairs = st.lists(st.tuples(st.sampled_from("123"), st.sampled_from("xyz"), st.sampled_from("xyz"),
                            st.one_of(st.none(), st.integers(0, 5).map(float))), min_size=1, max_size=8)  # fmt: skip


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_pairs, _pairs)
def test_all_pairs_are_accounted_for(version: Callable[..., Path], first: list[Any], second: list[Any]) -> None:
    a, b = (
        version(name, [row(prompt, chosen, rejected, (score, 1.0)) for prompt, chosen, rejected, score in rows])
        for name, rows in (("a", first), ("b", second))
    )
    found = compare(a, b, show=99)
    both = {pair[0] for pair in first} & {pair[0] for pair in second}
    of_a, of_b = (Counter(pair[:3] for pair in rows if pair[0] in both) for rows in (first, second))
    assert found.prompts_in_both == len(both)
    kept = of_a & of_b
    flipped = (of_a - kept) & Counter({(p, r, c): n for (p, c, r), n in (of_b - kept).items()})
    assert (found.kept, found.flipped) == (kept.total(), flipped.total())
    assert found.changed_a == of_a.total() - kept.total() - flipped.total()
    assert found.changed_b == of_b.total() - kept.total() - flipped.total()
    assert len(found.flips) == len(flipped)
    assert_mirrored(found, compare(b, a))
    same = compare(a, a)
    assert counts(same) == (same.a.prompts, len(first), 0, 0, 0)
    assert all(shift.shift == 0 for shift in (*same.of_prompts, *same.of_kept))


def test_a_recipe_with_another_strategy_and_another_judge(echo_recipe: Build) -> None:
    best, _, _ = run(echo_recipe(12))
    other = echo_recipe(12, name="other", pairing={"strategy": "all-above-margin"})
    all_pairs, _, _ = run(other)
    found = compare(Path(best.folder), Path(all_pairs.folder).parent.parent)
    assert found.b.folder == Path(all_pairs.folder).resolve()
    assert (found.a.pairs, found.b.pairs) == (best.pairs, all_pairs.pairs)
    assert (found.kept, found.flipped, found.changed_a) == (best.pairs, 0, 0)
    assert found.changed_b == found.b.pairs_in_both - best.pairs > 0
    assert all(shift.shift == 0 for shift in found.of_kept)
    judges = [{"name": "second", "backend": "echo", "model": "another-judge"}]
    judged, _, _ = run(echo_recipe(12, name="judged", rating={"judges": judges}))
    found = compare(Path(best.folder), Path(judged.folder))
    assert 0 < found.kept + found.flipped < found.a.pairs_in_both
    assert found.kept + found.flipped + found.changed_a == found.a.pairs_in_both
    assert sum(a for a, _ in found.members.values()) == found.a.pairs_in_both
    assert any(shift.shift for shift in found.of_prompts)
    assert_mirrored(found, compare(Path(judged.folder), Path(best.folder)))


def test_recipes_that_prefer_members_in_opposite_orders(echo_recipe: Build) -> None:
    folders = []
    for name, order in (("one", ["brief", "long"]), ("other", ["long", "brief"])):
        pairing = {"strategy": "member-order", "member_order": order, "max_similarity": 1.0}
        published, _, _ = run(echo_recipe(5, name=name, pairing=pairing))
        folders.append(Path(published.folder))
    found = compare(folders[0], folders[1])
    assert counts(found) == (5, 0, 5, 0, 0)
    assert found.members == {"brief": (5, 0), "long": (0, 5)}
    assert len(found.flips) == 3
    assert all(flip.prompt.startswith("Question ") and flip.chosen_a != flip.chosen_b for flip in found.flips)


def test_versions_of_one_recipe(echo_recipe: Build) -> None:
    first, _, _ = run(echo_recipe(6))
    second, _, _ = run(echo_recipe(9))
    found = compare(Path(first.folder), Path(second.folder).parent.parent)
    assert found.kept == found.a.pairs == found.b.pairs_in_both < found.b.pairs


def test_no_column_of_texts_is_in_memory_as_a_whole(version: Callable[..., Path]) -> None:
    draws = random.Random(0)
    folder = version("long", [row(str(n), draws.randbytes(15_000).hex(), "y") for n in range(2_000)])
    (file,) = folder.glob("data/*.parquet")
    pq.write_table(pq.read_table(file), file)  # in one row group
    before = pa.total_allocated_bytes()
    most = max(pa.total_allocated_bytes() for _ in datafiles.column_batches([file], ["chosen"])) - before
    assert most < 25e6 < file.stat().st_size


def test_what_is_no_data_set_is_named(version: Callable[..., Path], tmp_path: Path) -> None:
    good = version("good", [row("1", "x", "y")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"/empty: no published dataset"):
        compare(good, tmp_path / "empty")
    with pytest.raises(DataError, match=r"/absent: no published dataset"):
        compare(tmp_path / "absent", good)
    with pytest.raises(DataError, match=r"/none: its dataset holds no pair"):
        compare(good, version("none", []))
    damaged = version("damaged", [row("1", "x", "y")])
    (damaged / "data" / "train-0.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"/damaged/data/train-0.parquet: cannot be read"):
        compare(good, damaged)
    for name, foreign in (("fewer", to_table([]).drop_columns("chosen")), ("other", to_table([]))):
        folder = version(name, [])
        if name == "other":
            foreign = foreign.set_column(0, "prompt", [copy.copy(foreign["source"]).combine_chunks()])
        pq.write_table(foreign, folder / "data" / "train-0.parquet")
        with pytest.raises(DataError, match=rf"/{name}/data/train-0.parquet: not a dataset of pairsmith's"):
            compare(folder, good)


def test_a_margin_is_read_by_its_earlier_name_and_by_todays(version: Callable[..., Path]) -> None:
    rows = [row("1", "x", "y"), row("2", "x", "y", (5, 1))]
    earlier, today = version("earlier", rows), version("today", rows)
    file = today / "data" / "train-0.parquet"
    pq.write_table(pq.read_table(file).rename_columns(datafiles.PREFERENCE.names), file)
    found = compare(earlier, today)
    assert counts(found) == (2, 2, 0, 0, 0)
    assert [(shift.what, shift.a, shift.b) for shift in found.of_kept if shift.what == "margin"] == [("margin", 3, 3)]
    for folder in (earlier, today):
        files = datafiles.published_files(folder)
        assert [pair["score_margin"] for pair in datafiles.first_pairs(files, 2)] == [2, 4]
        assert [list(pair) for pair in datafiles.rows_of(files)] == 2 * [datafiles.PREFERENCE.names]


def test_the_command(version: Callable[..., Path], tmp_path: Path) -> None:
    a = version("a", [row("1", "x", "y"), row("\x1b[31m[red]2", "x", "y")], [row("only a", "x", "y")])
    b = version("b", [row("1", "x", "y"), row("\x1b[31m[red]2", "y", "x", (3, 2.5))])
    told = cli("compare", str(a), str(b))
    assert told.returncode == 0, told.stderr
    for what in ("3 pairs of 3 prompts", "only in A", "kept", "flipped", "66.67", "Flipped: 1 of 1", "[31m[red]2",
                 "chosen in A id-x, in B id-y; margins 2 and 0.5", "member-y", "-0.75"):  # fmt: skip
        assert what in told.stdout
    assert "\x1b" not in told.stdout
    assert "chosen in A" not in cli("compare", str(a), str(b), "--show", "0").stdout
    (tmp_path / "empty").mkdir()
    wrong = cli("compare", str(a), str(tmp_path / "empty"))
    assert wrong.returncode == 3
    assert wrong.stderr == f"error: {tmp_path}/empty: no published dataset (no data/*.parquet and no `latest` in it)\n"
    assert "nothing more to compare" in cli("compare", str(a), str(version("c", [row("9", "x", "y")]))).stdout

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pairsmith.publishing.data_files import SHOWN, first_drawn
from pairsmith.publishing.pair_rows import to_table


def test_shown_pairs_are_drawn_over_all_tables_whatever_their_order() -> None:
    def drawn(parts: Iterable[range]) -> list[str]:
        shown: list[dict[str, Any]] = []
        for part in parts:
            names = [{"prompt_id": f"{n}", "chosen_id": f"{n}a", "rejected_id": f"{n}b"} for n in part]
            shown = first_drawn(shown, to_table(names))
        return [row["prompt_id"] for row in shown]

    found = drawn([range(1000)])
    assert len(found) == len(set(found)) == SHOWN
    assert found == drawn([range(600, 1000), range(0), range(50), range(50, 600)])
    assert 60 < sum(int(name) >= 500 for name in found) < 140
    assert len(drawn([range(7)])) == 7

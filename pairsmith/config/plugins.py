"""The user's own code in a recipe: which kinds there are, how a recipe names them, and how they are loaded.

Wherever a recipe can name something built in, it can also give `module:function`, or the name under which an installed
package offers its code as an entry point. Reading a recipe's fields imports no such code. `load_plugin` does, and
`verify_plugins`, which `load_recipe` calls for each name in the recipe. Only code that the recipe names is imported: of
all other entry points just the names are read.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from pairsmith.config.base import close
from pairsmith.config.modules import file_of, import_module, sources_of
from pairsmith.config.places import Place
from pairsmith.errors import ConfigError, PairsmithError
from pairsmith.ids import fingerprint

PATH = r"^[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*$"
_MAX_ERROR_TEXT = 300  # characters of an error from code that is not ours
_folder: ContextVar[str | None] = ContextVar("folder", default=None)
Check = Callable[["Reference"], None]
_check: ContextVar[Check | None] = ContextVar("check", default=None)
_lists_only: ContextVar[bool] = ContextVar("lists_only", default=False)


@dataclass(frozen=True)
class Kind:
    """A kind of code that users can write, such as a strategy. It types a recipe's field: `Annotated[str, kind]`.

    `calls`: the functions that the code must have, as (name, arguments); the name is empty where the code is itself the
    function. `by_keyword`: they are called with keyword arguments. `needs_source`: code that is not written in Python
    is refused, since a change of it would not be noticed.
    """

    name: str
    group: str
    calls: tuple[tuple[str, tuple[str, ...]], ...]
    built_in: tuple[str, ...] = ()
    by_keyword: bool = False
    needs_source: bool = True

    def named(self, text: str) -> str:
        """The value of a recipe's field: a built-in name unchanged, any other as a `Reference`."""
        if text in self.built_in:
            return text
        if ":" in text:
            if not re.fullmatch(PATH.strip("^$"), text):
                raise ValueError(f"write it as module:function, such as {_for_example(text)}")
            return Reference(text, self, text, _folder.get())
        offered = {point.value for point in entry_points(group=self.group, name=text)}
        if len(offered) > 1:
            raise ValueError(f"several packages offer it: {', '.join(sorted(offered))}; name one as module:function")
        if not offered:
            raise ValueError(self._unknown(text))
        return Reference(text, self, offered.pop())

    def _unknown(self, text: str) -> str:
        known = [*self.built_in, *self.offered()]
        names = f"must be {', '.join(map(repr, known[:-1]))} or {known[-1]!r}" if known else ""
        if meant := close(text, known):
            return names + meant
        own = f"write a {self.name} of your own as module:function, such as {_for_example(text)}"
        return f"{names}; {own}" if names else own

    def offered(self) -> list[str]:
        """The names that installed packages offer; their code is not loaded."""
        return sorted(entry_points(group=self.group).names)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        as_text = core_schema.plain_serializer_function_ser_schema(str, return_schema=core_schema.str_schema())
        return core_schema.no_info_after_validator_function(self.named, core_schema.str_schema(), serialization=as_text)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Allows the known names and `module:function`, so that a server's form refuses anything else."""
        names, path = [*self.built_in, *self.offered()], {"pattern": PATH, "type": "string"}
        listed = {"enum": names, "type": "string"}
        if not names:
            return path
        return listed if _lists_only.get() else {"anyOf": [listed, path]}


class Reference(str):
    """A recipe's name for code that is not pairsmith's. In tables and hashes it counts as this name, a plain string.

    `target`: the module and function that it refers to. `folder`: searched for modules before Python's path is.
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
        """The module's file if it is in the recipe's folder, else None; found without importing the module."""
        found = file_of(self.module, self.folder)
        return str(found) if found else None


@contextmanager
def modules_in(folder: str | None) -> Iterator[None]:
    """References that are read within the block look for their modules in a folder."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


@contextmanager
def checked(check: Check) -> Iterator[None]:
    """Within the block, `check` is asked about each reference before its code is imported; it raises ConfigError."""
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


@contextmanager
def lists_only() -> Iterator[None]:
    """JSON schemas made within the block allow the known names only, which a form shows as a list to choose from."""
    token = _lists_only.set(True)
    try:
        yield
    finally:
        _lists_only.reset(token)


def references(config: Any, where: Place = ()) -> Iterator[tuple[Place, Reference]]:
    """All references in a recipe or a part of it, each with the place of its field."""
    if isinstance(config, Reference):
        yield where, config
    items: Mapping[Any, Any] = {}
    if isinstance(config, BaseModel):
        items = {name: getattr(config, name) for name in type(config).model_fields}
    elif isinstance(config, Mapping | tuple | list):
        items = config if isinstance(config, Mapping) else dict(enumerate(config))
    for name, value in items.items():
        yield from references(value, (*where, name))


def load_plugin(reference: str) -> Any:
    """Import the object that a reference names. Raises ConfigError where that fails or `checked` forbids it."""
    assert isinstance(reference, Reference)
    if check := _check.get():
        check(reference)
    found: Any = (module := _module(reference))
    for attribute in reference.target.partition(":")[2].strip().split("."):
        if isinstance(found, ModuleType) and found is not module:
            raise ConfigError(f"{reference}: {found.__name__} is another module; name it in front of the colon")
        if not hasattr(found, attribute):
            meant = close(attribute, (name for name in dir(found) if not name.startswith("_")))
            raise ConfigError(f"{reference}: there is no {attribute} in {_shown(found, reference)}{meant}")
        found = getattr(found, attribute)
    if not callable(found) and not any(part for part, _ in reference.kind.calls):
        raise ConfigError(f"{reference}: a {type(found).__name__} is no function")
    return found


def verify_plugins(reference: Reference) -> None:
    """Raise ConfigError unless a reference can be loaded, takes its kind's arguments, and has a source if needed."""
    found, kind = load_plugin(reference), reference.kind
    for part, arguments in kind.calls:
        function = getattr(found, part, None) if part else found
        if not callable(function):
            raise ConfigError(f"{reference}: it has no function {part}; a {kind.name} needs one")
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # a function that is not written in Python may have no signature
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
    """Hash of the sources behind a reference: its module, the modules beside it that this imports, and the module that
    defines the function, if that is another one."""
    assert isinstance(reference, Reference)
    return fingerprint(reference.target, sources_of(reference.module, reference.folder), _defined(reference))


def code_hashes(config: Any) -> list[str]:
    """The code hashes of all references in a recipe or a part of it."""
    return [code_hash(reference) for _, reference in references(config)]


def failed(reference: str, error: BaseException) -> ConfigError:
    """The ConfigError to raise where the user's own code raised an error."""
    return ConfigError(f"{reference} failed: {said(error)}")


def said(error: BaseException) -> str:
    """The text of an error from code that is not ours, on one line. Its type alone if even str() of it fails."""
    try:
        return " ".join(f"{type(error).__name__}: {error}"[:_MAX_ERROR_TEXT].split())
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
            raise ConfigError(
                f"{reference}: there is no module {reference.module} in {places}{_instead(reference)}"
            ) from error
        raise ConfigError(f"{reference}: importing {reference.module} failed: {said(error)}") from error
    except (Exception, SystemExit) as error:  # a module can raise anything while it is imported
        raise ConfigError(f"{reference}: importing {reference.module} failed: {said(error)}") from error


def _for_example(text: str) -> str:
    """How code is named: what was written, without the parts of a file's name, where that is what was meant."""
    file, _, function = text.partition(":")
    path = Path(file)
    if path.suffix == ".py" and all(part.isidentifier() for part in path.with_suffix("").parts):
        return f"{'.'.join(path.with_suffix('').parts)}:{function or 'check'} for {function or 'check'} in {path}"
    return "shout:loudest for loudest in shout.py"


def _instead(reference: Reference) -> str:
    """What to do about a module that is not there."""
    if reference.module.endswith(".py"):
        return f"; write it as {reference.replace('.py:', ':')}"
    if not reference.folder:
        return ""
    near = close(reference.module, (file.stem for file in Path(reference.folder).glob("*.py")))
    return near or f"; put {reference.module.replace('.', '/')}.py there, or say in code_folder where it is"


def _defined(reference: Reference) -> list[str]:
    """The source of the module that defines the referenced object, as a list of one; an empty text if it has none."""
    function = inspect.unwrap(load_plugin(reference))
    name = getattr(function, "__module__", None) or type(function).__module__
    try:
        return [inspect.getsource(sys.modules[str(name)])]
    except (KeyError, OSError, TypeError):
        return [""]


def _shown(found: Any, reference: Reference) -> str:
    return reference.file or reference.module if isinstance(found, ModuleType) else getattr(found, "__name__", "it")

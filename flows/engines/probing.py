"""What is looked at on an engine's workers before a run, so that it ends with a reason and not in the middle.

Each must have this pairsmith, reach the Prefect server, and share the data set and the ledger with the run: the run
leaves a mark in both, and the workers look for it.
"""

from __future__ import annotations

import os
import platform
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from pairsmith.config import Recipe
from pairsmith.config.plugins import references, verify_plugins
from pairsmith.errors import ConfigError, PairsmithError
from pairsmith.ledger.ledger import Ledger
from pairsmith.planning.preflight import require_all
from pairsmith.stages.base import open_store
from pairsmith_flows.engines.engine import Ask
from pairsmith_tasks.recipes import recipe_of, text_of

_SAME = ("pairsmith", "prefect")  # packages of which a worker must have this version
_SECONDS = 10.0  # that a server may take to answer


@dataclass(frozen=True)
class Mark:
    """What a run leaves for workers to find, and what they must have.

    `host`: the run's machine; `keys`: the environment variables in which it has keys of endpoints.
    """

    name: str
    host: str
    recipe: str
    api: str
    keys: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        return f".seen-{self.name}"


def require_ready(ask: Ask, recipe: Recipe, api: str) -> None:
    """Raise ConfigError with all that keeps workers from working on a recipe. `ask`: has each of them call a function
    that its Python knows; `api`: the URL of the Prefect server."""
    _raise(_different(ask))
    with _marked(recipe, api) as mark:
        _raise(ask(problems_here, asdict(mark)))


def _different(ask: Ask) -> dict[str, list[str]]:
    """Versions that differ from those here, asked for by functions that any Python has."""
    found: dict[str, list[str]] = {}
    for package in _SAME:
        here = metadata.version(package)
        for worker, version in ask(metadata.version, package).items():
            if isinstance(version, BaseException):
                found.setdefault(worker, []).append(f"{package} is not installed there; install {package} {here}")
            elif version != here:
                found.setdefault(worker, []).append(f"{package} {version} is there, and {here} here; install {here}")
    *ours, _ = platform.python_version_tuple()
    for worker, (*theirs, _) in ask(platform.python_version_tuple).items():
        if theirs != ours:
            told = f"Python {'.'.join(theirs)} is there, and {'.'.join(ours)} here; start workers with this one"
            found.setdefault(worker, []).append(told)
    return found


@contextmanager
def _marked(recipe: Recipe, api: str) -> Iterator[Mark]:
    """Marks in the data set and the ledger for as long as the block runs."""
    named = {spec.endpoint.api_key_env for spec in recipe.specs if spec.endpoint}
    keys = tuple(sorted(name for name in named if name and os.environ.get(name)))
    mark = Mark(uuid.uuid4().hex, socket.gethostname(), text_of(recipe), api, keys)
    files, ledger = open_store(recipe).files, Ledger(recipe.ledger_url)
    try:
        files.write(mark.file, b"")
        ledger.reservations.renew(mark.name, mark.name, (1, 0.0))
        yield mark
    finally:
        ledger.reservations.give_back(mark.name)
        ledger.close()
        files.remove(mark.file)


def problems_here(mark: Mapping[str, Any]) -> list[str]:
    """What keeps this process from working for the run that left a mark."""
    return list(_problems(Mark(**mark)))


def _problems(mark: Mark) -> Iterator[str]:
    looks: list[Callable[[Mark], str | None]] = [_server, _recipe, _keys, _store, _ledger]
    for look in looks:
        try:
            problem = look(mark)
        except (PairsmithError, OSError) as error:
            problem = str(error)
        if problem:
            yield problem


def _server(mark: Mark) -> str | None:
    import httpx

    try:
        httpx.get(f"{mark.api}/health", timeout=_SECONDS)  # whatever it answers, as without a login
    except httpx.HTTPError as error:
        return (
            f"the Prefect server at {mark.api} cannot be reached from there ({error}): start one that can "
            "(`prefect server start --host ADDRESS`) and set PREFECT_API_URL to it, for the run and for the workers"
        )
    return None


def _recipe(mark: Mark) -> None:
    """Raises ConfigError where code or a library is absent."""
    recipe = recipe_of(mark.recipe)
    require_all(recipe, asks=False)
    for _, reference in references(recipe):
        verify_plugins(reference)


def _keys(mark: Mark) -> str | None:
    absent = ", ".join(name for name in mark.keys if not os.environ.get(name))
    return f"{absent} in the environment has no key there: export it before workers are started" if absent else None


def _store(mark: Mark) -> str | None:
    recipe = recipe_of(mark.recipe)
    files = open_store(recipe).files
    if files.exists(mark.file):
        return None
    return (
        f"the workspace {recipe.workspace} is not the run's own there: put it on a disk that all machines mount under "
        "this path, or on object storage"
    )


def _ledger(mark: Mark) -> str | None:
    url = recipe_of(mark.recipe).ledger_url
    parsed = sa.make_url(url)
    is_file = parsed.get_backend_name() == "sqlite"
    told = f"the ledger {parsed.render_as_string()}"
    if is_file and socket.gethostname() != mark.host:
        return f"{told} is a file of SQLite, which one machine alone can use; name one on PostgreSQL (`ledger:`)"
    if is_file and not Path(parsed.database or "").is_file():
        return f"{told} is not there; name its file by an absolute path, or a ledger on PostgreSQL"
    ledger = Ledger(url)
    try:
        is_marked = any(ledger.reservations.held(mark.name))
    finally:
        ledger.close()
    return None if is_marked else f"{told} is another one there than the run's; name one that all can reach"


def _raise(found: Mapping[str, Any]) -> None:
    """Raise ConfigError with the problems of workers, those of several together; an error is one too."""
    workers: dict[str, list[str]] = {}
    for worker, problems in found.items():
        told = [f"{type(problems).__name__}: {problems}"] if isinstance(problems, BaseException) else problems
        for problem in told:
            workers.setdefault(problem, []).append(worker)
    if workers:
        lines = [f"{', '.join(names)}: {problem}" for problem, names in workers.items()]
        raise ConfigError("\n  ".join(["a run cannot begin on these workers:", *lines]))

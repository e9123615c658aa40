"""The login of the service: made once and kept in a file that only its owner can read."""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path

from pairsmith.errors import ConfigError

AUTH = "PREFECT_SERVER_API_AUTH_STRING"


def login(folder: Path) -> str:
    """The login of the service, `user:password`: from the environment, else from its file, made where it is absent."""
    if from_environment := os.environ.get(AUTH):
        return from_environment
    path = folder / "login"
    if not path.exists():
        write_private(path, f"admin:{secrets.token_urlsafe(24)}\n")
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise ConfigError(f"{path}: others can read it; `chmod 600` it, or delete it for a new one")
    return path.read_text(encoding="utf-8").strip()


def write_environment(folder: Path, environment: Mapping[str, str]) -> None:
    """Write a shell file to `folder` that sets what other terminals need to reach the service."""
    names = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING")
    write_private(folder / "env", "".join(f"export {name}={shlex.quote(environment[name])}\n" for name in names))


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)

"""Fetch source files over HTTP. A fetched body is kept with its ETag, and is fetched again only if it has changed.

A body is written to disk while it arrives, and replaces the previous one once it is complete. Temporary failures are
tried again. A redirect is followed without the headers that hold secrets, and never from https to http.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import tenacity

from pairsmith.config import Http, Prompts, Source
from pairsmith.errors import ConfigError, DataError, RunError

CHUNK = 1 << 20
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_WAIT = tenacity.wait_exponential_jitter(initial=1, max=30)


class Passing(Exception):
    """A temporary failure: the next try may succeed."""


@contextmanager
def fetched(prompts: Prompts, folder: Path | None = None) -> Iterator[dict[str, Path]]:
    """`fetch_all`, into `folder` or, without one, into a temporary folder that is deleted when the block ends."""
    if folder is not None:
        yield fetch_all(prompts, folder)
        return
    with tempfile.TemporaryDirectory() as scratch:
        yield fetch_all(prompts, Path(scratch))


def fetch_all(prompts: Prompts, folder: Path) -> dict[str, Path]:
    """Fetch all remote sources of a recipe; returns address -> file.

    Files stay in `folder` for the next time; those of addresses that the recipe no longer names are deleted.
    Raises ConfigError if the variable for a header is not set, DataError if a file is not there or too large, RunError
    if it could not be fetched.
    """
    against = prompts.decontaminate.against if prompts.decontaminate else ()
    remote = [source for source in (*prompts.sources, *against) if source.is_remote]
    fetched = {source.path: fetch(source, folder) for source in remote}
    for file in folder.iterdir() if folder.is_dir() else ():
        if file.with_suffix(".body") not in fetched.values():
            file.unlink()
    return fetched


def fetch(source: Source, folder: Path) -> Path:
    """Fetch the file at a source's address, unless the kept one is current; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(source.path.encode()).hexdigest()[:24]
    body, about = folder / f"{name}.body", folder / f"{name}.json"
    tries = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(source.http.attempts),
        wait=_WAIT,
        retry=tenacity.retry_if_exception_type(Passing),
        reraise=True,
    )
    try:
        tries(_fetch, source.path, source.http, body, about)
    except Passing as error:
        raise RunError(f"{source.path}: could not be fetched in {source.http.attempts} tries: {error}") from None
    return body


def _fetch(address: str, settings: Http, body: Path, about: Path) -> None:
    plain = {"Accept-Encoding": "identity", "User-Agent": "pairsmith"}
    request = urllib.request.Request(address, headers=plain)  # noqa: S310  (the recipe takes http and https alone)
    for name, value in _secrets(settings).items():
        request.add_unredirected_header(name, value)
    conditions = _conditions(body, about)
    for name, value in conditions.items():
        request.add_header(name, value)
    try:
        with urllib.request.build_opener(_Redirects).open(request, timeout=settings.timeout) as response:
            _keep(address, response, response.headers, settings, body, about)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 304 and conditions:
                return
        if error.code in _PASSING:
            raise Passing(f"status {error.code}") from None
        moved = f", after a redirect to {_host(error.url)}" if _host(error.url) != _host(address) else ""
        raise DataError(f"{address}: status {error.code} {error.reason}{moved}") from None
    except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise Passing(f"{type(error).__name__}: {reason}") from None


def _keep(address: str, response: IO[bytes], headers: Message, settings: Http, body: Path, about: Path) -> None:
    """Write the body to a file beside `body`, then move it there. The ETag is written last, so it never belongs to
    another body."""
    coding, length = headers.get("Content-Encoding", "identity"), headers.get("Content-Length", "")
    if coding != "identity":
        raise DataError(f"{address}: sent as {coding}, which was not asked for")
    size, digest, part = 0, hashlib.sha256(), body.with_suffix(".part")
    try:
        with open(part, "wb") as file:
            while chunk := response.read(CHUNK):
                size += len(chunk)
                if size > settings.max_bytes:
                    raise DataError(f"{address}: larger than http.max_bytes = {settings.max_bytes}")
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if length.isdecimal() and size != int(length):
            raise Passing(f"{size} bytes of {length} came")
        about.unlink(missing_ok=True)
        os.replace(part, body)
    finally:
        part.unlink(missing_ok=True)
    kept = {"etag": headers.get("ETag"), "last_modified": headers.get("Last-Modified"), "sha256": digest.hexdigest()}
    about.write_text(json.dumps(kept | {"size": size}), encoding="utf-8")


def _conditions(body: Path, about: Path) -> dict[str, str]:
    """The headers that ask for a body only if it differs from the kept one; none if there is no complete kept one."""
    try:
        kept: dict[str, Any] = json.loads(about.read_text(encoding="utf-8"))
        if body.stat().st_size != kept["size"]:
            return {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    found = {"If-None-Match": kept.get("etag"), "If-Modified-Since": kept.get("last_modified")}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _secrets(settings: Http) -> Mapping[str, str]:
    found = {name: os.environ.get(variable, "").strip() for name, variable in settings.headers_env.items()}
    for name, value in found.items():
        if not value or not value.isprintable():
            raise ConfigError(f"http.headers_env: {settings.headers_env[name]} holds no value for the header {name}")
    return found


def _host(address: str | None) -> str:
    return urlsplit(address or "").netloc


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, except from https to http. Headers that hold secrets are not copied to the new request."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        before, after = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if after not in ("https", before):
            raise DataError(f"{req.full_url}: redirects from {before} to {after}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)

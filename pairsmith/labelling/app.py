"""The page on which a person labels, and what it asks for: a Starlette application of one desk.

It answers those alone who know the token in its address, who call it by an address of this machine, and who, where they
change something, are its own page: another web page cannot post labels, nor can a name that leads here (DNS rebinding).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from pairsmith.errors import ConfigError
from pairsmith.labelling.desk import CHOICES, Desk, Stale
from pairsmith.text.templating import render

WING = "pairsmith.labelling"
HOSTS = ("127.0.0.1", "localhost")
MOST = 100_000  # bytes of a request
Handler = Callable[[Request], Awaitable[Response]]


def labelling_app(desk: Desk, token: str, finish: Callable[[], None]) -> Starlette:
    """The application; its page is at `/{token}/`. `finish` is called when the person says that they are done."""

    async def page(_: Request) -> Response:
        return Response(page_html(), media_type="text/html")

    async def state(_: Request) -> Response:
        return JSONResponse(desk.state())

    async def label(request: Request) -> Response:
        said = await _json(request)
        choice, key, note = said.get("choice"), said.get("pair"), said.get("note", "")
        if choice not in CHOICES or not isinstance(key, str) or not isinstance(note, str):
            return _refused(400, f"pair and note are texts, and choice is one of {', '.join(CHOICES)}")
        desk.label(key, choice, note)
        return JSONResponse(desk.state())

    async def undo(request: Request) -> Response:
        await _json(request)
        desk.undo()
        return JSONResponse(desk.state())

    async def end(request: Request) -> Response:
        await _json(request)
        finish()
        return JSONResponse(desk.state())

    reads = {"": page, "state": state}
    writes = {"label": label, "undo": undo, "finish": end}
    routes = [Route(f"/{{token}}/{name}", _guarded(do, token), methods=["GET"]) for name, do in reads.items()]
    routes += [Route(f"/{{token}}/{name}", _guarded(do, token), methods=["POST"]) for name, do in writes.items()]
    return Starlette(routes=routes)


def page_html() -> str:
    return render(WING, "label.html.jinja")


def headers() -> dict[str, str]:
    """Of every answer: the page runs its own script alone, speaks to this server alone, and is in no frame."""
    csp = {
        "default-src": "'none'",
        "script-src": _hash("label.js"),
        "style-src": _hash("label.css"),
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in csp.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


def _hash(name: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(render(WING, name).encode()).digest()).decode()}'"


def _guarded(handler: Handler, token: str) -> Handler:
    async def guarded(request: Request) -> Response:
        answer = _stranger(request, token) or await _answered(handler, request)
        answer.headers.update(headers())
        return answer

    return guarded


def _stranger(request: Request, token: str) -> Response | None:
    """The refusal of a request that does not come from the person's own page; None for theirs."""
    host = request.headers.get("host", "")
    if host.partition(":")[0] not in HOSTS:
        return _refused(403, "this page is served to this machine alone")
    if not hmac.compare_digest(request.path_params["token"].encode(), token.encode()):
        return _refused(404, "no such page")
    if request.method == "POST" and request.headers.get("origin") != f"http://{host}":
        return _refused(403, "another web page may not label")
    return None


async def _answered(handler: Handler, request: Request) -> Response:
    try:
        return await handler(request)
    except Stale as error:
        return _refused(409, str(error))
    except ConfigError as error:
        return _refused(400, str(error))
    except OSError as error:
        return _refused(500, f"not saved: {error.strerror or error}")


async def _json(request: Request) -> dict[str, Any]:
    """The object that a request holds. Raises ConfigError for another content or type."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise ConfigError("send application/json")
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > MOST:
            raise ConfigError(f"a request has {MOST:,} bytes at most")
    try:
        value = json.loads(content or b"{}")
    except ValueError:
        raise ConfigError("the content is no JSON") from None
    if not isinstance(value, dict):
        raise ConfigError("the content is no object")
    return value


def _refused(status: int, why: str) -> Response:
    return PlainTextResponse(why, status)

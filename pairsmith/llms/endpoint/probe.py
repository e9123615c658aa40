"""One call to an endpoint before a run: does it answer, to this key, for this model, in the form that is to be read?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from pairsmith.config import Endpoint
from pairsmith.llms.bills import bill_of
from pairsmith.llms.endpoint.client import Client
from pairsmith.llms.endpoint.reach import mend
from pairsmith.llms.endpoint.told_errors import error_in
from pairsmith.llms.endpoint.wire import (
    NoReply,
    Unreached,
    body_of,
    mend_hint,
    moved_hint,
    readout_hint,
    reply_of,
)
from pairsmith.protocol import Bill, Reply, Request

SECONDS = 5.0  # for one answer
DEAD = {301, 302, 303, 307, 308, 401, 402, 403, 404, 405}  # statuses that waiting does not mend


@dataclass(frozen=True)
class Probe:
    """What is sent where. `request`: None where only the list of models is asked for, which costs nothing."""

    endpoint: Endpoint
    model: str
    key: str
    request: Request | None


@dataclass(frozen=True)
class Found:
    """What came of a probe. `problem`: None where all is well; `is_dead`: waiting mends nothing; `bill`: its cost."""

    problem: str | None = None
    is_dead: bool = False
    bill: Bill | None = None


def ask_once(probes: Sequence[Probe]) -> list[Found]:
    """Send all probes side by side; returns what came of each."""

    async def all_of_them() -> list[Found]:
        return await asyncio.gather(*map(_ask, probes))

    return asyncio.run(all_of_them())


async def _ask(probe: Probe) -> Found:
    client = Client(probe.endpoint, probe.model, probe.key)
    try:
        async with asyncio.timeout(SECONDS):
            return await (_listed(client, probe) if probe.request is None else _sent(client, probe, probe.request))
    except TimeoutError:
        return Found(f"no answer within {SECONDS:g} s; a run waits longer, as endpoint.deadline says")
    except Unreached as error:
        waits = probe.endpoint.wait_for > 0 and probe.endpoint.mode != "batch"
        return Found() if waits else Found(f"{client.clean(error)}; {mend(probe.endpoint)}", is_dead=True)
    except ConnectionError as error:
        return Found(f"{client.clean(error)[:300]}; this may pass, and a run tries again")
    except Exception as error:  # a login that fails, an answer of an unknown form: the run would find it too
        return Found(client.clean(f"{type(error).__name__}: {error}")[:300])
    finally:
        await client.close()


async def _sent(client: Client, probe: Probe, request: Request) -> Found:
    status, headers, content = await client.post(body_of(request, probe.model, probe.endpoint.max_tokens_name))
    words = client.clean(content.decode(errors="replace"))[:300]
    if 200 <= status < 300:
        try:
            answer = json.loads(content)
            told = error_in(answer)
            reply = reply_of(answer, request) if not told else Reply("", error=told.words)
        except (NoReply, ValueError, RecursionError) as error:
            return Found(f"an answer that cannot be read: {client.clean(error)[:300]}", bill=Bill())
        if not told or not told.status:
            bill = reply.charged or bill_of(request, answer, len(content), False, reply.error)
            return Found(client.clean(reply.error) if reply.error and request.choices else None, bill=bill)
        status, words = told.status, client.clean(told.words)
    hint = client.clean(moved_hint(headers) + mend_hint(status, probe.endpoint)) + readout_hint(request)
    if status == 404 and (near := await _near(client, probe.model)):
        hint = f"; did you mean the model `{near[0]}`?"
    return Found(f"status {status}: {words}{hint}", is_dead=status in DEAD)


async def _near(client: Client, model: str) -> list[str]:
    """The listed model whose name is the nearest; none where there is no list."""
    try:
        status, _, content = await client.list_models()
    except ConnectionError:
        return []
    return get_close_matches(model, _models_in(status, content), 1, 0.5)


async def _listed(client: Client, probe: Probe) -> Found:
    status, headers, content = await client.list_models()
    models = _models_in(status, content)
    if status in (401, 403):
        words = client.clean(content.decode(errors="replace"))[:300]
        hint = client.clean(moved_hint(headers) + mend_hint(status, probe.endpoint))
        return Found(f"status {status}: {words}{hint}", is_dead=True)
    if not models or probe.model in models:
        return Found()
    near = get_close_matches(probe.model, models, 1, 0.5)
    meant = f"; did you mean `{near[0]}`?" if near else ""
    return Found(f"it has no model {probe.model}{meant}", is_dead=True)


def _models_in(status: int, content: bytes) -> list[str]:
    """The models in a list; none where the answer is none."""
    try:
        return [str(model["id"]) for model in json.loads(content)["data"]] if 200 <= status < 300 else []
    except (ValueError, KeyError, TypeError):
        return []

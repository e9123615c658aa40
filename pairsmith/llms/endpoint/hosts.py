"""Whose endpoint gave a reply: its host is noted beside the reply, and is no part of the reply's key.

So the same model at another address, after a move or behind a proxy, is asked for nothing again. Two servers whose
models only have the same name share replies too, which is wrong: a run says so, and the recipe's `identity` ends it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from urllib.parse import urlsplit

from pairsmith.config import ModelSpec
from pairsmith.ledger.ledger import Ledger
from pairsmith.protocol import Identity

log = logging.getLogger(__name__)


def identity_at(spec: ModelSpec) -> Identity:
    """Which model a recipe names at an endpoint."""
    return Identity("openai", spec.model, spec.revision, spec.identity)


def host_of(spec: ModelSpec) -> str | None:
    """The host, with its port if it names one, of a model's endpoint; None for a model of this process."""
    return urlsplit(spec.endpoint.base_url).netloc.lower() if spec.endpoint else None


def tell_of_other_hosts(specs: Sequence[ModelSpec], ledger: Ledger) -> None:
    """Warn where replies of one model, by its name, come from several hosts: those of the recipe and in the ledger."""
    hosts: dict[Identity, set[str]] = {}
    for spec in specs:
        if host := host_of(spec):
            hosts.setdefault(identity_at(spec), set()).add(host)
    for identity, here in hosts.items():
        if len(every := here | ledger.replies.hosts(identity)) > 1:
            log.warning(
                "model %s is asked at %s, and all of its replies count as those of one model, wherever they are from "
                "(%s); if these are different models, give one of them a name of its own: `identity: a-name`",
                identity.model, " and ".join(sorted(here)), ", ".join(sorted(every)),
            )  # fmt: skip

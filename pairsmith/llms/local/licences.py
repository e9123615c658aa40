"""Under which licence a model of this process is, as its folder or its page on the hub says. Nothing is guessed."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pairsmith.llms.local.hub_models import RECORD, stored_at
from pairsmith.llms.local.named_weights import is_from_hub

log = logging.getLogger(__name__)
_SECONDS = 10  # to wait for the hub
_CARD, _FILES = "README.md", ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING")
_SHOWN = 80  # characters of a licence's first line


@dataclass(frozen=True)
class Licence:
    """The licence's id or first line, and the address of its text; None where nothing says."""

    name: str | None = None
    link: str | None = None


def licence_of(model: str, revision: str | None) -> Licence:
    """What the card, the licence file or the record beside a model's weights says. Asks the hub where it has none here.

    A licence that a card calls `other` has the name that it gives beside.
    """
    if is_from_hub(model, revision):
        return _of_cache(model, revision) or _of_hub(model, revision)
    folder = Path(model).expanduser()
    return _of_folder(folder if folder.is_dir() else stored_at(model)) or Licence()


def _of_folder(folder: Path) -> Licence | None:
    files = [folder / name for name in _FILES if (folder / name).is_file()]
    record = folder / RECORD
    if found := _of_card(folder / _CARD):
        return found
    if record.is_file() and (name := json.loads(record.read_text(encoding="utf-8")).get("licence")):
        return Licence(str(name))
    lines = files[0].read_text(encoding="utf-8", errors="replace").split("\n") if files else []
    first = next((line.strip() for line in lines if line.strip()), None)
    return Licence(f"its file {files[0].name}: {first[:_SHOWN]}") if first else None


def _of_card(card: Path) -> Licence | None:
    """The licence in the front matter of a card; None without one."""
    if not card.is_file():
        return None
    begin, _, rest = card.read_text(encoding="utf-8", errors="replace").partition("---\n")
    try:
        front = yaml.safe_load(rest.partition("\n---")[0]) if not begin.strip() else None
    except yaml.YAMLError:
        return None
    return _named(front) if isinstance(front, Mapping) else None


def _named(front: Mapping[str, Any]) -> Licence | None:
    held = {name: front.get(name) for name in ("license", "license_name", "license_link")}
    name, other, link = (", ".join(map(str, one)) if isinstance(one, list) else one for one in held.values())
    told = other if other and name in (None, "other") else name
    is_address = isinstance(link, str) and link.startswith(("https://", "http://"))
    return Licence(str(told), link if is_address else None) if told else None


def _of_cache(model: str, revision: str | None) -> Licence | None:
    from huggingface_hub import try_to_load_from_cache

    card = try_to_load_from_cache(model, _CARD, revision=revision)
    return _of_folder(Path(card).parent) if isinstance(card, str) else None


def _of_hub(model: str, revision: str | None) -> Licence:
    from huggingface_hub import HfApi

    try:
        found: Any = HfApi().model_info(model, revision=revision, timeout=_SECONDS).card_data
        return (_named(found.to_dict()) if found else None) or Licence()
    except Exception as error:  # no network, offline mode, no such model: each raises its own
        log.info("%s: its licence is not known here, and the hub did not say: %s", model, type(error).__name__)
        return Licence()

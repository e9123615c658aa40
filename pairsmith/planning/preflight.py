"""Whether a run can go well, looked at before it begins: all that stands in its way at once, each with its field.

`look` asks nobody. `ask_endpoints` sends each endpoint one call of one token, side by side; the ledger charges it to
the data set, within the budget, and what went well is not asked again for ten minutes.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pairsmith.config import Author, Endpoint, Evolver, Judge, Member, Recipe
from pairsmith.errors import ConfigError, PairsmithError
from pairsmith.generation.pool import STAGE as GENERATE
from pairsmith.ids import fingerprint
from pairsmith.judging.checks import require
from pairsmith.judging.criteria_file import read_criteria
from pairsmith.judging.rating import STAGE as RATE
from pairsmith.ledger.ledger import Ledger, open_ledger
from pairsmith.ledger.replies import Account, Charge
from pairsmith.ledger.spending import CHECK
from pairsmith.llms.budget import amount_of
from pairsmith.llms.endpoint import credentials
from pairsmith.llms.endpoint.hosts import host_of, identity_at
from pairsmith.llms.endpoint.keys import key_of
from pairsmith.llms.local import token_counts
from pairsmith.llms.local.named_weights import LOCAL, is_from_hub, load_revision, located
from pairsmith.llms.purse import purse_of
from pairsmith.llms.registry import identity_of, role_of
from pairsmith.planning.calibrated import require_calibration
from pairsmith.protocol import Request
from pairsmith.publishing import findings
from pairsmith.session import Session
from pairsmith.storage.disk import unwritable
from pairsmith.storage.opening import files_at

Asked = Member | Evolver | Author | Judge
AUTHOR = "rating.criteria.author"  # its place
KNOWN_FOR = 600  # seconds for which an endpoint that answered is not asked again
ALL = (GENERATE, RATE)  # the stages in which models are asked; evolution belongs to the first
LEAST_FREE = 200_000_000  # bytes on the workspace's disk


@dataclass(frozen=True)
class Finding:
    """What stands in the way of a run. `place`: the field of the recipe; `is_fatal`: the run cannot begin."""

    place: str
    problem: str
    is_fatal: bool = True


def require_all(recipe: Recipe, asks: bool = True) -> None:
    """Raise ConfigError where something is absent that a run needs from outside, or, where it `asks` models, no prompt
    could have a pair."""
    for _, needs in _needs(recipe):
        needs()
    if asks:
        raise_fatal(list(_no_pair(recipe)))


def look(recipe: Recipe, session: Session, stages: Collection[str] = ALL) -> list[Finding]:
    """What can be found without asking anybody. `stages`: those in which the run asks models."""
    found = [*_failing(_needs(recipe)), *_workspace(recipe.workspace)]
    if GENERATE in stages:
        found += _no_pair(recipe)
    if stages and not any(one.is_fatal for one in found):
        found += _unready(recipe, session, stages)
    return found


def ask_endpoints(recipe: Recipe, session: Session, stages: Collection[str] = ALL) -> list[Finding]:
    """What the endpoints answer to one call each. Fatal where no member, or no judge, has one that can answer.

    An endpoint whose key is in a Secret block is left out: that is read within Prefect alone.
    """
    from pairsmith.llms.endpoint.probe import Probe, ask_once

    ledger = open_ledger(recipe.ledger_url, session)
    asked: dict[str, tuple[Probe, list[tuple[str, Asked]]]] = {}
    for place, spec in placed(recipe, stages):
        if spec.endpoint and (key := _key_here(spec.endpoint, session)):
            request = None if spec.endpoint.mode == "batch" else _request(spec)
            mark = fingerprint("check", spec.endpoint.model_dump(mode="json"), spec.model, key, _form(spec))
            asked.setdefault(mark, (Probe(spec.endpoint, spec.model, key, request), []))[1].append((place, spec))
    purse, now = purse_of(recipe.ledger_url, recipe.name, recipe.budget, session), int(time.time())
    left = {}
    for mark, (probe, users) in asked.items():
        most = amount_of(probe.request, users[0][1].price) if probe.request else (0, 0.0)
        is_known = ledger.spending.has_sound_between(recipe.name, _id(mark, now - KNOWN_FOR), _id(mark, now))
        if not is_known and purse.reserve(*most, wait=False):
            left[mark] = most
    found = ask_once([asked[mark][0] for mark in left])
    problems: dict[str, Finding] = {}
    for mark, outcome in zip(left, found, strict=True):
        users = asked[mark][1]
        spent = (0, 0.0)
        if outcome.bill:
            bill = replace(outcome.bill, id=_id(mark, now), problem=outcome.problem)
            ledger.replies.record([], [Charge(_account(recipe, ledger, users[0]), mark, bill)])
            price, tokens = users[0][1].price, (bill.n_prompt_tokens, bill.n_tokens)
            spent = (sum(tokens), price.of(*tokens) if price else 0.0)
        purse.settle(left[mark], spent)
        if outcome.problem:
            for place, spec in users:
                where = f"{spec.model} at {host_of(spec)}"
                fatal = outcome.is_dead and not _is_known(recipe, ledger, spec)
                problems[place] = Finding(place, f"{where}: {outcome.problem}", fatal)
    return _weighed(recipe, problems, stages)


def raise_fatal(found: Sequence[Finding]) -> None:
    """Raise ConfigError with all findings, a line each, where one of them is fatal."""
    if any(one.is_fatal for one in found):
        raise ConfigError("\n  ".join(["a run cannot begin:", *told(found)]))


def told(found: Sequence[Finding]) -> list[str]:
    """Findings as lines, those with one problem together."""
    places: dict[str, list[str]] = {}
    for one in found:
        places.setdefault(one.problem, []).append(one.place)
    return [f"{', '.join(there)}: {problem}" for problem, there in places.items()]


def placed(recipe: Recipe, stages: Collection[str] = ALL) -> Iterator[tuple[str, Asked]]:
    """Every model that a run asks in these stages, with its place in the recipe and its name."""
    if GENERATE in stages:
        for number, member in enumerate(recipe.pool.members):
            if not member.is_given:
                yield f"pool.members.{number} ({member.name})", member
        if recipe.evolution:
            yield "evolution.evolver", recipe.evolution.evolver
    if recipe.criteria and recipe.criteria.author and RATE in stages:
        yield AUTHOR, recipe.criteria.author
    for number, judge in enumerate(recipe.rating.judges if recipe.rating and RATE in stages else ()):
        if not judge.is_given:
            yield f"rating.judges.{number} ({judge.name})", judge


def _weighed(recipe: Recipe, problems: dict[str, Finding], stages: Collection[str]) -> list[Finding]:
    """Findings, fatal only where all members or all judges are dead: otherwise a run goes on with the others."""
    groups: dict[str, list[str]] = {}
    for place, _ in placed(recipe, stages):
        if place != AUTHOR:
            groups.setdefault(place.partition(".")[0], []).append(place)
    fatal = {
        place
        for group in (groups.get("pool", []), groups.get("rating", []))
        if group and all(place in problems and problems[place].is_fatal for place in group)
        for place in group
    }
    return [replace(finding, is_fatal=place in fatal) for place, finding in problems.items()]


def _needs(recipe: Recipe) -> list[tuple[str, Callable[[], None]]]:
    return [
        ("rating.checks", lambda: require(recipe.checks)),
        ("rating.calibration", lambda: require_calibration(recipe)),
        ("rating.criteria.file", lambda: _criteria(recipe)),
        ("endpoint.credentials", lambda: credentials.require(recipe.specs)),
        ("pairing.max_length_difference", lambda: token_counts.require(recipe.pairing)),
        ("publishing.screen", lambda: findings.require(recipe.publishing.screen)),
    ]


def _criteria(recipe: Recipe) -> None:
    if recipe.criteria and recipe.criteria.file:
        read_criteria(recipe.criteria.file)


def _unready(recipe: Recipe, session: Session, stages: Collection[str]) -> Iterator[Finding]:
    """Models without their code, their weights or their key. No hindrance where the ledger has answers of them: then
    they may not be asked at all."""
    ledger = open_ledger(recipe.ledger_url, session)
    for place, spec in placed(recipe, stages):
        looks = [(place, partial(_weights, spec)), (f"{place}: endpoint", partial(_key, spec, session))]
        for finding in _failing(looks):
            yield replace(finding, is_fatal=not _is_known(recipe, ledger, spec))


def _weights(spec: Asked) -> None:
    """Raise PairsmithError where a model has no code or weights that could be loaded."""
    identity_of(spec)
    if spec.backend in LOCAL and is_from_hub(spec.model, spec.revision):
        load_revision(spec.model, located(spec.model, spec.revision).revision)


def _key(spec: Asked, session: Session) -> None:
    """Raise ConfigError where a model's endpoint has no key; one in a Secret block is read within Prefect alone."""
    if spec.endpoint and not spec.endpoint.api_key_block:
        key_of(spec.endpoint, session)


def _key_here(endpoint: Endpoint, session: Session) -> str | None:
    """The key of an endpoint; None where this process has none."""
    try:
        return key_of(endpoint, session)
    except ConfigError:
        return None


def _is_known(recipe: Recipe, ledger: Ledger, spec: Asked) -> bool:
    return ledger.spending.has_answered(recipe.name, spec.model, f"{role_of(spec)} {spec.name}")


def _failing(looks: Sequence[tuple[str, Callable[[], object]]]) -> Iterator[Finding]:
    for place, looked in looks:
        try:
            looked()
        except PairsmithError as error:
            yield Finding(place, str(error))


def _no_pair(recipe: Recipe) -> Iterator[Finding]:
    """Why no prompt could have a pair: a pair takes two answers."""
    if recipe.pool.given or recipe.evolution:
        return
    pool = recipe.pool
    drawn = sorted((member.samples for member in pool.drawable), reverse=True)[: pool.draw]
    if sum(drawn) + sum(pool.member(name).samples for name in pool.always) < 2:
        yield Finding(
            "pool",
            "every prompt gets a single answer, and a pair takes two: add a member, set `samples: 2` for this one, "
            "or add an evolution section",
        )


def _workspace(workspace: str) -> Iterator[Finding]:
    if "://" in workspace:
        files = files_at(workspace)
        try:
            files.write(".writable", b"")
            files.remove(".writable")
        except (PairsmithError, OSError) as error:
            yield Finding("workspace", f"{workspace} cannot be written: {error}")
        return
    folder = Path(workspace).absolute()
    if problem := unwritable(folder):
        yield Finding("workspace", problem)
        return
    there = next(one for one in (folder, *folder.parents) if one.exists())
    if (free := shutil.disk_usage(there).free) < LEAST_FREE:
        yield Finding("workspace", f"its disk has only {free / 1e6:,.0f} MB free", is_fatal=False)


def _request(spec: Asked) -> Request:
    """One token, asked for as the run will ask, so that an endpoint says whether it can answer in that form."""
    sampling = spec.sampling.model_copy(update={"max_tokens": 1})
    form, choices = _form(spec), ("1", "2")
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]} if form == "json" else None
    asked = ({"role": "user", "content": "Answer with 1 or 2."},)
    return Request(asked, sampling, 0, schema=schema, choices=choices if form == "logprobs" else None)


def _form(spec: Asked) -> str:
    if isinstance(spec, Judge):
        return str(spec.readout)
    return "json" if isinstance(spec, Author) else "text"


def _account(recipe: Recipe, ledger: Ledger, user: tuple[str, Asked]) -> Account:
    _, spec = user
    asker = f"{role_of(spec)} {spec.name}"
    return Account(ledger.url, identity_at(spec), recipe.name, spec.price, asker, host_of(spec))


def _id(mark: str, moment: int) -> str:
    return f"{CHECK}{mark[:32]}-{moment:012}"

"""Histories: what befalls a data set over weeks, drawn from a seed, in some seconds.

A history is 3 to 8 steps on one data set: a run that is killed, a server that fails, a recipe or prompts that change,
two runs at once, and a person who prunes or moves the ledger or forgets prompts. It ends with a run that nothing
disturbs. Then the data set must be that of a workspace in which nothing ever happened; what was asked for twice must be
no more than what was under way at the kills, and what was dropped since; and the ledger must have counted what was
charged.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pairsmith.building.runs import build
from pairsmith.config import Recipe
from pairsmith.config.loading import parse_recipe
from pairsmith.ids import prompt_id
from pairsmith.ledger import bookkeeping, pruning
from pairsmith.ledger.ledger import Ledger
from pairsmith.session import Session
from pairsmith.stages.forget import Choice, forget
from pairsmith.storage.store import Store
from pairsmith.testing import KINDS, FakeEndpoint, Fault, Weather
from tests.faults.harness import Child, complete, wait_for_calls

NAME = "history"
CONCURRENCY = 4  # calls of one model at a time
MODELS = 6  # at most: members, evolver, judges
FEWEST = 6  # prompts
WEATHER = Weather(latency=0.004, spread=1)


def build_here(recipe: Recipe) -> dict[str, Any]:
    """The work of a child: the whole recipe, as a program runs it."""
    with Session() as session:
        outcome = build(recipe, session)
    assert outcome.release is not None
    published, loaded = outcome.release.published, outcome.loaded
    return {
        "digest": published.digest,
        "version": published.version,
        "folder": published.folder,
        "loaded": loaded.accepted,
        "calls": sum(row["calls"] for row in outcome.usage),
    }


@dataclass
class World:
    """A data set with its endpoint, and what its history may have cost.

    `under_way`: calls that may have been charged without a trace, since their process was killed. `dropped`: replies
    that were taken out of the ledger and may be asked for again. `unusable`: answers that were charged and hold no
    reply, so that their requests were sent again. `story`: the steps so far, for a person to read.
    """

    folder: Path
    endpoint: FakeEndpoint
    new_ledger: Callable[[], str]
    settings: dict[str, Any] = field(default_factory=dict)
    prompts: list[str] = field(default_factory=lambda: [f"Question {number}?" for number in range(10)])
    forgotten: list[str] = field(default_factory=list)
    under_way: int = 0
    dropped: int = 0
    unusable: int = 0
    story: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ledger = self.new_ledger()

    @property
    def wanted(self) -> list[str]:
        """The prompts that are not forgotten."""
        return [prompt for prompt in self.prompts if prompt not in self.forgotten]

    @property
    def workspace(self) -> str:
        return str(self.folder / "data")

    def recipe(self) -> Recipe:
        """The recipe as it is now, its prompts written to their file."""
        return recipe_of(self.folder, self.endpoint, self.settings, self.prompts, self.ledger)

    def disturbed(self, calls: int | None = None) -> None:
        """A run that may end as it likes; killed when so many more calls arrived."""
        with Child(self.recipe(), work=build_here) as child:
            if calls is not None:
                wait_for_calls(self.endpoint, child, len(self.endpoint.journal) + calls)
                child.kill()
            outcome = child.outcome()
        if outcome.killed:
            self.under_way += CONCURRENCY * MODELS
        self.story.append(f"  it ended with {outcome.code} {outcome.error[:100]}")


def recipe_of(
    folder: Path, endpoint: FakeEndpoint, settings: dict[str, Any], prompts: list[str], ledger: str
) -> Recipe:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    where = {"base_url": endpoint.url, "api_key_env": None, "concurrency": CONCURRENCY}
    model = {"backend": "openai", "endpoint": where | {"breaker_seconds": 0.1}}
    sampling = {"temperature": settings.get("temperature", 0.7), "seed": settings.get("seed", 0)}
    members = [
        {"name": name, "model": name, "sampling": sampling, **model} for name in "abc"[: settings.get("members", 2)]
    ]
    judges = [{"name": name, "model": name, **model} for name in ("judge", "second")[: settings.get("judges", 1)]]
    data: dict[str, Any] = {
        "name": NAME,
        "workspace": str(folder / "data"),
        "ledger": ledger,
        "prompts": {"sources": [{"path": str(file)}]},
        "shard_size": settings.get("shard_size", 4),
        "pool": {"members": members},
        "rating": {"aspects": settings.get("aspects", ["overall"]), "judges": judges},
        "pairing": {"strategy": settings.get("strategy", "best-vs-worst")},
    }
    if settings.get("evolved"):
        data["evolution"] = {"evolver": {"model": "evolver", **model}}
    return parse_recipe(yaml.safe_load(yaml.safe_dump(data)), base=folder)


Step = Callable[[World, random.Random], None]

CHANGES: dict[str, tuple[Any, ...]] = {
    "temperature": (0.2, 0.7, 1.0),
    "seed": (0, 1),
    "members": (2, 3),
    "judges": (1, 2),
    "aspects": (["overall"], ["helpfulness", "honesty"]),
    "strategy": ("best-vs-worst", "best-vs-random", "best-vs-second", "all-above-margin"),
    "shard_size": (3, 4, 50),
    "evolved": (False, True),
}


def kill(world: World, rng: random.Random) -> None:
    calls = rng.randint(0, 40)
    world.story.append(f"a run killed after {calls} calls")
    world.disturbed(calls)


def server_fault(world: World, rng: random.Random) -> None:
    """Some calls are refused, cut off, or answered in a way that is charged and cannot be used."""
    kinds = rng.choices(sorted(FAULTS), k=rng.randint(1, 12))
    world.story.append(f"a run whose server fails: {', '.join(kinds)}")
    world.unusable += sum(kind.startswith("charged") for kind in kinds)
    world.endpoint.fail(*(FAULTS[kind] for kind in kinds))
    world.disturbed()


def change_recipe(world: World, rng: random.Random) -> None:
    name = rng.choice(sorted(CHANGES))
    world.settings[name] = rng.choice(CHANGES[name])
    world.story.append(f"a run with {name} {world.settings[name]}")
    world.disturbed()


def change_prompts(world: World, rng: random.Random) -> None:
    """Rows come, go, change and change places."""
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(world.prompts))
        match rng.choice(("add", "remove", "edit", "shuffle")):
            case "add":
                world.prompts.insert(place, f"Another question {rng.randrange(10**6)}?")
            case "remove" if len(world.wanted) > FEWEST:
                del world.prompts[place]
            case "edit":
                world.prompts[place] += " Please."
            case _:
                rng.shuffle(world.prompts)
    world.story.append(f"a run with other prompts, {len(world.prompts)} now")
    world.disturbed()


def two_runs(world: World, rng: random.Random) -> None:
    """Two runs at once; now and then one of them is killed."""
    recipe, killed = world.recipe(), rng.random() < 0.3
    world.story.append(f"two runs at once{', one killed' if killed else ''}")
    with Child(recipe, work=build_here) as one, Child(recipe, work=build_here) as other:
        if killed:
            wait_for_calls(world.endpoint, one, len(world.endpoint.journal) + rng.randint(0, 20))
            one.kill()
            world.under_way += CONCURRENCY * MODELS
        outcomes = [one.outcome(), other.outcome()]
    for outcome in outcomes:
        assert outcome.killed or outcome.code == 0 or "another run works on this data set" in outcome.error, outcome


def prune(world: World, rng: random.Random) -> None:
    """The ledger is pruned after a run; then all tables are lost, and nothing is asked to make them again."""
    before = complete(world.recipe(), work=build_here)
    book = Ledger(world.ledger)
    found = pruning.prune(book, [world.workspace], drop=True)
    book.close()
    assert not found.unknown
    world.dropped += len(found.unused)
    world.story.append(f"the ledger is pruned of {len(found.unused)} replies, and the tables are lost")
    shutil.rmtree(Path(world.workspace, NAME, "tables"))
    again = complete(world.recipe(), work=build_here)
    assert (again.digest, again.calls) == (before.digest, 0)


def forget_prompt(world: World, rng: random.Random) -> None:
    """A prompt is forgotten after a run, while its row stays in the file; nothing is asked to make the rest again."""
    complete(world.recipe(), work=build_here)
    if len(world.wanted) < FEWEST:
        return
    text = rng.choice(world.wanted)
    book = Ledger(world.ledger)
    chosen = Choice(prompts=(prompt_id([{"role": "user", "content": text}], None),))
    found = forget(Store(str(Path(world.workspace, NAME))), book, chosen, yes=True)
    book.close()
    assert found.prompts == 1
    world.forgotten.append(text)
    world.story.append(f"{text!r} is forgotten, with {found.replies} replies")
    assert complete(world.recipe(), work=build_here).calls == 0


def move(world: World, rng: random.Random) -> None:
    """The ledger is exported, and imported by another that takes its place."""
    old, world.ledger = Ledger(world.ledger), world.new_ledger()
    file = world.folder / "export.jsonl"
    bookkeeping.export(old, file)
    new = Ledger(world.ledger)
    read, added = bookkeeping.import_(new, file)
    world.story.append(f"the ledger is moved: {read} lines, {added} of them new")
    old.close()
    new.close()


STEPS: dict[str, Step] = {
    "kill": kill,
    "server fault": server_fault,
    "changed recipe": change_recipe,
    "changed prompts": change_prompts,
    "two runs at once": two_runs,
    "prune": prune,
    "export and import": move,
    "forget": forget_prompt,
}


_CHARGED = {"id": "fake", "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}}

FAULTS: dict[str, Fault] = {
    **{name: KINDS[name] for name in ("500", "503", "429", "reset", "cut", "garbage", "blank")},
    "charged, no choice": Fault(200, json.dumps(_CHARGED | {"choices": []})),
    "charged, no message": Fault(200, json.dumps(_CHARGED | {"choices": [{"index": 0, "finish_reason": "stop"}]})),
}


def live_through(world: World, seed: int) -> None:
    """The steps of the history with this seed."""
    rng = random.Random(f"history {seed}")
    for name in rng.choices(sorted(STEPS), k=rng.randint(3, 8)):
        STEPS[name](world, rng)

"""Finds the fastest batch size and dtype for a recipe's local models by trying them on this machine.

Each kind of work that a model does in the recipe is tried with the recipe's own prompts, doubling the batch size as
long as that pays and time is left. A model is tried in a process of its own, which frees its memory afterwards; and if
the system kills that process for lack of memory, nothing else ends with it.
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any, cast

from pairsmith.config import Author, Evolver, Judge, LocalOptions, Member, ModelSpec, Recipe, Sampling
from pairsmith.errors import ConfigError
from pairsmith.generation import evolution
from pairsmith.generation import pool as generation
from pairsmith.judging.criteria import author_requests
from pairsmith.llms.local.trial import Ended, Took, TrialProcess, Trier
from pairsmith.planning.dry_run import foreseen
from pairsmith.protocol import Request
from pairsmith.sources.http import fetched
from pairsmith.sources.prompts import read_prompts
from pairsmith.storage.row_types import CompletionRow, PromptRow

LOCAL = ("transformers", "reward")
PROMPTS, NEW_TOKENS, STAND_IN = 512, 24, 800  # prompts read, tokens generated, characters of a text to rate or rewrite
SMALLEST, LARGEST = 4, 1024
WORTHWHILE = 1.03  # how much faster a doubled batch must be for the next to be tried


@dataclass(frozen=True)
class Work:
    """A kind of work: the models of the recipe that do it (`names`), and requests as the recipe makes them."""

    names: tuple[str, ...]
    spec: ModelSpec
    requests: tuple[Request, ...]

    @property
    def weights(self) -> tuple[Any, ...]:
        return self.spec.backend, self.spec.model, self.spec.revision, self.spec.local.device


@dataclass(frozen=True)
class Trial:
    """One measurement, or the error that prevented it."""

    work: Work
    dtype: str
    batch_size: int
    requests: int = 0
    took: Took | None = None
    error: str | None = None

    @property
    def rate(self) -> float:
        """Tokens per second, those of the requests included."""
        return self.took.tokens / self.took.seconds if self.took else 0.0


def works(recipe: Recipe) -> list[Work]:
    """The work of all local models; members or judges with the same weights and kind of requests count as one."""
    local = [spec for spec in recipe.specs if spec.backend in LOCAL]
    if not local:
        raise ConfigError(f"{recipe.name}: no model of it runs in this process; there is nothing to tune")
    limit = min(recipe.prompts.limit or PROMPTS, PROMPTS)
    with fetched(recipe.prompts) as bodies:
        read = read_prompts(recipe.prompts.model_copy(update={"limit": limit}), bodies)
        prompts = cast(list[PromptRow], [row for row in read if "reason" not in row])
    if not prompts:
        raise ConfigError(f"{recipe.name}: no prompt among the first {limit} rows, so there is nothing to try")
    found: dict[str, Work] = {}
    for spec in local:
        short = spec.model_copy(update={"sampling": _shortened(spec.sampling)})
        shape = (type(spec).__name__, spec.local, getattr(spec, "protocol", ""), getattr(spec, "readout", ""))
        key = repr((*shape, spec.backend, spec.model, spec.revision, short.sampling.max_tokens))
        if key in found:
            found[key] = replace(found[key], names=(*found[key].names, spec.name))
        else:
            found[key] = Work((spec.name,), spec, tuple(requests_of(recipe, short, prompts)))
    return list(found.values())


def _shortened(sampling: Sampling) -> Sampling:
    return sampling.model_copy(update={"max_tokens": min(sampling.max_tokens, NEW_TOKENS)})


def requests_of(recipe: Recipe, spec: Member | Evolver | Author | Judge, prompts: Sequence[PromptRow]) -> list[Request]:
    """Requests as a run makes them; the prompts' own text replaces completions, which do not exist yet."""
    if isinstance(spec, Member):
        everyone = recipe.pool.model_copy(update={"members": (spec,), "draw": None})
        return [item.request for item in generation.completion_requests(prompts, everyone, spec)]
    if isinstance(spec, Judge) and recipe.rating:
        made = [row for prompt in prompts for row in _stand_ins(prompt, max(2, len(recipe.pool.members)))]
        alone = recipe.rating.model_copy(update={"judges": (spec,)})
        return [item.request for item in foreseen(prompts, made, alone, spec)]
    if isinstance(spec, Author) and recipe.criteria:
        made = [row for prompt in prompts for row in _stand_ins(prompt, 2)]
        return [item.request for item in author_requests(prompts, made, recipe.criteria, spec)]
    assert recipe.evolution is not None
    settings = recipe.evolution.model_copy(update={"evolver": spec})
    return [
        evolution.request_for(prompt, row, evolution.method_for(settings, row["completion_id"], 1), 1, settings)
        for prompt in prompts
        for row in _stand_ins(prompt, 1)
    ]


def _stand_ins(prompt: PromptRow, count: int) -> list[CompletionRow]:
    text = " ".join(message["content"] for message in json.loads(prompt["messages"]))
    text = (f"{text}\n" * math.ceil(STAND_IN / (len(text) + 1)))[:STAND_IN]
    return [
        {
            "completion_id": f"{prompt['prompt_id']}-{place}",
            "prompt_id": prompt["prompt_id"],
            "member": "",
            "model": "",
            "text": f"{place + 1}. {text}",
            "n_tokens": 0,
            "sample": place,
            "seed": 0,
            "evolution": 0,
            "request": "",
            "error": None,
        }
        for place in range(count)
    ]


def tune(all_works: Sequence[Work], seconds: float, open_trier: Callable[[], Trier] = TrialProcess) -> Iterator[Trial]:
    """Try each work in about its share of `seconds`, loading included; yields each trial when it is done."""
    by_weights: dict[tuple[Any, ...], list[Work]] = defaultdict(list)
    for work in all_works:
        by_weights[work.weights].append(work)
    ends, later = time.monotonic() + seconds, len(all_works)
    for group in by_weights.values():
        later -= len(group)
        with closing(open_trier()) as trier:
            device = trier.look_at(group[0].spec.local.device)
        left = len(group) * len(device.dtypes)
        for dtype in device.dtypes:
            with closing(open_trier()) as trier:
                for work in group:
                    share = max(0.0, ends - time.monotonic()) / (left + later)
                    yield from _search(trier, work, dtype, device.at_a_time, time.monotonic() + share)
                    left -= 1


def _search(trier: Trier, work: Work, dtype: str, at_a_time: int, until: float) -> Iterator[Trial]:
    """Try batches of 4, 8, 16 and so on: at least one, until the next would not pay or not end in time."""
    size, fastest = 1, 0.0
    try:
        trier.tried(_with(work.spec, dtype, size), work.requests[:1])  # loads the model
        size = SMALLEST
        while size <= LARGEST:
            requests = list(islice(cycle(work.requests), size * at_a_time))
            took = trier.tried(_with(work.spec, dtype, size), requests)
            trial = Trial(work, dtype, size, len(requests), took)
            yield trial
            if trial.rate < WORTHWHILE * fastest or time.monotonic() + 2 * took.seconds > until:
                return
            fastest, size = trial.rate, 2 * size
    except Ended as error:
        yield Trial(work, dtype, size, error=str(error))


def _with(spec: ModelSpec, dtype: str, batch_size: int) -> ModelSpec:
    return spec.model_copy(update={"local": spec.local.model_copy(update={"dtype": dtype, "batch_size": batch_size})})


def best(trials: Sequence[Trial]) -> list[Trial]:
    """The fastest trial of each work, in the dtype that is fastest for all works with the same weights together."""
    fastest: dict[tuple[int, str], Trial] = {}
    for trial in trials:
        key = id(trial.work), trial.dtype
        if trial.error is None and (key not in fastest or trial.rate > fastest[key].rate):
            fastest[key] = trial
    weights: dict[tuple[Any, ...], dict[str, list[Trial]]] = defaultdict(lambda: defaultdict(list))
    for trial in fastest.values():
        weights[trial.work.weights][trial.dtype].append(trial)
    chosen = []
    for by_dtype in weights.values():
        most = max(map(len, by_dtype.values()))
        whole = [group for group in by_dtype.values() if len(group) == most]
        chosen += max(whole, key=lambda group: math.prod(trial.rate for trial in group))
    return chosen


def settings_of(trial: Trial) -> LocalOptions:
    """The best `local` options for the models of a trial's work."""
    local = trial.work.spec.local
    return local.model_copy(update={"dtype": trial.dtype, "batch_size": trial.batch_size})


def lines(chosen: Sequence[Trial]) -> list[str]:
    """The lines to put into the recipe, each with the name of its member, evolver or judge."""
    made = []
    for trial in chosen:
        fields = settings_of(trial).model_dump(mode="json", exclude_defaults=True)
        fields |= {"dtype": trial.dtype, "batch_size": trial.batch_size}
        options = ", ".join(f"{name}: {json.dumps(value)}" for name, value in fields.items()).replace('"', "")
        made += [f"local: {{{options}}}  # {name}" for name in trial.work.names]
    return made

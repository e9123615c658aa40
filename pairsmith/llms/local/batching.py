"""Batches of rows that enter and leave a model together: for scores, and for texts of models that cannot use slots."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from typing import Any, TypeVar

from pairsmith.llms.local.decoding import Row
from pairsmith.llms.local.sampling import Draw, Vocabulary, choose
from pairsmith.llms.local.weights import Lane
from pairsmith.protocol import Finished, Reply, Request

R = TypeVar("R", bound=Row)


def prepared(
    requests: Sequence[Request], row: Callable[[int, Request], R], problem: Callable[[R], str | None]
) -> tuple[list[R], Finished]:
    """The rows of `requests`, and error replies to those that can never be answered."""
    rows, unanswerable = list[R](), Finished()
    for index, request in enumerate(requests):
        made = row(index, request)
        reason = problem(made)
        if reason:
            unanswerable.append((index, Reply("", n_prompt_tokens=len(made.tokens), error=reason, final=True)))
        else:
            rows.append(made)
    return rows, unanswerable


def in_batches(lane: Lane, made: Sequence[list[R]], answer: Callable[[list[R]], Finished]) -> Iterator[Finished]:
    """The replies of batches as they are done; raises the first failure after all of them."""
    failure: Exception | None = None
    futures = [lane.submit(answer, batch) for batch in made]
    try:
        for future in as_completed(futures):
            try:
                finished = future.result()
            except Exception as error:  # raised later: the replies of other batches are worth keeping
                failure = failure or error
            else:
                yield finished
    finally:
        for future in futures:
            future.cancel()
    if failure:
        raise failure


def batches(rows: Sequence[Row], size: int, workers: int) -> list[list[Row]]:
    """Batches of rows with the same limits and system message, enough of them for all workers.

    The rows of a batch have similar lengths; the batches that take longest come first.
    """
    alike: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        request = row.request
        instructions = request.messages[0]["content"] if request.messages[0]["role"] == "system" else None
        alike[request.sampling.max_tokens, request.sampling.stop, instructions].append(row)
    made = []
    for group in alike.values():
        group.sort(key=lambda row: len(row.tokens), reverse=True)
        share = min(size, math.ceil(len(group) / workers))
        made += [group[start : start + share] for start in range(0, len(group), share)]
    return sorted(made, key=lambda batch: -len(batch) * len(batch[0].tokens))


def generate_batch(model: Any, vocabulary: Vocabulary, pad: int, batch: Sequence[Row]) -> Finished:
    """The replies of a batch by transformers' own `generate`, padded on the left."""
    import torch
    from transformers import GenerationConfig, LogitsProcessorList

    sampling, tokenizer = batch[0].request.sampling, vocabulary.tokenizer
    padded = tokenizer.pad({"input_ids": [row.tokens for row in batch]}, return_tensors="pt").to(model.device)
    draws = [Draw(row.request, vocabulary) for row in batch]

    def only_chosen_tokens(_: Any, scores: Any) -> Any:
        chosen = torch.tensor(choose(draws, scores.clone()), device=scores.device)
        return torch.full_like(scores, -math.inf).scatter_(-1, chosen[:, None], 0.0)

    with torch.inference_mode():
        output = model.generate(
            **padded,
            generation_config=GenerationConfig(
                max_new_tokens=sampling.max_tokens,
                do_sample=False,
                eos_token_id=vocabulary.eos,
                pad_token_id=pad,
                stop_strings=list(sampling.stop) or None,
            ),
            logits_processor=LogitsProcessorList([only_chosen_tokens]),
            tokenizer=tokenizer,
        )
    width, ends = padded["input_ids"].shape[1], {*vocabulary.eos, pad}
    finished = []
    for row, draw, ids in zip(batch, draws, output[:, width:].tolist(), strict=True):
        end = next((place for place, token in enumerate(ids) if token in ends), len(ids))
        text, stop = vocabulary.text(ids[:end], sampling.stop)
        reason = "stop" if stop or end < len(ids) else "length"
        finished.append((row.index, Reply(text, reason, len(row.tokens), end, draw.logprobs)))
    return finished

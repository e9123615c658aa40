"""One measurement of `local.py`, in a process of its own: a model answers or rates, and the work alone is timed.

    python benchmarks/contestants.py KIND '{"what": "generation", "model": ...}'

Loading and a short warm-up come before the clock starts; for passes without decoding, which touch new memory all along,
it is all of the work once. Prints one line of JSON: seconds, tokens, texts, ratings.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pairsmith.session import process_session

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

CONTEXT = {"generation": 1024, "text": 4096, "logprobs": 2048}  # tokens of a slot of llama.cpp's server
SHAPES = (1, 4, 8, 16, 32, 64, 128)  # rows of a matrix product
CLIPPED = 400  # characters of a text that is rated


@dataclass(frozen=True)
class Job:
    """What is measured: a contestant's settings, and `rows`, prompts to answer or prompts with texts to rate."""

    what: str  # generation; text, logprobs: how ratings are read
    model: str
    rows: list[dict[str, Any]]
    max_tokens: int = 128
    device: str = "auto"
    batch: int = 8
    threads: int = 1
    dtype: str = "auto"  # float32 on a CPU, bfloat16 elsewhere
    options: dict[str, Any] = field(default_factory=dict)  # pairsmith's LocalOptions
    alike: bool = True  # whether requests may have a common beginning


def sampling_of(job: Job) -> Any:
    from pairsmith.config import Sampling

    return Sampling(temperature=0.0, max_tokens=job.max_tokens)


def sheets(job: Job) -> list[Any]:
    """What a judge is asked, as a run asks it: all texts of a prompt at once for text, each alone for logprobs."""
    from pairsmith.config import Judge, Rating
    from pairsmith.judging.asking import judge_requests

    logprobs = job.what == "logprobs"
    judge = Judge(
        name="judge",
        model=job.model,
        readout=job.what,
        protocol="pointwise" if logprobs else "listwise",
        rationale=not logprobs,
        sampling=sampling_of(job),
    )
    prompts, completions = [], []
    for number, row in enumerate(job.rows):
        chat = json.dumps([{"role": "user", "content": row["prompt"]}])
        shared = {"prompt_id": f"p{number}", "error": None, "member": "m", "model": "m"}
        prompts.append({"prompt_id": f"p{number}", "messages": chat, "system_prompt": None, "reference": None})
        completions += [
            {**shared, "completion_id": f"p{number}-{place}", "text": text} for place, text in enumerate(row["texts"])
        ]
    return list(judge_requests(prompts, completions, Rating(judges=(judge,)), judge))


def asked(job: Job) -> tuple[list[Any], list[Any]]:
    """The requests of a job, and the sheets that they fill in where they rate."""
    from dataclasses import replace

    from pairsmith.protocol import Request

    if job.what == "generation":
        chats = [({"role": "user", "content": row["prompt"]},) for row in job.rows]
        return [Request(chat, sampling_of(job), seed=number) for number, chat in enumerate(chats)], []
    items = sheets(job)
    requests = [item.request for item in items]
    if not job.alike:  # a number that comes first leaves nothing to share
        chats = [[dict(message) for message in request.messages] for request in requests]
        for number, chat in enumerate(chats):
            chat[0]["content"] = f"{number:05} {chat[0]['content']}"
        requests = [replace(one, messages=tuple(chat)) for one, chat in zip(requests, chats, strict=True)]
    return requests, items


def through_protocol(job: Job, spec: Any) -> dict[str, Any]:
    """All requests to one of pairsmith's backends, as the stages ask them."""
    from dataclasses import replace

    from pairsmith.judging.rating import read
    from pairsmith.llms.registry import open_llm
    from pairsmith.protocol import Reply

    requests, items = asked(job)
    llm = open_llm(spec, process_session())
    short = sampling_of(job).model_copy(update={"max_tokens": 1 if requests[0].choices else 4})
    hello = [replace(requests[0], messages=({"role": "user", "content": "Hi"},), sampling=short)] * 2
    list(llm.stream(requests if job.what == "logprobs" else hello))
    replies: dict[int, Reply] = {}
    begun, first = time.perf_counter(), 0.0
    for group in llm.stream(requests):
        first = first or time.perf_counter() - begun
        replies.update(group)
    seconds = time.perf_counter() - begun
    ordered = [replies[number] for number in range(len(requests))]
    errors = [reply.error for reply in ordered if reply.error]
    found = [one for item, reply in zip(items, ordered, strict=False) for one in read(item, reply).values()]
    return {
        "seconds": seconds,
        "first": first,
        "tokens": sum(reply.n_tokens for reply in ordered),
        "prompt_tokens": sum(reply.n_prompt_tokens for reply in ordered),
        "texts": [reply.text for reply in ordered],
        "rated": len(found),
        "read": sum(one.rating is not None for one in found),
        "errors": errors[:3],
    }


def pairsmith(job: Job) -> dict[str, Any]:
    from pairsmith.config import LocalOptions, ModelSpec

    options = LocalOptions(**{"device": job.device, "dtype": job.dtype, **job.options})
    return through_protocol(job, ModelSpec(model=job.model, local=options))


def llamacpp(job: Job) -> dict[str, Any]:
    """llama.cpp's server with the 4-bit file, asked through pairsmith's client for endpoints."""
    import xllamacpp

    from pairsmith.config import Endpoint, ModelSpec
    from pairsmith.llms.local.hub_models import gguf_of

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = xllamacpp.CommonParams()
    server.model.path = str(gguf_of(job.model))
    server.hostnames, server.port = ["127.0.0.1"], port
    server.n_parallel, server.n_ctx = job.batch, job.batch * CONTEXT[job.what]
    server.cpuparams.n_threads = server.cpuparams_batch.n_threads = job.threads
    running = xllamacpp.Server(server)
    where = Endpoint(base_url=f"http://127.0.0.1:{port}/v1", api_key_env=None, concurrency=2 * job.batch)
    try:
        return through_protocol(job, ModelSpec(backend="openai", model="llama.cpp", endpoint=where))
    finally:
        del running


class Plain:
    """transformers as its manual shows it: left-padded batches of rows of similar length."""

    def __init__(self, job: Job) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        from pairsmith.llms.local.named_weights import located

        logging.disable_progress_bar()
        torch.set_num_threads(job.threads)
        self.device = torch.device(device_of(job.device))
        path = located(job.model, None).path
        dtype = dtype_of(job.dtype, self.device)
        self.tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype).to(self.device).eval()
        ends = self.model.generation_config.eos_token_id
        self.ends = {*(ends if isinstance(ends, list) else [ends]), self.tokenizer.pad_token_id}
        self.job, (self.requests, self.items) = job, asked(job)
        self.rows = [self.encode(request.messages) for request in self.requests]

    def encode(self, messages: Sequence[dict[str, str]]) -> list[int]:
        options = {"add_generation_prompt": True, "return_dict": True}
        return list(self.tokenizer.apply_chat_template(list(messages), **options)["input_ids"])

    def run(self, work: Callable[[list[int]], list[list[int]]], size: int) -> dict[str, Any]:
        """Time `work` on batches of places of rows; it gives the new tokens of each, or [] where it rates."""
        import torch

        order = sorted(range(len(self.rows)), key=lambda place: -len(self.rows[place]))
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        made: dict[int, list[int]] = {}
        with torch.inference_mode():
            for batch in batches if self.job.what == "logprobs" else [batches[-1][:2]]:
                work(batch)
            begun = time.perf_counter()
            for batch in batches:
                made.update(zip(batch, work(batch), strict=True))
            seconds = time.perf_counter() - begun
        kept = [self.kept(made[place]) for place in range(len(self.rows))]
        return {
            "seconds": seconds,
            "tokens": sum(map(len, kept)),
            "prompt_tokens": sum(map(len, self.rows)),
            "texts": [self.tokenizer.decode(tokens, skip_special_tokens=True) for tokens in kept],
            "rated": sum(len(item.sheet.texts) for item in self.items),
        }

    def kept(self, tokens: list[int]) -> list[int]:
        return tokens[: next((n for n, token in enumerate(tokens) if token in self.ends), len(tokens))]

    def generate(self, batch: list[int]) -> list[list[int]]:
        padded = self.tokenizer.pad({"input_ids": [self.rows[place] for place in batch]}, return_tensors="pt")
        most = self.job.max_tokens
        made = self.model.generate(**padded.to(self.device), max_new_tokens=most, do_sample=False)
        return [row[padded["input_ids"].shape[1] :] for row in made.tolist()]

    def rate(self, batch: list[int]) -> list[list[int]]:
        padded = self.tokenizer.pad({"input_ids": [self.rows[place] for place in batch]}, return_tensors="pt")
        self.model(**padded.to(self.device), logits_to_keep=1, use_cache=False).logits.argmax(-1).tolist()
        return [[] for _ in batch]

    def continuous(self, batch: list[int]) -> list[list[int]]:
        from transformers import GenerationConfig

        (end, *_) = sorted(self.ends)
        how = GenerationConfig(max_new_tokens=self.job.max_tokens, do_sample=False, eos_token_id=end, pad_token_id=end)
        made = self.model.generate_batch([self.rows[place] for place in batch], generation_config=how)
        return [made[name].generated_tokens for name in sorted(made, key=lambda name: int(name.rpartition("_")[2]))]


def plain(job: Job) -> dict[str, Any]:
    this = Plain(job)
    return this.run(this.rate if job.what == "logprobs" else this.generate, job.batch)


def continuous(job: Job) -> dict[str, Any]:
    """transformers' continuous batching, which chooses its batches itself."""
    this = Plain(job)
    return this.run(this.continuous, len(job.rows))


def ceiling(job: Job) -> dict[str, Any]:
    """GFLOP/s of the model's matrix products alone, by rows: one thread on each core at once, or one GPU.

    Of the layouts that PyTorch has for weights, the fastest counts; all layers' weights pass through the caches.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from pairsmith.llms.local.named_weights import located

    torch.set_num_threads(1)
    device = torch.device(device_of(job.device))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(located(job.model, None).path))
    shapes = [layer.weight.shape for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    dtype = dtype_of(job.dtype, device)
    weights = [torch.randn(shape, device=device, dtype=dtype) for shape in shapes]
    workers = len(os.sched_getaffinity(0)) if device.type == "cpu" else 1
    work = 2 * sum(shape.numel() for shape in shapes)
    found = {}
    for rows in SHAPES:
        inputs = {shape[1]: torch.randn(rows, shape[1], device=device, dtype=dtype) for shape in shapes}
        rates = [rate * rows * work / 1e9 for rate in at_once(layouts(weights, inputs, rows), workers, device)]
        found[str(rows)] = max(rates)
    spare = {id(weight): weight.numel() for weight in model.parameters()}
    return {"gflops": found, "parameters": sum(spare.values()), "cores": workers}


def layouts(weights: list[Any], inputs: dict[int, Any], rows: int) -> list[Callable[[], Any]]:
    """All products of one pass, in each layout that there is."""
    import torch

    outermost = [weight.t().contiguous().t() for weight in weights]
    made = [weights, outermost]
    passes = [lambda these=these: [torch.nn.functional.linear(inputs[w.shape[1]], w) for w in these] for these in made]
    if weights[0].device.type == "cpu" and torch.backends.mkldnn.is_available():
        packed = [(weight.shape[1], torch.ops.mkldnn._reorder_linear_weight(weight, rows)) for weight in weights]
        product = torch.ops.mkldnn._linear_pointwise
        passes.append(lambda: [product(inputs[n], weight, None, "none", [], "") for n, weight in packed])
    return passes


def at_once(passes: list[Callable[[], Any]], workers: int, device: Any, least: float = 0.5) -> list[float]:
    """Passes a second of all workers together, for each kind of pass."""
    import torch

    def go(one: Callable[[], Any], ready: threading.Barrier, rates: list[float]) -> None:
        with torch.inference_mode():
            one()
            ready.wait()
            done, begun = 0, time.perf_counter()
            while (took := time.perf_counter() - begun) < least:
                one()
                done += 1
                if device.type == "cuda":
                    torch.cuda.synchronize()
        rates.append(done / took)

    totals = []
    for one in passes:
        ready, rates = threading.Barrier(workers), list[float]()
        threads = [threading.Thread(target=go, args=(one, ready, rates)) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        totals.append(sum(rates))
    return totals


def device_of(name: str) -> str:
    import torch

    return name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def dtype_of(name: str, device: Any) -> Any:
    import torch

    return getattr(torch, {"auto": "float32" if device.type == "cpu" else "bfloat16"}.get(name, name))


def make_up(config: str, tokenizer: str, folder: str) -> None:
    """A model folder with weights made up at random, for a machine that can get none."""
    import shutil

    from transformers import AutoConfig, AutoModelForCausalLM

    Path(folder).mkdir(parents=True, exist_ok=True)
    shutil.copy(config, Path(folder, "config.json"))
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).bfloat16().save_pretrained(folder)
    for file in Path(tokenizer).iterdir():
        if file.name.startswith(("tokenizer", "vocab", "merges", "special_tokens", "chat_template", "generation_con")):
            shutil.copy(file, folder)


KINDS = {"pairsmith": pairsmith, "plain": plain, "continuous": continuous, "llamacpp": llamacpp, "ceiling": ceiling}


def main() -> None:
    if sys.argv[1] == "make_up":
        make_up(*sys.argv[2:])
        return
    kind, job = sys.argv[1], Job(**json.loads(sys.stdin.read()))
    found = KINDS[kind](job)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["gpu_mb"] = torch.cuda.max_memory_allocated() / 1e6
    settings = {name: value for name, value in asdict(job).items() if name != "rows"}
    print(json.dumps({**found, "settings": settings}), flush=True)
    os._exit(0)  # servers and workers with no end of their own


if __name__ == "__main__":
    main()

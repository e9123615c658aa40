"""distilabel's side of `local.py`; runs in an environment of its own, without pairsmith.

    python local_distilabel.py < JOB, a line of JSON as `contestants.py` gets it

Uses its TransformersLLM, and for ratings its UltraFeedback task, greedily and with the same limit of new tokens.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


def main() -> None:
    import torch
    from distilabel.models.llms import TransformersLLM
    from distilabel.steps.tasks import UltraFeedback

    job: dict[str, Any] = json.loads(sys.stdin.read())
    torch.set_num_threads(job["threads"])
    cuda = torch.cuda.is_available() and job["device"] != "cpu"
    how = {"max_new_tokens": job["max_tokens"], "do_sample": False, "repetition_penalty": 1.0}
    dtype = {"auto": "bfloat16" if cuda else "float32"}.get(job["dtype"], job["dtype"])
    llm = TransformersLLM(model=job["model"], device="cuda" if cuda else "cpu", torch_dtype=dtype)
    llm.generation_kwargs = how
    rows = job["rows"]
    if job["what"] == "generation":
        llm.load()
        chats = [[{"role": "user", "content": row["prompt"]}] for row in rows]
        llm.generate_outputs(chats[:1], **{**how, "max_new_tokens": 2})
        begun = time.perf_counter()
        made = llm.generate_outputs(chats, **how)
        seconds = time.perf_counter() - begun
        found = {
            "tokens": sum(sum(one["statistics"]["output_tokens"]) for one in made),
            "texts": [one["generations"][0] for one in made],
        }
    else:
        task = UltraFeedback(llm=llm, aspect="overall-rating")
        task.load()
        llm.generate_outputs([[{"role": "user", "content": "Hi"}]], **{**how, "max_new_tokens": 2})
        begun = time.perf_counter()
        (made,) = task.process([{"instruction": row["prompt"], "generations": row["texts"]} for row in rows])
        seconds = time.perf_counter() - begun
        ratings = [rating for one in made for rating in one["ratings"] or []]
        found = {
            "rated": sum(len(row["texts"]) for row in rows),
            "read": sum(rating is not None for rating in ratings),
        }
    settings = {name: value for name, value in job.items() if name != "rows"}
    print(json.dumps({"seconds": seconds, **found, "settings": settings}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()

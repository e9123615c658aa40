"""distilabel's side of `worth.py`; runs in an environment of its own, without pairsmith.

    python worth_distilabel.py BASE_URL

Reads rows with instruction and generations, a line of JSON each, and writes each with what its UltraFeedback task (the
overall rating, greedily) and its FormatTextGenerationDPO make of it: ratings, reply, chosen, rejected.
"""

from __future__ import annotations

import json
import sys
from typing import Any

SECONDS = 900  # for one reply: a busy machine may take long


def main() -> None:
    from distilabel.models import OpenAILLM
    from distilabel.steps import FormatTextGenerationDPO
    from distilabel.steps.tasks import UltraFeedback

    how = {"temperature": 0.0, "max_new_tokens": 512}
    llm = OpenAILLM(model="judge", base_url=sys.argv[1], api_key="none", generation_kwargs=how, timeout=SECONDS)
    task, choice = UltraFeedback(name="judge", llm=llm, aspect="overall-rating"), FormatTextGenerationDPO(name="pairs")
    task.load()
    choice.load()
    for line in sys.stdin:
        row: dict[str, Any] = json.loads(line)
        ((made,),) = task.process([row])
        ratings = made["ratings"] or []
        if len(ratings) != len(row["generations"]):  # a reply in more or fewer parts: which text is meant is lost
            ratings = [None] * len(row["generations"])
        pair: dict[str, Any] = {"chosen": None, "rejected": None}
        if all(rating is not None for rating in ratings):
            ((formatted,),) = choice.process([row | {"ratings": ratings}])
            pair = {side: formatted[side][-1]["content"] for side in pair}
        found = row | {"ratings": ratings, "reply": made["distilabel_metadata"]["raw_output_judge"]} | pair
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from pairsmith.config import Member, Pool, Principles, Source
from pairsmith.generation.pool import completion_requests, drawn, generate, principle_text
from pairsmith.llms.echo import Echo
from pairsmith.sources.prompts import to_prompt
from pairsmith.storage.schemas import frame, rows


def prompt(text: str, **row: Any) -> dict[str, Any]:
    return to_prompt({"prompt": text, **row}, Source(path="x.jsonl"), 10_000)


def member(name: str = "a", **fields: Any) -> Member:
    return Member(name=name, backend="echo", model=f"echo-{name}", **fields)


def test_draws_depend_on_the_prompt_alone() -> None:
    pool = Pool(members=(member("a"), member("b"), member("c"), member("d")), draw=2)
    sizes = {len(drawn(pool, str(n))) for n in range(100)}
    shares = Counter(name for n in range(1000) for name in drawn(pool, str(n)))
    assert sizes == {2}
    assert all(400 < share < 600 for share in shares.values())


def test_members_that_always_answer_stand_beside_those_drawn_and_change_no_draw() -> None:
    before = Pool(members=(member("a"), member("b"), member("c"), member("d")), draw=2)
    pool = Pool(members=(*before.members, member("weak")), draw=2, always=("weak",))
    assert all(drawn(pool, str(n)) == drawn(before, str(n)) | {"weak"} for n in range(100))
    prompts = [prompt(f"Question {n}?") for n in range(20)]
    for one in before.members:
        assert completion_requests(prompts, pool, one) == completion_requests(prompts, before, one)
    assert len(completion_requests(prompts, pool, pool.member("weak"))) == 20


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"always": ("b",)}, "goes with pool.draw"),
        ({"draw": 1, "always": ("weak",)}, "pool.always: there is no weak"),
        ({"draw": 1, "always": ("a", "a")}, "more than once"),
        ({"draw": 2, "always": ("a",)}, "pool.draw is 2 but there are 1 members beside those of pool.always"),
    ],
)
def test_members_that_always_answer_are_known_and_not_drawn(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Pool(members=(member("a"), member("b")), **settings)


def test_order_and_company_change_nothing() -> None:
    prompts = [prompt(f"Question {n}?") for n in range(20)]
    pool = Pool(members=(member("a", samples=2), member("b")), draw=1)
    forward = {item.request for item in map(_hashable, completion_requests(prompts, pool, pool.members[0]))}
    backward = {item.request for item in map(_hashable, completion_requests(prompts[::-1], pool, pool.members[0]))}
    alone = {_hashable(item).request for p in prompts for item in completion_requests([p], pool, pool.members[0])}
    assert forward == backward == alone


class _hashable:
    def __init__(self, planned: Any) -> None:
        self.request = planned.request.key(Echo(member()).identity)


def test_system_prompts_add_up() -> None:
    asked = completion_requests(
        [prompt("Hi", system_prompt="Own.")], Pool(members=(member(),)), member(system_prompt="Member's.")
    )
    assert asked[0].request.messages[0] == {"role": "system", "content": "Own.\n\nMember's."}
    assert (
        completion_requests([prompt("Hi")], Pool(members=(member(),)), member())[0].request.messages[0]["role"]
        == "user"
    )


def test_principles_follow_the_weights_of_the_source() -> None:
    principles = Principles(weights={"default": {"helpfulness": 1.0}, "tqa": {"truthfulness": 3.0, "honesty": 1.0}})
    default = {principle_text(principles, "web", n) for n in range(50)}
    tqa = Counter(principle_text(principles, "tqa", n) for n in range(2000))
    assert len(default) == 3
    assert len(tqa) == 6
    assert not default & set(tqa)
    common = sum(sorted(tqa.values())[-3:])
    assert 1400 < common < 1600


def test_every_answer_is_kept_with_its_trouble() -> None:
    texts = ("fine", "[echo: fail]", "[echo: empty]", "[echo: long]")
    table = rows(
        generate(frame("prompts", [prompt(t) for t in texts]), Pool(members=(member(),)), member(), Echo(member()))
    )
    assert [row["error"] for row in table] == [None, "failed: echo was told to fail", "empty", None]
    assert [row["finish_reason"] for row in table] == ["stop", None, "stop", "length"]
    assert table[0]["n_tokens"] > 0


def test_samples_differ() -> None:
    sampled = member(samples=3)
    table = rows(generate(frame("prompts", [prompt("x")]), Pool(members=(sampled,)), sampled, Echo(sampled)))
    assert len({row["text"] for row in table}) == 3
    with pytest.raises(ValueError, match="would all be the same"):
        member(samples=2, sampling={"temperature": 0})

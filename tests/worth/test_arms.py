"""What an arm is trained on, what is held out, and which fingerprint names its result."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairsmith.worth.arms import Arm, Pair, Settings, arm_fingerprint, arms_of, divided, is_held_out, pair_of, shuffled

MADE_BY = {"model": "m", "device": "cpu", "trl": "1"}


def pair(number: int, answer: str = "yes") -> Pair:
    """A pair of its own prompt."""
    chats = (
        [{"role": "user", "content": f"Question {number}"}],
        *([{"role": "assistant", "content": text}] for text in (answer, "no")),
    )
    return pair_of({"prompt_id": f"p{number}", **dict(zip(("prompt", "chosen", "rejected"), chats, strict=True))})


PAIRS = [pair(number) for number in range(40)]


@given(st.permutations(PAIRS), st.integers(0, 40))
def test_which_pairs_are_held_out_hangs_on_their_prompts_alone(some: list[Pair], many: int) -> None:
    train, held = divided(some[:many], 100)
    assert {one.name for one in train} | {one.name for one in held} == {one.name for one in some[:many]}
    assert all(is_held_out(one.prompt_id) for one in held)
    assert not any(is_held_out(one.prompt_id) for one in train)
    whole, _ = divided(PAIRS, 100)
    assert [one.name for one in whole if one in train] == [one.name for one in train]


def test_nothing_is_trained_on_a_prompt_that_checks_ask_and_a_repeated_pair_counts_once() -> None:
    train, held = divided(PAIRS, 100)
    again, same = divided([*PAIRS, *PAIRS], 200, {train[0].prompt_id, held[0].prompt_id})
    assert again == train[1:]
    assert same == held


@given(st.integers(0, 9))
def test_the_control_has_the_same_pairs_with_half_of_the_sides_changed(seed: int) -> None:
    changed = [one != other for one, other in zip(shuffled(PAIRS, seed), PAIRS, strict=True)]
    assert sum(changed) == len(PAIRS) // 2
    assert {one.prompt_id for one in shuffled(PAIRS, seed)} == {one.prompt_id for one in PAIRS}
    assert shuffled(PAIRS, seed) == shuffled(PAIRS, seed)
    assert shuffled(PAIRS, seed) != shuffled(PAIRS, seed + 1)


def test_more_seeds_leave_earlier_arms_as_they_are() -> None:
    few, many = (arms_of({"a": PAIRS, "b": PAIRS[:9]}, seeds) for seeds in (1, 3))
    assert many[: len(few)] == few
    assert [arm.name for arm in few] == [
        "untrained",
        *(f"{name}, seed 0" for name in ("a", "a, sides shuffled", "b", "b, sides shuffled")),
    ]


@pytest.mark.parametrize("name", [field.name for field in fields(Settings) if field.name != "pairs"])
def test_a_fingerprint_changes_with_each_setting(name: str) -> None:
    arm, settings = Arm("a", False, 0, tuple(PAIRS)), Settings()
    other = replace(settings, **{name: getattr(settings, name) + 1})
    assert arm_fingerprint(arm, settings, MADE_BY, "x") != arm_fingerprint(arm, other, MADE_BY, "x")


def test_a_fingerprint_changes_with_all_that_decides_the_result_and_with_nothing_else() -> None:
    arm, settings = Arm("a", False, 0, tuple(PAIRS)), Settings()
    first = arm_fingerprint(arm, settings, MADE_BY, "x")
    others = [
        *(arm_fingerprint(arm, settings, {**MADE_BY, name: "other"}, "x") for name in MADE_BY),
        arm_fingerprint(arm, settings, MADE_BY, "y"),
        *(arm_fingerprint(other, settings, MADE_BY, "x") for other in (
            replace(arm, seed=1), replace(arm, pairs=arm.pairs[1:]), replace(arm, pairs=arm.pairs[::-1]),
            replace(arm, pairs=(pair(0, "Yes"), *arm.pairs[1:])), replace(arm, pairs=shuffled(PAIRS, 0)),
            replace(arm, pairs=()),
        )),
    ]  # fmt: skip
    assert len({first, *others}) == len(others) + 1
    assert arm_fingerprint(replace(arm, data="b"), settings, MADE_BY, "x") == first


def test_the_untrained_model_is_the_same_whatever_is_trained() -> None:
    arm = Arm("", False, 0, ())
    one, other = (
        arm_fingerprint(arm, settings, MADE_BY, "x") for settings in (Settings(), Settings(epochs=3, pairs=9))
    )
    assert one == other

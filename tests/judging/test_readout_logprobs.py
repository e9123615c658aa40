from __future__ import annotations

import math

import pytest

from pairsmith.judging.readout_logprobs import read_logprobs
from pairsmith.judging.readouts import NOT_APPLICABLE, Sheet
from pairsmith.protocol import Reply
from tests.judging.sheets import ONE


def test_logprobs_give_the_mode_and_the_mean() -> None:
    logprobs = {str(n): math.log(p) for n, p in enumerate((0.1, 0.1, 0.1, 0.5, 0.2), start=1)}
    found = read_logprobs(Reply("4 - Well done.", logprobs=logprobs), ONE)
    assert (found.rating, found.rationale) == (4, "Well done.")
    assert found.score == pytest.approx(3.6)
    assert read_logprobs(Reply("4", logprobs=logprobs), ONE).rationale is None
    nan = Reply("4", logprobs=logprobs | {"2": math.nan})
    assert read_logprobs(nan, ONE).rating is None
    assert read_logprobs(Reply("4"), ONE).rating is None


def test_logprobs_not_applicable() -> None:
    may = Sheet(ONE.texts, ONE.scale, True)
    logprobs = dict.fromkeys("12345", math.log(0.1)) | {"N": math.log(0.5)}
    assert read_logprobs(Reply("N", logprobs=logprobs), may).error == NOT_APPLICABLE

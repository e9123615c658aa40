"""A data set of the hub that is not there, or a hub that cannot be reached, is said at once and in words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import tenacity
from huggingface_hub import constants

from pairsmith.config import Source
from pairsmith.errors import DataError, RunError
from pairsmith.sources import hub
from pairsmith.sources.readers import read_source
from tests.hub import Hub, serving


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(hub, "_WAIT", tenacity.wait_none())
    with serving() as made:
        monkeypatch.setattr(constants, "ENDPOINT", made.url)
        yield made


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (404, "RepoNotFound", "no file or folder is called so, and the hub has no such data set, or it is private"),
        (401, "RepoNotFound", "the hub has no such data set, or it is private"),
        (404, "RevisionNotFound", "data set me/pairs: the hub has it, but no revision v7"),
        (403, "", "data set me/pairs: the hub answered 403"),
    ],
)
def test_an_answer_that_stays_is_not_asked_for_again(answering: Hub, status: int, code: str, told: str) -> None:
    answering.always = status, code
    with pytest.raises(DataError) as raised:
        list(read_source(Source(path="me/pairs", revision="v7"), {}))
    assert told in str(raised.value)
    assert len(answering.asked) < hub._TRIES  # the hub's library asks twice for what it does not find


@pytest.mark.parametrize("status", [503, 429])
def test_an_answer_that_passes_is_asked_for_again(answering: Hub, status: int) -> None:
    answering.always = status, ""
    with pytest.raises(RunError, match=rf"^data set me/pairs: .* the hub cannot be reached \(it answered {status}\)$"):
        hub.must_have("me/pairs", None)
    assert len(answering.asked) == hub._TRIES
    answering.always = 200, ""
    hub.must_have("me/pairs", None)


def test_a_hub_that_is_not_there_is_told_without_the_words_of_its_library(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hub, "_WAIT", tenacity.wait_none())
    with serving() as gone:
        monkeypatch.setattr(constants, "ENDPOINT", gone.url)
    with pytest.raises(RunError, match="the hub cannot be reached"):
        list(read_source(Source(path="me/pairs"), {}))
    assert not caplog.records


@pytest.mark.parametrize("name", ["no such file", "a/b/c"])
def test_what_cannot_be_a_data_set_of_the_hub_is_said_to_be_none(answering: Hub, name: str) -> None:
    with pytest.raises(DataError, match="and no data set of the hub can be"):
        list(read_source(Source(path=name), {}))
    assert not answering.asked


def test_a_hub_that_may_not_be_asked_is_named_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="HF_HUB_OFFLINE is set"):
        hub.must_have("me/pairs", None)

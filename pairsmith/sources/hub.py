"""Whether the Hugging Face hub has a data set, asked before it is opened: `datasets` takes half a minute and a dozen
lines to say that it cannot reach the hub."""

from __future__ import annotations

import tenacity

from pairsmith.errors import DataError, RunError
from pairsmith.storage.hub_answers import Lack, why_not

_SECONDS = 10.0  # for one answer
_TRIES = 3
_WAIT = tenacity.wait_exponential(1)
_NOT_HERE = "no file or folder is called so"
_LASTING = {
    Lack.NO_ID: f"{_NOT_HERE}, and no data set of the hub can be",
    Lack.NO_REPOSITORY: f"{_NOT_HERE}, and the hub has no such data set, or it is private: look at how it is written, "
    "or set HF_TOKEN",
    Lack.NO_REVISION: "the hub has it, but no revision {revision}",
    Lack.STATUS: "the hub answered {status}, {words}",
    Lack.OFFLINE: f"{_NOT_HERE}, and {{words}}",
}


class _Passing(Exception):
    """The hub gave no answer that would stay."""


def must_have(name: str, revision: str | None) -> None:
    """Raises DataError where the hub has no such data set or revision, RunError where it cannot be reached."""
    tries = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(_TRIES),
        wait=_WAIT,
        retry=tenacity.retry_if_exception_type(_Passing),
        reraise=True,
    )
    try:
        tries(_ask, name, revision)
    except _Passing as error:
        raise RunError(f"data set {name}: {_NOT_HERE}, and the hub cannot be reached ({error})") from None


def _ask(name: str, revision: str | None) -> None:
    from huggingface_hub import HfApi

    try:
        HfApi().dataset_info(name, revision=revision, timeout=_SECONDS)
    except Exception as error:
        why = why_not(error)
        if why.lack is Lack.UNREACHED:
            raise _Passing(why.words) from None
        if why.lack is Lack.STATUS and (why.status >= 500 or why.status == 429):
            raise _Passing(f"it answered {why.status}") from None
        told = _LASTING[why.lack].format(revision=revision, status=why.status, words=why.words)
        raise DataError(f"data set {name}: {told}") from None

"""Whether the Hugging Face hub has a data set, asked before it is opened: `datasets` takes half a minute and a dozen
lines to say that it cannot reach the hub."""

from __future__ import annotations

import tenacity

from pairsmith.errors import DataError, RunError

_SECONDS = 10.0  # for one answer
_TRIES = 3
_WAIT = tenacity.wait_exponential(1)


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
        raise RunError(
            f"data set {name}: no file or folder is called so, and the hub cannot be reached ({error})"
        ) from None


def _ask(name: str, revision: str | None) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        HfApi().dataset_info(name, revision=revision, timeout=_SECONDS)
    except HFValidationError:
        raise DataError(f"data set {name}: no file or folder is called so, and no data set of the hub can be") from None
    except RepositoryNotFoundError:
        raise DataError(
            f"data set {name}: no file or folder is called so, and the hub has no such data set, or it is private: "
            "look at how it is written, or set HF_TOKEN"
        ) from None
    except RevisionNotFoundError:
        raise DataError(f"data set {name}: the hub has it, but no revision {revision}") from None
    except OfflineModeIsEnabled:
        raise DataError(f"data set {name}: no file or folder is called so, and HF_HUB_OFFLINE is set") from None
    except HfHubHTTPError as error:
        if error.response.status_code < 500 and error.response.status_code != 429:
            raise DataError(f"data set {name}: the hub answered {error.response.status_code}, {_line(error)}") from None
        raise _Passing(f"it answered {error.response.status_code}") from None
    except Exception as error:  # no network: each library below the hub's raises its own
        raise _Passing(_line(error)) from None


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0][:200].rstrip(".")

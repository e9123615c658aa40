"""Why the Hugging Face hub did not give what it was asked for, by the errors of its library and of those below it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Lack(Enum):
    """What stood in the way."""

    NO_ID = auto()  # it cannot be the id of a repository
    NO_REPOSITORY = auto()  # nothing of this id, or it is private
    NO_REVISION = auto()
    STATUS = auto()  # the hub answered with a status that is none of these
    OFFLINE = auto()  # HF_HUB_OFFLINE is set
    UNREACHED = auto()


@dataclass(frozen=True)
class Why:
    """`status`: of the hub's answer, 0 where there was none; `words`: the error's first line."""

    lack: Lack
    status: int
    words: str


def why_not(error: Exception) -> Why:
    """What an error says that came of asking the hub. Without a network each library below the hub's raises its own."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    kinds = {
        HFValidationError: Lack.NO_ID,
        RepositoryNotFoundError: Lack.NO_REPOSITORY,
        RevisionNotFoundError: Lack.NO_REVISION,
        HfHubHTTPError: Lack.STATUS,
        OfflineModeIsEnabled: Lack.OFFLINE,
    }
    lack = next((lack for kind, lack in kinds.items() if isinstance(error, kind)), Lack.UNREACHED)
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    line = (str(error) or type(error).__name__).strip().splitlines()[0][:200].rstrip(".")
    return Why(lack, status, "HF_HUB_OFFLINE is set" if lack is Lack.OFFLINE else line)

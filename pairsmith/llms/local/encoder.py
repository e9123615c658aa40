"""A sentence model in this process: text -> vector, for `pairing.similarity`.

The vector is the mean of the token embeddings, of length 1 (Reimers and Gurevych 2019, https://arxiv.org/abs/1908.10084).
Each text runs by itself, so no other text of a batch can change its vector. A text longer than the model's context runs
in parts, and all their tokens count alike, so its end is not left out.
"""

from __future__ import annotations

import base64
import math
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pairsmith.config import Encoder
from pairsmith.errors import ConfigError, ModelNotFound
from pairsmith.llms.local.named_weights import load_revision, located
from pairsmith.llms.local.weights import load_whole
from pairsmith.protocol import Finished, Identity, Reply, Request
from pairsmith.session import Session

_AT_A_TIME = 32  # texts whose vectors are recorded together
_MOST_TOKENS = 512  # of a part, if neither model nor tokenizer names a limit


class SentenceEncoder:
    """The backend. A reply's text is the vector, `packed`. Tokens are not counted, since they cost nothing."""

    def __init__(self, spec: Encoder, session: Session) -> None:
        self._path, self.identity = located(spec.model, spec.revision).path, encoder_identity(spec)
        self._spec, self._session = spec, session

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        name = (self._path, self.identity.revision, self._spec.device)
        model = self._session.keep(("encoder", *name), lambda: _Model(*name))
        for start in range(0, len(requests), _AT_A_TIME):
            part = requests[start : start + _AT_A_TIME]
            vectors = [model.vector(request.messages[-1]["content"]) for request in part]
            yield [(start + n, Reply(packed(vector), "stop")) for n, vector in enumerate(vectors)]


def encoder_identity(spec: Encoder) -> Identity:
    """Which model a recipe names for `pairing.similarity`. Loads nothing."""
    return Identity("encoder", spec.model, located(spec.model, spec.revision).revision)


class _Model:
    """Loaded weights and tokenizer; one text at a time."""

    def __init__(self, path: str, revision: str | None, device: str) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        name = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cpu":
            torch.set_num_threads(1)
        common: dict[str, Any] = {"revision": load_revision(path, revision)}
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(path, **common)
            model = load_whole(AutoModel, path, "sentence model", spare="pooler", dtype=torch.float32, **common)
        except (OSError, ValueError) as error:
            raise ModelNotFound(f"{path}: cannot be loaded: {str(error).splitlines()[0]}") from error
        self._model: Any = model.to(name).eval()
        self._device, self._running = name, threading.Lock()
        limits = (getattr(model.config, "max_position_embeddings", None), self._tokenizer.model_max_length)
        self._most = min((limit for limit in limits if limit and limit < 10**6), default=_MOST_TOKENS)

    def vector(self, text: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        import torch

        cut = {"truncation": True, "max_length": self._most, "return_overflowing_tokens": True}
        parts = self._tokenizer(text, **cut)["input_ids"]
        total, count = 0.0, 0
        with self._running, torch.inference_mode():
            for part in parts:
                ids = torch.tensor([part], device=self._device)
                states = self._model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
                total, count = total + states.double().sum(dim=0), count + len(states)
        mean = (total / count).cpu().numpy()  # type: ignore[attr-defined]
        length = float(np.linalg.norm(mean))
        if not math.isfinite(length) or length == 0:
            raise ConfigError(f"{self._model.config.name_or_path}: gives no usable vector for a text")
        return np.asarray(mean / length, dtype=np.float32)


def packed(vector: np.ndarray[Any, np.dtype[np.float32]]) -> str:
    """A vector as text: float32, little-endian, base64."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()

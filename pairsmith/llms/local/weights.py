"""Weights and tokenizers: loaded once in a session, shared by all models that name them, freed to make room."""

from __future__ import annotations

import json
import logging
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pairsmith.config import LocalOptions, ModelSpec
from pairsmith.errors import ConfigError, ModelNotFound
from pairsmith.llms.local.chat_tokens import encode
from pairsmith.llms.local.machine import cpu_layout, free_memory
from pairsmith.llms.local.named_weights import load_revision
from pairsmith.memory import give_back
from pairsmith.protocol import Message
from pairsmith.session import Session

log = logging.getLogger(__name__)
W = TypeVar("W", bound="Weights")
T = TypeVar("T")


class Shelf:
    """The weights that a session has loaded. Idle ones are dropped to make room for others."""

    def __init__(self) -> None:
        self.loaded: dict[tuple[Any, ...], Weights] = {}  # ordered by last use
        self._loading = threading.Lock()

    def take(self, kind: type[W], path: str, spec: ModelSpec) -> W:
        """The weights that `spec` names, as a `kind`."""
        options = spec.local
        name = (path, spec.revision, options.device, options.dtype, options.trust_remote_code, options.memory_gb, kind)
        with self._loading:
            found = self.loaded.pop(name, None)
            if found is None:
                self._make_room(path, options)
                found = kind(path, spec.revision, options)
            self.loaded[name] = found
            return cast("W", found)

    def _make_room(self, path: str, options: LocalOptions) -> None:
        """Drop idle weights, those used longest ago first, until the new ones fit in memory."""
        needed, device = 1.2 * _size_of(path, dtype_for(device_for(options.device), options.dtype)), None
        for name, weights in list(self.loaded.items()):
            device = device or device_for(options.device)
            if free_memory(device) >= needed:
                return
            if weights.device == device and weights.is_idle:
                log.info("%s: let go to make room for %s", name[0], path)
                del self.loaded[name], weights
                free_unused_memory(device)

    def clear(self) -> None:
        """Drop all weights, and give their memory back."""
        devices = {weights.device for weights in self.loaded.values()}
        self.loaded.clear()
        for device in devices:
            free_unused_memory(device)


def shelf_of(session: Session) -> Shelf:
    """The shelf of a session, which drops its weights when the session is closed."""
    return session.keep("weights", Shelf, Shelf.clear)


def free_unused_memory(device: Any) -> None:
    """Give memory that nothing refers to any more back to the system and the device."""
    import torch

    give_back()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _size_of(path: str, dtype: Any) -> float:
    """Bytes that the weights in a folder take in memory; 0 where the path is no folder."""
    import torch

    files = [file for pattern in ("*.safetensors", "*.bin") for file in Path(path).glob(pattern)]
    if not files or not Path(path, "config.json").exists():
        return 0
    config = json.loads(Path(path, "config.json").read_text(encoding="utf-8"))
    stored = getattr(torch, str(config.get("dtype") or config.get("torch_dtype")), torch.float32)
    return sum(file.stat().st_size for file in files) * float(dtype.itemsize) / float(stored.itemsize)


def device_for(name: str) -> Any:
    import torch

    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda:0")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def dtype_for(device: Any, name: str) -> Any:
    import torch

    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    return getattr(torch, name)


def load_whole(kind: Any, path: str, what: str, spare: str | None = None, **options: Any) -> Any:
    """A model from its files. ConfigError where they lack weights, which transformers would fill with random numbers.

    `what` the model is, for the error; `spare`: a part of the names of weights that are not needed.
    """
    model, loaded = kind.from_pretrained(path, output_loading_info=True, **options)
    missing = sorted(key for key in loaded["missing_keys"] if spare is None or spare not in key)
    if missing:
        raise ConfigError(f"{path}: no {what}: it lacks the weights {', '.join(missing[:5])}")
    return model


class Lane:
    """The queue for a device, shared by all models on it: one pass at a time, on a CPU `width` passes."""

    def __init__(self, width: int) -> None:
        self.width, self.waiting = width, 0
        self._pool = ThreadPoolExecutor(width)
        self._lock = threading.Lock()

    def submit(self, work: Callable[..., T], *parts: Any) -> Future[T]:
        with self._lock:
            self.waiting += 1
        return self._pool.submit(self._begin, work, *parts)

    def _begin(self, work: Callable[..., T], *parts: Any) -> T:
        with self._lock:
            self.waiting -= 1
        return work(*parts)


@cache
def lane_of(device: Any) -> Lane:
    """The lane of a device, of which this process has one."""
    import torch

    if device.type != "cpu":
        return Lane(1)
    replicas, threads = cpu_layout()
    torch.set_num_threads(threads)
    return Lane(replicas)


class Weights(ABC):
    """A model with its tokenizer on a device."""

    def __init__(self, path: str, revision: str | None, options: LocalOptions) -> None:
        from transformers import AutoTokenizer
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        self.device, self.options = device_for(options.device), options
        self.lane = lane_of(self.device)
        self._lock, self._users = threading.Lock(), 0
        dtype = dtype_for(self.device, options.dtype)
        common = {
            "revision": load_revision(path, revision),
            "trust_remote_code": options.trust_remote_code,
        }
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(path, padding_side="left", **common)
            self.model: Any = self._load(path, dtype=dtype, **common)
        except (OSError, ValueError) as error:
            problem = str(error).splitlines()[0].rstrip(".")
            raise ModelNotFound(f"{path}: cannot be loaded: {problem}") from error
        self.model.to(self.device).eval()
        self.context = getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or math.inf
        self._prepare()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the weights from being dropped while the block runs."""
        with self._lock:
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1

    @property
    def is_idle(self) -> bool:
        """Whether nothing uses the weights at this moment."""
        return self._users == 0

    @abstractmethod
    def _load(self, path: str, **options: Any) -> Any:
        """The model from its files."""

    @abstractmethod
    def _prepare(self) -> None:
        """Set up what the model needs, once it is loaded and on its device."""

    def encode(self, messages: Sequence[Message], answered: bool = False) -> list[int]:
        """Token ids of a chat, with the prompt for an answer behind them unless it is `answered` already."""
        return encode(self.tokenizer, messages, answered)

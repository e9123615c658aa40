"""Memory of this process, and what tells it on systems that have neither /proc nor the module `resource`."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

from pairsmith.llms.local import machine
from pairsmith.llms.local.machine import free_memory, peak_memory, used_memory

CPU = torch.device("cpu")


def test_the_peak_is_kept_when_memory_is_freed() -> None:
    block = np.ones(max(0, peak_memory() - used_memory(CPU)) + 64_000_000, np.uint8)
    held = used_memory(CPU)
    del block
    assert used_memory(CPU) < held - 50_000_000
    assert held - 10_000_000 < peak_memory() < held + 10_000_000


def test_a_system_without_the_module_resource_has_a_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=5_000_000))
    monkeypatch.setattr(psutil, "Process", lambda: process)
    assert peak_memory() == 5_000_000


def test_the_limit_of_a_container_bounds_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"/sys/fs/cgroup/memory.max": 3_000_000, "/sys/fs/cgroup/memory.current": 1_000_000}
    monkeypatch.setattr(machine, "_number_in", lambda name, _: files[name])
    assert free_memory(CPU) == 2_000_000
    monkeypatch.setattr(machine, "_number_in", lambda _, otherwise: otherwise)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=7_000_000))
    assert free_memory(CPU) == 7_000_000

"""What tests share: recipes of the echo backend, rows, and the paths of optional data and models."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pairsmith.config import Recipe
from pairsmith.recipes import parse_recipe

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("PAIRSMITH_TEST_DATA", ROOT.parent / "shared" / "data"))
MODELS = {
    "smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "qwen": "Qwen/Qwen2.5-Coder-0.5B-Instruct",
}


def shared(name: str) -> Path:
    """A file of the optional test data; the test is skipped where it is absent."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"optional test data not found: {path} (set PAIRSMITH_TEST_DATA)")
    return path


def model_id(name: str) -> str:
    """A default model; the test is skipped where `make models` has not fetched it."""
    from pairsmith.llms.models import stored_at

    if not stored_at(MODELS[name]).exists():
        pytest.skip(f"{MODELS[name]} is not in the model store; `make models` fetches it")
    return MODELS[name]


@pytest.fixture
def prompts_file(tmp_path: Path) -> Callable[[int], Path]:
    """Writes a JSONL file of n prompts and returns its path."""

    def write(count: int, name: str = "prompts.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(f'{{"prompt": "Question {n}?"}}\n' for n in range(count)))
        return path

    return write


@pytest.fixture
def echo_recipe(tmp_path: Path, prompts_file: Callable[[int], Path]) -> Callable[..., Recipe]:
    """Builds a recipe of the echo backend over n prompts, with changes given as a nested dict."""

    def build(count: int = 12, **changes: Any) -> Recipe:
        data = yaml.safe_load((ROOT / "recipes" / "echo.yaml").read_text())
        data["prompts"] = {"sources": [{"path": str(prompts_file(count))}]}
        data["workspace"] = str(tmp_path / "data")
        return parse_recipe(_merge(data, changes), base=tmp_path)

    return build


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A temporary Prefect server and database for the session."""
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


def _merge(base: Any, changes: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    return base | {key: _merge(base.get(key), value) for key, value in changes.items()}

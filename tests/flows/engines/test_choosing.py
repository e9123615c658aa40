"""Engines by their names, and what is said at once where there can be no run on one."""

from __future__ import annotations

from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from pairsmith.config import Recipe
from pairsmith.errors import ConfigError, RunError
from pairsmith_flows.__main__ import main
from pairsmith_flows.engines.choosing import kind_of, require_engine
from tests.engines import require

Build = Callable[..., Recipe]


@pytest.mark.parametrize(
    ("name", "kind", "address"),
    [
        ("threads", "threads", None), ("dask", "dask", None), ("dask://host:8786", "dask", "host:8786"),
        ("ray", "ray", None), ("ray://host:10001", "ray", "host:10001"),
    ],
)  # fmt: skip
def test_an_engine_has_a_name_and_perhaps_an_address(name: str, kind: str, address: str | None) -> None:
    assert kind_of(name) == (kind, address)


@pytest.mark.parametrize("name", ["", "spark", "dask://", "threads://host", "Dask", "tcp://host:8786"])
def test_another_name_is_no_engine(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^--on {name}: no such engine; there are threads, dask, dask://HOST:PORT, "):
        kind_of(name)


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    real = util.find_spec
    monkeypatch.setattr(
        util, "find_spec", lambda name, *more: None if name.startswith("prefect_") else real(name, *more)
    )


@pytest.mark.usefixtures("absent")
@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_an_engine_that_is_not_installed_is_named_with_its_extra(
    echo_recipe: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def end(_: bool) -> None:
        raise RunError("now Prefect would start")

    monkeypatch.setattr("pairsmith_flows.cli.running.prepare_prefect", end)
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(echo_recipe(2).model_dump(mode="json", exclude_defaults=True)))
    for command in ("run", "rate", "pair"):
        words: list[tuple[list[str], dict[str, str]]] = [(["--on", kind], {}), ([], {"PAIRSMITH_ON": kind})]
        for more, env in words:
            told = CliRunner().invoke(main, [command, str(file), *more], env=env)
            assert told.exit_code == 2, told.output
            assert f"--on {kind}: {kind} is not installed; install pairsmith[{kind}]" in told.output
    assert "now Prefect would start" in CliRunner().invoke(main, ["run", str(file)]).output


def test_batches_are_gathered_in_one_process_and_so_need_threads(echo_recipe: Build) -> None:
    require("dask")
    where: dict[str, Any] = {"base_url": "http://127.0.0.1:9/v1", "api_key_env": None, "mode": "batch"}
    member = {"name": "a", "backend": "openai", "model": "a", "samples": 2, "endpoint": where}
    recipe = echo_recipe(2, pool={"members": [member]}, evolution=None)
    require_engine("threads", recipe)
    with pytest.raises(ConfigError, match="--on dask: `endpoint.mode: batch` .*; run it on threads"):
        require_engine("dask", recipe)

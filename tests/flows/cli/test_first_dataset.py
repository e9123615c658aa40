"""The path of README's "Your own prompts, step by step", as somebody walks it who has read nothing else.

Their file has an odd layout, they make a typing error, and their endpoint is not up at first. Each message has to say
enough for the next step.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pairsmith import Dataset
from tests.command_line import cli
from tests.conftest import ROOT, clean_environment
from tests.service import free_port

README = (ROOT / "README.md").read_text()
STEPS = README.partition("## Your own prompts, step by step")[2].partition("\n## ")[0]
FILE = "Frage;Kontext;id\nWarum schnurren Katzen?;Biologie, 5. Klasse;k1\nWie macht man Brot?;;b1\nWas ist Ebbe?;;e1\n"

pytestmark = pytest.mark.prefect


@contextmanager
def endpoint_at(port: int) -> Iterator[None]:
    """What README calls `python -m pairsmith.testing --port 8000`."""
    command = [sys.executable, "-m", "pairsmith.testing", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clean_environment()) as server:
        assert server.stdout is not None
        assert str(port) in server.stdout.readline()
        try:
            yield
        finally:
            server.terminate()


def test_from_a_file_of_ones_own_to_a_first_data_set(tmp_path: Path, prefect_api: dict[str, str]) -> None:
    def typed(command: str, code: int = 0) -> str:
        ended = cli(*command.removeprefix("pairsmith ").split(), cwd=tmp_path, **prefect_api)
        assert ended.returncode == code, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    port = free_port()
    commands = re.findall(r"^(pairsmith .*?)(?: {2,}#.*)?$", STEPS, re.MULTILINE)
    validate, check, dry_run, preview, limited, run, show = commands
    (recipe,) = re.findall(r"^```yaml\n(.*?)^```$", STEPS, re.DOTALL | re.MULTILINE)
    recipe = recipe.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    (tmp_path / "faq.csv").write_text(FILE)

    told = typed("pairsmith inspect faq.csv", 1)
    assert "3 rows, 0 prompts" in told
    assert "the row has Frage, Kontext, id; name its prompt in columns" in told

    (tmp_path / "faq.yaml").write_text(recipe.replace("members:", "member:  "))
    told = typed(validate, 2)
    assert "line 8: pool.member: there is no such field" in told
    assert "did you mean members?" in told
    (tmp_path / "faq.yaml").write_text(recipe)
    assert "a valid recipe" in typed(validate)

    told = typed(check, 2)
    assert f"127.0.0.1:{port}" in told
    assert "refused" in told
    told = typed(run, 2)
    assert f"127.0.0.1:{port}" in told
    assert not (tmp_path / "pairsmith-data" / "faq" / "versions").exists()

    with endpoint_at(port):
        typed(check)
        assert "3 prompts" in typed(dry_run)
        told = typed(preview)
        assert "Warum schnurren Katzen?" in told
        told = typed(limited.replace("50", "2"))
        assert "pairsmith-data/faq/preview" in told
        assert not (tmp_path / "pairsmith-data" / "faq" / "latest").exists()
        told = typed(run)
        assert "v0001" in told
    assert "Warum schnurren Katzen?" in typed(show)
    pairs = Dataset(tmp_path / "pairsmith-data" / "faq").pairs()
    assert {"k1", "b1", "e1"} >= set(pairs["id"]) != set()

"""F1: kill -9 in the middle, run again: the same data set, and no reply asked for twice beyond those in flight."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from pairsmith.config import Recipe
from tests.conftest import ROOT
from tests.runs import run

Build = Callable[..., Recipe]

# A run in a process of its own, whose model notes every request that reaches it and takes a moment to answer.
CHILD = """
import json, sys, time
from pathlib import Path
from pairsmith.config import Recipe
from pairsmith.llms import echo
from tests.runs import run

journal = open(sys.argv[2], "a", buffering=1)
real = echo.Echo.answer

def noted(self, request):
    journal.write(request.key(self.identity) + "\\n")
    time.sleep(0.002)
    return real(self, request)

echo.Echo.answer = noted
run(Recipe.model_validate_json(Path(sys.argv[1]).read_text()))
"""


def start(recipe: Recipe, folder: Path) -> subprocess.Popen[bytes]:
    (folder / "recipe.json").write_text(recipe.model_dump_json())
    command = [sys.executable, "-c", CHILD, str(folder / "recipe.json"), str(folder / "journal")]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)


def test_f1_kills_lose_nothing_and_repeat_only_what_was_in_flight(echo_recipe: Build, tmp_path: Path) -> None:
    expected, _, calls = run(echo_recipe(60, name="undisturbed", ledger=f"sqlite:///{tmp_path}/other.sqlite"))
    recipe = echo_recipe(60, name="killed", shard_size=16)
    journal, kills, rng = tmp_path / "journal", 0, random.Random(7)
    journal.touch()
    while True:
        process = start(recipe, tmp_path)
        before = journal.stat().st_size
        while process.poll() is None and journal.stat().st_size <= before:
            time.sleep(0.01)
        try:
            process.wait(rng.uniform(0.02, 0.35))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            kills += 1
        _, stderr = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), stderr.decode()
        if process.returncode == 0:
            break
    asked = Counter(journal.read_text().splitlines())
    published, _, more = run(recipe)
    assert kills >= 3, "the run was too fast to be killed"
    assert published.digest == expected.digest
    assert not more
    assert len(asked) == sum(calls.values())
    assert sum(asked.values()) - len(asked) <= kills  # one request is in flight at a time
    assert json.loads(Path(published.folder, "version.json").read_text())["version"] == "v0001"

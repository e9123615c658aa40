"""Runs in processes of their own, to be killed at any point or made to kill themselves at a certain step.

Children are forked from one process that has imported everything already. The model is a `FakeEndpoint` of the test's
process, so what was asked is known whatever becomes of a child.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow.parquet as pq
import yaml
from sqlalchemy.engine.default import DefaultDialect

from pairsmith.config import Publishing, Recipe
from pairsmith.ids import fingerprint
from pairsmith.ledger.ledger import open_ledger
from pairsmith.ledger.replies import Replies
from pairsmith.publishing.pair_rows import content_digest
from pairsmith.session import process_session
from pairsmith.stages.base import open_store
from pairsmith.storage.fence import Fence
from pairsmith.storage.store import Store
from pairsmith.testing import FakeEndpoint
from tests.command_line import forkserver
from tests.conftest import ROOT, clean_environment
from tests.runs import run

# What a run does to make something durable: the owner of a function, and its name.
STEPS: dict[str, tuple[Any, str]] = {
    "record": (Replies, "record"),
    "commit": (DefaultDialect, "do_commit"),
    "write": (Store, "write_bytes"),
    "sync": (os, "fsync"),
    "rename": (os, "replace"),
    "link": (Path, "symlink_to"),
    "install": (Store, "install"),
    "text": (Path, "write_text"),
    "move": (Path, "rename"),
}
LOCKS = ("store", "ledger")
SECONDS = 60.0  # that a child may take


@dataclass(frozen=True)
class Death:
    """A child's end by its own SIGKILL: before or after the nth time that it takes a step."""

    step: str
    nth: int
    when: str = "before"

    def before(self, step: str, nth: int) -> None:
        if (step, nth, "before") == (self.step, self.nth, self.when):
            os.kill(os.getpid(), signal.SIGKILL)

    def after(self, step: str, nth: int) -> None:
        if (step, nth, "after") == (self.step, self.nth, self.when):
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Failing:
    """A step that fails with an error of the system from its nth time on."""

    step: str
    nth: int
    error: int

    def before(self, step: str, nth: int) -> None:
        if step == self.step and nth >= self.nth:
            raise OSError(self.error, os.strerror(self.error))

    def after(self, step: str, nth: int) -> None:
        pass


Trouble = Death | Failing


@dataclass(frozen=True)
class Outcome:
    """How a child ended. `calls`: what it asked its models for; `steps`: how often it took each step."""

    code: int
    error: str = ""  # type and message
    digest: str = ""
    version: str = ""
    folder: str = ""
    loaded: int = 0
    paired: int = 0
    rejected: int = 0
    calls: int = 0
    steps: dict[str, int] | None = None
    trace: str = ""

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL

    @property
    def lost(self) -> int:
        return self.loaded - self.paired - self.rejected


class Child:
    """A run in a process of its own; as a context manager it is gone afterwards.

    `prepare` is called in the child before the run. `locks`: those that it takes; on another machine that shares the
    folder, it has the ledger's alone. `work`: what it does, without those locks; it returns the fields of an `Outcome`.
    """

    def __init__(
        self,
        recipe: Recipe,
        trouble: Trouble | None = None,
        prepare: Callable[[], None] | None = None,
        locks: tuple[str, ...] = LOCKS,
        work: Callable[[Recipe], dict[str, Any]] | None = None,
    ) -> None:
        with tempfile.NamedTemporaryFile(prefix="outcome-", delete=False) as file:
            self._outcome = Path(file.name)
        words = (recipe.model_dump_json(), self._outcome, trouble, prepare, work or partial(_run, locks=locks))
        self._process = forkserver().Process(target=_work, args=words)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._outcome.unlink(missing_ok=True)

    @property
    def runs(self) -> bool:
        return self._process.is_alive()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def wait(self, seconds: float) -> bool:
        """Whether it ended within so many seconds."""
        self._process.join(max(seconds, 0.0))
        return not self.runs

    def outcome(self) -> Outcome:
        """Wait for its end."""
        assert self.wait(SECONDS), f"the run did not end within {SECONDS:g} s"
        told = json.loads(self._outcome.read_text() or "{}")
        return Outcome(code=int(self._process.exitcode or 0), **told)


def complete(recipe: Recipe, **words: Any) -> Outcome:
    """A run in a child, to its end."""
    with Child(recipe, **words) as child:
        outcome = child.outcome()
    assert outcome.code == 0, outcome.trace or outcome
    return outcome


def expected(base_recipe: Callable[..., Recipe], tmp_path: Path, count: int) -> str:
    """The digest of a base run that nothing disturbs."""
    with FakeEndpoint() as endpoint:
        other = base_recipe(endpoint, count, name="undisturbed", ledger=f"sqlite:///{tmp_path}/other.sqlite")
        return complete(other).digest


def ended(recipe: Recipe, **words: Any) -> Outcome:
    """A run in a child, however it ends."""
    with Child(recipe, **words) as child:
        return child.outcome()


def executed(recipe: Recipe, folder: Path, **environment: str) -> Outcome:
    """A run in a process that is not forked but started, with an environment of its own."""
    given, told = folder / "recipe.json", folder / "outcome.json"
    given.write_text(recipe.model_dump_json())
    command = [sys.executable, "-m", __name__, str(given), str(told)]
    code = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, timeout=SECONDS, check=False).returncode
    return Outcome(code=code, **json.loads(told.read_text()))


def wait_for_calls(endpoint: FakeEndpoint, child: Child, calls: int) -> None:
    """Wait until so many calls arrived since the endpoint was opened, or the child ended."""
    ends = time.monotonic() + SECONDS
    while len(endpoint.journal) < calls and child.runs:
        assert time.monotonic() < ends, f"{len(endpoint.journal)} calls, {calls} were waited for"
        time.sleep(0.001)


def repeated(endpoint: FakeEndpoint) -> int:
    """Calls that had been asked before."""
    return sum(endpoint.asked.values()) - len(endpoint.asked)


@contextmanager
def quiet(endpoint: FakeEndpoint) -> Iterator[Counter[str]]:
    """Gives the calls that arrive within the block, by request, once it has ended."""
    before, during = Counter(endpoint.asked), Counter[str]()
    yield during
    during.update(endpoint.asked - before)


def digest_of_latest(root: Path) -> str:
    """The digest of the data set that a reader finds at `latest`, made anew from its rows."""
    about = json.loads((root / "latest" / "version.json").read_text())
    files = [root / "latest" / name for name in about["files"] if name.startswith("data/")]
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert len(rows) == about["pairs"]
    told = yaml.safe_load((root / "latest" / "recipe.yaml").read_text())
    publishing = Publishing.model_validate(told.get("publishing", {}))
    no_content = {"hub", "approval", "max_shrink", "max_failed_rate"}
    return fingerprint(f"{content_digest(rows):064x}", publishing.model_dump(mode="json", exclude=no_content))


def spread(count: int, most: int) -> list[int]:
    """Some of 1 to count, evenly apart, the first and the last among them."""
    wanted = min(count, most)
    return sorted({1 + round(place * (count - 1) / max(1, wanted - 1)) for place in range(wanted)})


def _work(
    recipe: str,
    outcome: Path,
    trouble: Trouble | None,
    prepare: Callable[[], None] | None,
    work: Callable[[Recipe], dict[str, Any]],
) -> None:
    made = Recipe.model_validate_json(recipe)
    taken = _counted(trouble)
    try:
        if prepare:
            prepare()
        told = work(made) | {"steps": dict(taken)}
    except BaseException as error:
        told = {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    outcome.write_text(json.dumps(told))
    os._exit(1 if "error" in told else 0)


def _run(recipe: Recipe, locks: tuple[str, ...] = LOCKS) -> dict[str, Any]:
    """The run as the flow does it: with the locks of the data set."""
    store, fence = open_store(recipe), None
    with ExitStack() as held:
        if "store" in locks:
            held.enter_context(store.lock())
        if "ledger" in locks:
            fence = held.enter_context(open_ledger(recipe.ledger_url, process_session()).lock(store.files))
        return _result(recipe, fence)


def _result(recipe: Recipe, fence: Fence | None) -> dict[str, Any]:
    published, summary, calls = run(recipe, fence)
    rejected = sum(summary.prompt_reasons.values())
    counts = {"loaded": summary.loaded, "paired": summary.paired, "rejected": rejected, "calls": calls.total()}
    return {"digest": published.digest, "version": published.version, "folder": published.folder, **counts}


def _counted(trouble: Trouble | None) -> Counter[str]:
    """Count every step, with the trouble that is asked for."""
    taken = Counter[str]()

    def watch(step: str, owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def watched(*args: Any, **words: Any) -> Any:
            taken[step] += 1
            nth = taken[step]
            if trouble:
                trouble.before(step, nth)
            result = real(*args, **words)
            if trouble:
                trouble.after(step, nth)
            return result

        setattr(owner, name, watched)

    for step, (owner, name) in STEPS.items():
        watch(step, owner, name)
    return taken


def write_recipe(recipe: Recipe, path: Path) -> Path:
    """A recipe as a file for the command line."""
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json", exclude_defaults=True)))
    return path


@contextmanager
def started(recipe: Recipe, folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`pairsmith run` as the first process of a group, with a Prefect of its own in `folder`; gone afterwards."""
    command = [sys.executable, "-m", "pairsmith_flows", "run", "--no-check"]
    command.append(str(write_recipe(recipe, folder / "recipe.yaml")))
    env = clean_environment(PREFECT_HOME=str(folder / "prefect"), **environment)
    pipes: dict[str, Any] = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=folder, env=env, start_new_session=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.005)


if __name__ == "__main__":
    _work(Path(sys.argv[1]).read_text(), Path(sys.argv[2]), None, None, _run)

"""The command line in processes of its own, as a person has it."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.conftest import clean_environment

SECONDS = 300.0  # most that a command may take
WIDTH = {"COLUMNS": "140"}


def cli(*words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """What `pairsmith` with these words does and says.

    The process is forked from one that has imported the library already, which saves seconds. It imports Prefect
    itself, so that Prefect reads the environment that is given here.
    """
    env = clean_environment(**WIDTH, **environment)
    with tempfile.TemporaryDirectory(prefix="told-") as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = forkserver().Process(target=_type, args=(words, cwd or Path.cwd(), env, out, err))
        process.start()
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(words, SECONDS, out.read_text(), err.read_text())
        return subprocess.CompletedProcess(words, process.exitcode, out.read_text(), err.read_text())


def new_process(*words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """The same by a Python that is started anew: for what depends on how a process starts and ends."""
    command = [sys.executable, "-m", "pairsmith_flows", *words]
    env = clean_environment(**WIDTH, **environment)
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, timeout=SECONDS, check=False)


def forkserver() -> Any:
    """Starts processes that have imported the library."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "tests.warm"])
    return context


def _type(words: tuple[str, ...], cwd: Path, env: dict[str, str], out: Path, err: Path) -> None:
    for path, number in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = ["pairsmith", *words]
    from pairsmith_flows.__main__ import main

    try:
        main(list(words), prog_name="pairsmith")
    finally:
        atexit._run_exitfuncs()

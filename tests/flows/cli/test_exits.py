"""How a command that is interrupted ends, and what the next one in the same process knows of it."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import clean_environment

TWO = """
import os, signal
from pairsmith_flows.cli import exits
leave = []
exits._leave = lambda: leave.append(1)
{first}
try:
    with exits.exit_codes():
        raise ValueError("unforeseen")
except ValueError:
    print("left", len(leave))
"""
INTERRUPTED = """
try:
    with exits.exit_codes():
        os.kill(os.getpid(), signal.SIGTERM)
except KeyboardInterrupt:
    pass
"""


def output(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=True).stdout


def test_an_error_is_an_interruption_only_of_the_command_that_was_interrupted() -> None:
    assert output(TWO.format(first="")) == "left 0\n"
    assert output(TWO.format(first=INTERRUPTED)) == "left 1\n"

"""How a command that is interrupted ends, and what the next one in the same process knows of it."""

from __future__ import annotations

import subprocess
import sys

from pairsmith_flows.cli.exits import ENDING
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


LEFT = """
import os, signal, time
from pairsmith_flows.cli import exits
exits.GRACE_SECONDS = 0.1
for number in exits.ENDING:
    with exits.exit_codes():
        with exits.leaving_by_interrupt():
            os.kill(os.getpid(), number)
            time.sleep(20)
        time.sleep(1)
        print("went on", flush=True)
with exits.exit_codes():
    with exits.leaving_by_interrupt():
        pass
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(20)
"""


def test_a_command_that_a_person_ends_goes_on_and_can_be_interrupted_afterwards() -> None:
    command = [sys.executable, "-c", LEFT]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (130, "went on\n" * len(ENDING))

"""How a process that is not our child ended: told before and after its parent reaped it [L10]."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from lifecycle.agent import process
from lifecycle.types import Exit
from tests.waiting import eventually


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        ("os._exit(7)", Exit(code=7)),
        ("os.kill(os.getpid(), 9)", Exit(signal=signal.SIGKILL)),
    ],
)
def test_a_zombie_tells_how_it_ended(ending: str, told: Exit) -> None:
    script = f"import os; input(); {ending}"
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE)
    ref = process.refer(child.pid)
    assert process.exit_of_zombie(ref) is None
    assert child.stdin
    child.stdin.write(b"\n")
    child.stdin.close()
    pidfd = os.pidfd_open(child.pid)
    assert eventually(lambda: process.told_exit(ref, pidfd)) == told
    child.wait()
    assert process.exit_of_zombie(ref) is None
    assert process.told_exit(ref, pidfd) in (told, None)  # None: a kernel before 6.15
    os.close(pidfd)

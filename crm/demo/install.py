"""Synapse's own virtual environment: installed once, used by the demo and the tests.

`python -m crm.demo.install <directory>` does it as a process of its own, which can be ended.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import venv
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

VERSION = "1.163.0"
INSTALL_TIMEOUT_S = 600

# How the lines of pip and uv begin that tell how far they are.
MILESTONES = ("Collecting", "Installing", "Successfully", "Resolved", "Prepared", "Installed")

Say = Callable[[str], None]


class SynapseFailed(Exception):
    """The homeserver can't be installed, started or used; the message says why."""


def quiet(_line: str) -> None:
    """Say nothing."""


def install(environment: Path, say: Say = quiet) -> Path:
    """A virtual environment with Synapse at `environment`; returns its Python.

    Does nothing when it is there already; two installs at once do the work once.
    Raises `SynapseFailed`.
    """
    python = python_of(environment)
    environment.parent.mkdir(parents=True, exist_ok=True)
    with locked(environment.with_name(f"{environment.name}.lock")):
        if is_installed(environment):
            return python
        say(f"installing Synapse {VERSION} into {environment} (once, about 250 MB) …")
        uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
        venv.create(environment, clear=True, symlinks=True, with_pip=uv is None)
        run_installer(
            [uv, "pip", "install", "--python", str(python)]
            if uv
            else [str(python), "-m", "pip", "install", "--disable-pip-version-check"],
            say,
        )
        (environment / f".synapse-{VERSION}").touch()
        say("Synapse is installed")
    return python


def is_installed(environment: Path) -> bool:
    return (environment / f".synapse-{VERSION}").exists() and python_of(environment).exists()


def python_of(environment: Path) -> Path:
    return environment / "bin" / "python"


def run_installer(command: list[str], say: Say) -> None:
    """Run an installer and pass its milestones on. Raises `SynapseFailed` with its last lines."""
    last: deque[str] = deque(maxlen=20)
    with subprocess.Popen(
        [*command, f"matrix-synapse=={VERSION}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        too_long = Timer(INSTALL_TIMEOUT_S, process.kill)
        too_long.start()
        try:
            for line in process.stdout or ():
                last.append(line)
                if line.startswith(MILESTONES):
                    say(line.strip()[:100])
        finally:
            too_long.cancel()
    if process.returncode != 0:
        raise SynapseFailed(f"Synapse can't be installed:\n{''.join(last)}")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold `path` as a lock against other processes."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    try:
        install(Path(sys.argv[1]), lambda line: print(line, flush=True))  # noqa: T201
    except SynapseFailed as error:
        sys.exit(str(error))

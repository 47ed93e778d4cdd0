"""The other supervisors, installed once into an environment of their own, with zero delays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from crm.demo.install import locked, python_of

CHECKOUT = Path(__file__).resolve().parents[3]

CACHE = Path(os.environ.get("MUSTER_TEST_CACHE") or "~/.cache/muster").expanduser()
PACKAGES = ("supervisor==4.3.0", "circus==0.19.0", "setuptools<81")

# Programs by name: what each one's command is.
Programs = dict[str, list[str]]


def install() -> Path:
    """The folder of the supervisors' commands; made on first use."""
    place = CACHE / "supervisors"
    place.parent.mkdir(parents=True, exist_ok=True)
    with locked(place.with_name("supervisors.lock")):
        if not (place / ".complete").exists():
            venv.create(place, clear=True, symlinks=True, with_pip=True)
            subprocess.run([python_of(place), "-m", "pip", "install", "-qq", *PACKAGES], check=True)
            (place / ".complete").touch()
    return place / "bin"


def tiny_child(folder: Path) -> Path:
    """The tiny child, compiled: static where the C library allows it."""
    binary, source = folder / "child", Path(__file__).with_name("child.c")
    command = ["cc", "-O2", "-o", str(binary), str(source)]
    if subprocess.run([*command, "-static"], capture_output=True).returncode != 0:
        subprocess.run(command, check=True)
    return binary


@dataclass
class Supervisor:
    """A running supervisor, whose children are known by their stamps."""

    name: str
    process: subprocess.Popen[bytes]

    @property
    def pids(self) -> list[int]:
        return [self.process.pid]


def supervisord_ini(folder: Path, programs: Programs) -> Path:
    text = f"""[supervisord]
nodaemon=true
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
childlogdir={folder}
minfds=4096
"""
    for name, command in programs.items():
        text += f"""
[program:{name}]
command={" ".join(command)}
directory={CHECKOUT}
autorestart=true
startsecs=0
startretries=1000000
stopasgroup=true
killasgroup=true
stopwaitsecs=10
"""
    path = folder / "supervisord.ini"
    path.write_text(text)
    return path


def circus_ini(folder: Path, programs: Programs, check_delay: float) -> Path:
    text = f"""[circus]
check_delay = {check_delay}
endpoint = ipc://{folder}/endpoint
pubsub_endpoint = ipc://{folder}/pubsub
statsd = False
"""
    for name, command in programs.items():
        text += f"""
[watcher:{name}]
cmd = {" ".join(command)}
working_dir = {CHECKOUT}
copy_env = True
numprocesses = 1
respawn = True
max_retry = -1
warmup_delay = 0
graceful_timeout = 10
stdout_stream.class = FileStream
stdout_stream.filename = {folder}/{name}.out
stderr_stream.class = FileStream
stderr_stream.filename = {folder}/{name}.err
"""
    path = folder / "circus.ini"
    path.write_text(text)
    return path


@contextmanager
def running(
    kind: str, folder: Path, programs: Programs, environment: dict[str, str]
) -> Iterator[Supervisor]:
    """`kind` over these programs: "supervisord", "circus", "circus 10 ms" or "bare loop"."""
    folder.mkdir(parents=True)
    bin_ = install()
    match kind:
        case "supervisord":
            command = [str(bin_ / "supervisord"), "-c", str(supervisord_ini(folder, programs))]
        case "circus":
            command = [str(bin_ / "circusd"), str(circus_ini(folder, programs, 1.0))]
        case "circus 10 ms":
            command = [str(bin_ / "circusd"), str(circus_ini(folder, programs, 0.01))]
        case _:
            (program,) = programs.values()
            module = "tests.benchmarks.supervised.bare_loop"
            command = [sys.executable, "-m", module, *program]
    with (folder / "console").open("wb") as console:
        process = subprocess.Popen(
            command, cwd=CHECKOUT, env=environment, stdout=console, stderr=console
        )
    try:
        yield Supervisor(kind, process)
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(40)
        process.kill()
        process.wait()

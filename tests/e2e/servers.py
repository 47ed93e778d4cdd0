"""PostgreSQL and Valkey that are nobody's parts."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import psutil

from crm import embedded


class Servers:
    """Whoever of them is ended stays away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sockets = folder / "run"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def urls(self) -> dict[str, str]:
        return {
            "DATABASE_URL": f"postgresql://muster@/muster?host={self.sockets}/pg&port=5432",
            "BROKER_URL": f"redis+socket://{self.sockets}/valkey.sock?virtual_host=0",
        }

    def start(self, name: str) -> None:
        """Start it and wait until it answers."""
        make, wait = {
            "postgres": (embedded.postgres, embedded.wait_postgres),
            "valkey": (embedded.valkey, embedded.wait_valkey),
        }[name]
        server = make(self.folder, self.sockets)
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                server.command, stdout=log, stderr=log, start_new_session=True, **server.identity()
            )
        wait(self.sockets)

    def send(self, name: str, number: signal.Signals) -> None:
        """A signal to it and all of its children at once."""
        parent = psutil.Process(self.processes[name].pid)
        for one in [parent, *parent.children(recursive=True)]:
            one.send_signal(number)

    def end(self) -> None:
        for one in self.processes.values():
            if one.poll() is None:
                one.kill()
            one.wait()

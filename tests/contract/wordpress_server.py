"""WordPress from Debian's packages for tests: PHP's own server, MariaDB on a Unix socket."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from crm.demo.synapse import free_port
from tests.contract.packages import program
from tests.contract.suite.clock import skewed

PACKAGES = ("wordpress", "mariadb-server", "php-cli", "php-mysql")
HERE = Path(__file__).parent / "site"
START_TIMEOUT_S = 60.0
POLL_S = 0.05
DATABASE = "wordpress"


@dataclass(frozen=True, slots=True)
class User:
    id: int
    login: str
    password: str  # an application password


class WordPressServer:
    """A site that has no posts and no comments at first."""

    def __init__(self) -> None:
        self._php = program("php", *PACKAGES)
        self._mariadbd = program("mariadbd", *PACKAGES)
        self._client = program("mariadb", *PACKAGES)
        # Short: a Unix socket's path has room for 107 bytes.
        self.home = Path(tempfile.mkdtemp(prefix="wordpress-"))
        self.port = free_port()
        self.users: dict[str, User] = {}
        self._running: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def install(self) -> None:
        """Database, tables, users. Raises `RuntimeError`."""
        make = program("mariadb-install-db", *PACKAGES)
        self._do(
            make,
            "--no-defaults",
            f"--datadir={self.home}/data",
            "--skip-test-db",
            "--auth-root-authentication-method=normal",
            f"--user={self._user}",
        )
        (self.home / "content" / "themes").mkdir(parents=True)
        self.start()
        made = json.loads(self._do(self._php, str(HERE / "install.php")).splitlines()[-1])
        for login, user in made.items():
            self.users[login] = User(user["id"], login, user["password"])
        self.empty()

    def start(self, clock_offset_s: float = 0) -> None:
        environment = {**self._environment, **skewed(clock_offset_s)}
        self._run(
            [
                self._mariadbd,
                "--no-defaults",
                f"--datadir={self.home}/data",
                f"--socket={self._socket}",
                "--skip-networking",
                f"--user={self._user}",
                "--innodb-flush-log-at-trx-commit=2",
                "--innodb-buffer-pool-size=32M",
                "--skip-log-bin",
                "--innodb-log-file-size=16M",
                f"--pid-file={self.home}/pid",
            ],
            environment,
        )
        self._until(self._answers)
        self.sql(f"CREATE DATABASE IF NOT EXISTS {DATABASE} CHARACTER SET utf8mb4", database="")
        self._run(
            [
                self._php,
                "-d",
                "display_errors=stderr",
                "-S",
                f"127.0.0.1:{self.port}",
                str(HERE / "router.php"),
            ],
            {**environment, "PHP_CLI_SERVER_WORKERS": "4"},
        )
        self._until(self._listens)

    def kill(self) -> None:
        """Both servers, at once."""
        for main in self._running:
            process = psutil.Process(main.pid)
            for one in (*process.children(recursive=True), process):
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            main.wait(20)
        self._running = []

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def empty(self) -> None:
        """Away with all posts and comments. Ids go on rising, as in WordPress."""
        self.sql("DELETE FROM wp_comments; DELETE FROM wp_commentmeta; DELETE FROM wp_posts")

    def sql(self, statements: str, database: str = DATABASE) -> str:
        """What the statements answer, tab-separated."""
        arguments = [
            "--no-defaults",
            f"--socket={self._socket}",
            "--user=root",
            "--batch",
            "--skip-column-names",
            "--default-character-set=utf8mb4",
        ]
        return self._do(
            self._client, *arguments, *([database] if database else []), given=statements
        )

    @property
    def _socket(self) -> Path:
        return self.home / "socket"

    @property
    def _user(self) -> str:
        return "root" if os.geteuid() == 0 else str(os.environ.get("USER", ""))

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "DB_NAME": DATABASE,
            "DB_USER": "root",
            "DB_PASSWORD": "",
            "DB_HOST": f"localhost:{self._socket}",
            "WP_CONTENT_DIR": str(self.home / "content"),
        }

    def _run(self, command: list[str], environment: dict[str, str]) -> None:
        with (self.home / "log").open("ab") as log:
            self._running.append(
                subprocess.Popen(
                    command, env=environment, stdout=log, stderr=log, start_new_session=True
                )
            )

    def _do(self, *command: str, given: str = "") -> str:
        done = subprocess.run(
            command,
            env=self._environment,
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def _answers(self) -> bool:
        try:
            self.sql("SELECT 1", database="")
        except RuntimeError:
            return False
        return True

    def _listens(self) -> bool:
        try:
            return httpx.get(self.url + "/?rest_route=/", timeout=20).status_code > 0
        except httpx.HTTPError:
            return False

    def _until(self, ready: object) -> None:
        assert callable(ready)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not ready():
            if time.monotonic() > deadline or self._running[-1].poll() is not None:
                raise RuntimeError(f"WordPress does not come up: {self._log()}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._running[-1].wait(POLL_S)

    def _log(self) -> str:
        return (self.home / "log").read_text(errors="replace")[-4000:]

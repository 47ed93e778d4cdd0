"""The test run's own world: a temporary home, an embedded PostgreSQL, and things to test with.

The environment is set while this file is imported, before Django's settings are. The controlling
process starts PostgreSQL once; pytest-xdist's workers share it, each with a database of its own.
`tests/unit` runs without any of it.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.processes import processes_of

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from rest_framework.test import APIClient

    from lifecycle.models import WorkerConfig

TESTS = Path(__file__).parent
HOME_VARIABLE = "MUSTER_TEST_HOME"  # set by the controlling process, inherited by its workers
IS_CONTROLLER = HOME_VARIABLE not in os.environ
PR_SET_PDEATHSIG = 1
# Begun first, so that no long file is left for the end, when nothing runs beside it: chaos waits
# most of its time, and what runs beside it uses the rest of the machine. The demo needs no prepared
# database: it runs while the first one that does makes it.
LONG = (
    "chaos/test_sync.py",
    "e2e/test_demo.py",
    "chaos/test_supervision.py",
    "e2e/test_up.py",
    "e2e/test_health.py",
    "chaos/test_broker.py",
    "e2e/test_live_console.py",
    "chaos/test_outages.py",
    "e2e/test_first_light.py",
    "e2e/test_masters.py",
)

if IS_CONTROLLER:
    os.environ[HOME_VARIABLE] = tempfile.mkdtemp(prefix="muster-test-")
HOME = Path(os.environ[HOME_VARIABLE])
given = [name for name in os.environ if name.startswith("MUSTER_")]
for name in [name for name in given if not name.startswith(("MUSTER_TEST_", "MUSTER_CHAOS_"))]:
    del os.environ[name]
os.environ |= {
    "DJANGO_SETTINGS_MODULE": "crm.settings",
    "MUSTER_HOME": str(HOME),
    "MUSTER_PART": "test",
    "BROKER_URL": "memory://localhost/",
}
os.environ.pop("DATABASE_URL", None)  # the embedded one, below HOME

server: subprocess.Popen[bytes] | None = None


def pytest_configure(config: pytest.Config) -> None:
    global server
    from django.conf import settings

    settings.DATABASES  # noqa: B018 - loads the settings: then pytest-django sets Django up
    if IS_CONTROLLER and _wants_database(config):
        server = _start_postgres()


@pytest.hookimpl(trylast=True)  # after pytest-randomly, which decides about all others
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {TESTS / name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path, len(LONG)))


@pytest.hookimpl(trylast=True)  # after pytest-xdist has ended its workers
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run that leaves processes behind has failed, whatever its tests say."""
    if not IS_CONTROLLER:
        return
    left = {pid: command for pid, command in processes_of(HOME).items() if not _is_server(pid)}
    for pid, command in left.items():
        print(f"left running: {pid} {command}", file=sys.stderr)
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _is_server(pid: int) -> bool:
    """Of the run's own PostgreSQL, which ends after this."""
    with suppress(psutil.NoSuchProcess):
        family = (pid, *(one.pid for one in psutil.Process(pid).parents()))
        return server is not None and server.pid in family
    return True  # it has ended meanwhile


def pytest_unconfigure() -> None:
    """Also called after Ctrl-C."""
    if not IS_CONTROLLER:
        return
    if server:
        server.send_signal(signal.SIGINT)
        server.wait(30)
    shutil.rmtree(HOME, ignore_errors=True)


def _wants_database(config: pytest.Config) -> bool:
    chosen = [Path(argument.split("::")[0]).resolve() for argument in config.args]
    return any(not path.is_relative_to(TESTS / "unit") for path in chosen)


def _start_postgres() -> subprocess.Popen[bytes]:
    from crm import embedded
    from crm.env import env

    postgres = embedded.postgres(env.home, env.socket_dir, durable=False)
    with (HOME / "postgres.log").open("wb") as log:
        started = subprocess.Popen(
            postgres.command,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for pytest: it stops the server when it is done
            preexec_fn=_end_with_parent,  # safe: no threads run yet
            **postgres.identity(),
        )
    embedded.wait_postgres(env.socket_dir)
    return started


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)


@pytest.fixture(scope="session", autouse=True)
def _quick_passwords() -> None:
    from django.conf import settings

    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def _language_of_its_own() -> Iterator[None]:
    """A request in Chinese leaves its thread in Chinese, and the next test is in this thread."""
    from django.utils import translation

    yield
    translation.deactivate()


@pytest.fixture
def make_config(db: None) -> Callable[..., WorkerConfig]:
    """Make worker configs through the service: `make_config(worker_id="w", enabled=False)`."""
    from lifecycle.services import create_config

    numbers = count(1)

    def make(**fields: Any) -> WorkerConfig:
        number = next(numbers)
        return create_config({"worker_id": f"test-{number}", **fields}, actor="test")

    return make


@pytest.fixture
def make_user(db: None) -> Callable[..., User]:
    """Make a user: `make_user("ann", "operator")`; the password is the name."""
    from django.contrib.auth.models import Group, User

    def make(username: str, role: str = "", **fields: Any) -> User:
        user = User.objects.create_user(
            username, password=username, **{"is_staff": bool(role), **fields}
        )
        if role:
            user.groups.add(Group.objects.get(name=role))
        return user

    return make


@pytest.fixture
def viewer(make_user: Callable[..., User]) -> User:
    return make_user("viewer", "viewer")


@pytest.fixture
def operator(make_user: Callable[..., User]) -> User:
    return make_user("operator", "operator")


@pytest.fixture
def administrator(make_user: Callable[..., User]) -> User:
    """The role `admin`; pytest-django's `admin_user` is the superuser that `up` makes."""
    return make_user("administrator", "admin")


@pytest.fixture
def api(db: None) -> Callable[..., APIClient]:
    """An API client with the token of a user: `api(viewer).get("/api/v1/worker-configs")`."""
    from knox.models import AuthToken
    from rest_framework.test import APIClient

    def client(user: User | None = None) -> APIClient:
        made = APIClient()
        if user:
            made.credentials(HTTP_AUTHORIZATION=f"Token {AuthToken.objects.create(user)[1]}")
        return made

    return client


@pytest.fixture
def api_client(api: Callable[..., APIClient], admin_user: User) -> APIClient:
    """An API client that may do everything."""
    return api(admin_user)

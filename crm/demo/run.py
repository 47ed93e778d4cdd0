"""The order of the demo: Muster, a homeserver, accounts, people; and down again."""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
from django.urls import reverse

from crm.demo.install import SynapseFailed, is_installed, python_of
from crm.demo.people import People
from crm.demo.script import DESKS, PEOPLE
from crm.demo.setup import WORKERS, api, ensure_account, ensure_worker
from crm.demo.synapse import Synapse
from crm.env import CHECKOUT, Env, key_file
from crm.up import state as up_state
from lifecycle.agent import process

UP_READY_S = 180.0
UP_STOP_S = 25.0  # it promises 20 s
POLL_S = 0.2
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Result = TypeVar("Result")


class DemoFailed(Exception):
    """The demo can't go on; the message says why."""


class Demo:
    """One run of the demo in a home. All that it keeps is below `<home>/demo`."""

    def __init__(self, env: Env) -> None:
        self.env = env
        self.directory = env.home / "demo"
        self.ending = asyncio.Event()
        self.up: asyncio.subprocess.Process | None = None  # only one that we started
        self.server: Synapse | None = None

    async def run(self) -> None:
        """Until a signal. Raises `DemoFailed`, `SynapseFailed`, `SetupFailed`, `PlatformError`."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._lock():
            loop = asyncio.get_running_loop()
            for number in SIGNALS:
                loop.add_signal_handler(number, self._on_signal)
            living = asyncio.create_task(self._live())
            told = asyncio.create_task(self.ending.wait())
            try:
                await asyncio.wait({living, told}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self.ending.set()
                if not living.done():
                    living.cancel()
                await asyncio.gather(living, told, return_exceptions=True)
                await self._take_down()
            if not living.cancelled():
                living.result()

    def say(self, text: str) -> None:
        try:
            print(f"demo: {text}", flush=True)  # noqa: T201
        except OSError:
            self.ending.set()  # nobody listens any more

    async def _live(self) -> None:
        url = await self._muster()
        python = await self._installed()
        server = await in_thread(self._homeserver, python)
        await in_thread(self._set_up, url, server)
        self.say(f"look at {url}{reverse('admin:sync_conversation_changelist')}; Ctrl-C ends it")
        passwords = {person.username: self._password(person.username) for person in PEOPLE}
        people = People(server, passwords, self.directory / "people.json", self.say)
        talking = asyncio.create_task(people.talk(self.ending))
        dying = asyncio.create_task(self._until_something_dies(server))
        try:
            await asyncio.wait({talking, dying}, return_when=asyncio.FIRST_COMPLETED)
            for task in (talking, dying):
                if task.done():
                    task.result()
        finally:
            talking.cancel()
            dying.cancel()
            await asyncio.gather(talking, dying, return_exceptions=True)

    async def _muster(self) -> str:
        """The base URL of the Muster that runs in this home, started if there was none."""
        found = up_state.read(self.env.home)
        if found is not None and process.is_alive(found.process):
            self.say(f"Muster runs here already (pid {found.pid})")
        else:
            self.say("bringing Muster up")
            # Its own session: Ctrl-C is for us alone; we end everything in order.
            self.up = await asyncio.create_subprocess_exec(
                *(sys.executable, str(CHECKOUT / "manage.py"), "up"),
                env=os.environ | {"MUSTER_HOME": str(self.env.home)},
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(UP_READY_S):
                return await self._ready()
        except TimeoutError:
            raise DemoFailed(f"Muster is not ready after {UP_READY_S:.0f} s") from None

    async def _ready(self) -> str:
        async with httpx.AsyncClient(timeout=5) as http:
            while True:
                self._check_up()
                found = up_state.read(self.env.home)
                is_ours = self.up is None or (found is not None and found.pid == self.up.pid)
                if found is not None and is_ours and process.is_alive(found.process):
                    where = urlsplit(found.url)
                    url = f"{where.scheme}://{where.netloc}"
                    if await answers(http, f"{url}/healthz"):
                        return url
                await asyncio.sleep(POLL_S)

    async def _installed(self) -> Path:
        """Synapse's Python. The first time takes its while; a signal ends it at once."""
        environment = self.directory / "synapse"
        if not is_installed(environment):
            command = (sys.executable, "-m", "crm.demo.install", str(environment))
            installing = await asyncio.create_subprocess_exec(
                *command, cwd=CHECKOUT, start_new_session=True
            )
            try:
                await installing.wait()
            except asyncio.CancelledError:
                os.killpg(installing.pid, signal.SIGKILL)  # what is half there is made anew
                await installing.wait()
                raise
            if installing.returncode != 0:
                raise SynapseFailed("Synapse can't be installed: see above")
        return python_of(environment)

    def _homeserver(self, python: Path) -> Synapse:
        self.server = Synapse(self.directory / "homeserver", python)
        self.server.start()
        self.say(f"a Matrix homeserver runs at {self.server.url} (pid {self.server.pid})")
        for each in (*DESKS, *PEOPLE):
            if self.server.register(each.username, self._password(each.username), each.name):
                self.say(f"registered {self.server.user_id(each.username)} ({each.name})")
        return self.server

    def _set_up(self, url: str, server: Synapse) -> None:
        with api(url) as client:
            for worker_id in WORKERS:
                added = ensure_worker(client, worker_id)
                self.say(f"worker {worker_id}: {'added' if added else 'is there'}")
            for desk in DESKS:
                identifier, password = server.user_id(desk.username), self._password(desk.username)
                added = ensure_account(client, desk, identifier, server.url, password)
                self.say(f"account {identifier}: {'added' if added else 'is there'}")

    async def _until_something_dies(self, server: Synapse) -> None:
        """Raises `DemoFailed` when the homeserver, or the Muster that we started, is gone."""
        while True:
            self._check_up()
            if server.pid is None:
                raise DemoFailed(f"the homeserver ended by itself: see {server.directory}")
            await asyncio.sleep(POLL_S)

    def _check_up(self) -> None:
        if self.up is not None and self.up.returncode is not None:
            raise DemoFailed(f"Muster ended by itself (exit code {self.up.returncode})")

    async def _take_down(self) -> None:
        """People have stopped; now the homeserver, then the Muster that we started."""
        if self.server is not None:
            await in_thread(self.server.stop)
            self.say("the homeserver has stopped")
        if self.up is None or self.up.returncode is not None:
            return
        self.up.terminate()
        try:
            async with asyncio.timeout(UP_STOP_S):
                await self.up.wait()
        except TimeoutError:
            self.say("Muster does not stop: killed; the next start cleans up")
            self.up.kill()
            await self.up.wait()

    def _on_signal(self) -> None:
        """The first asks for the end, a second one hastens Muster's."""
        if self.ending.is_set() and self.up is not None and self.up.returncode is None:
            self.up.terminate()
        self.ending.set()

    def _password(self, username: str) -> str:
        return key_file(self.directory / "passwords" / username, secrets.token_urlsafe(18))

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.directory / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DemoFailed(f"a demo already runs in {self.env.home}") from None
            yield


async def in_thread(call: Callable[..., Result], *args: object) -> Result:
    """`call` in a thread. Cancelled, it still waits for the call to end: what it started is then
    known, and can be ended."""
    running = asyncio.ensure_future(asyncio.to_thread(call, *args))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise


async def answers(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(url)).is_success
    except httpx.HTTPError:
        return False

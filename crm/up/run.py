"""The order of things: up, and down again."""

from __future__ import annotations

import asyncio
import logging
import logging.config
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from crm.embedded import EmbeddedError, wait_postgres, wait_valkey
from crm.env import CHECKOUT, DEFAULT_HOME, Env, env
from crm.env_checks import HIGHEST_PORT
from crm.folders import private_dir
from crm.logs import logging_config
from crm.up import broker, output, parts, ready
from crm.up.leftovers import end_leftovers, end_workers, stop_workers
from crm.up.prepared import ADMIN, FIRST_WORKER, Prepared, PrepareFailed, prepare
from crm.up.state import AlreadyRunning, UpState, home_lock
from crm.up.supervisor import Supervisor
from lifecycle.agent import process
from lifecycle.masking import MASK

SLOW_START_S = 30.0
# 12 + 1 + 2 + 4: the rungs of the way down stay below the 20 s that are promised [L13].
FLEET_S, TERM_S, AGENT_S, SERVER_S = 12.0, 1.0, 2.0, 4.0
OTHERS_S = 5.0  # beside the fleet, so it costs no time; above the grace of the web
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

log = logging.getLogger(__name__)


class CantRun(Exception):
    """Muster can't be brought up here; the message is for people."""


def main() -> None:
    """Bring Muster up and keep it up until SIGINT or SIGTERM. Raises `CantRun`."""
    try:
        asyncio.run(Up(env).run())
    except (AlreadyRunning, EmbeddedError, PrepareFailed) as error:
        raise CantRun(str(error)) from error
    except OSError as error:
        raise CantRun(f"{env.home} can't be used: {error}") from error


def command() -> int:
    """`manage.py up` without Django; the exit code."""
    logging.config.dictConfig(logging_config(env.log_format, env.log_level))
    try:
        main()
    except CantRun as error:
        print(f"up: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


class Up:
    """One run of Muster on this machine."""

    def __init__(self, env: Env) -> None:
        self.env = env
        # People wait since the command began, imports included.
        self.begun = time.monotonic() - process.age_s(process.refer(os.getpid()))
        self.url = f"http://{_shown_host(env.bind)}:{env.port}/admin/"
        self.ending = asyncio.Event()
        self.broker_known = asyncio.Event()  # whether it answers

    async def run(self) -> None:
        """Bring everything up, keep it up until a signal, take it down.

        Raises `AlreadyRunning`, `CantRun`, `EmbeddedError`, `PrepareFailed`, `OSError`.
        """
        home = self.env.home
        for path in (home / "run", home / "logs"):
            private_dir(path)
        with home_lock(home, self.url):
            output.log_to_file(home / "logs" / "up.log")
            if ended := await asyncio.to_thread(end_leftovers, home):
                self.say(f"ended what a killed run had left: {', '.join(ended)}")
            self._check_port()
            self.supervisor = Supervisor(self.env, self._state(), self.say)
            self._listen_to_signals()
            await self._live()

    def _check_port(self) -> None:
        bind, port = self.env.bind, self.env.port
        try:
            is_free = ready.port_is_free(bind, port)
        except OSError as error:
            raise CantRun(f"port {port} on {bind} can't be used: {error.strerror}") from error
        if not is_free:
            raise CantRun(
                f"port {port} on {bind} is in use: end what listens there, "
                f"or choose another one: make up PORT={port + 1 if port < HIGHEST_PORT else 8000}"
            )

    def say(self, text: str, secret: str = "") -> None:
        self._print(f"[{time.monotonic() - self.begun:5.1f} s] {text}", secret)

    def _print(self, text: str, secret: str = "") -> None:
        """A line for the person at the console. When they have gone the log gets it, but not the
        `secret` in it."""
        try:
            print(text, flush=True)  # noqa: T201
        except OSError:
            log.info("console is gone: %s", text.replace(secret, MASK) if secret else text)

    async def _live(self) -> None:
        coming = asyncio.create_task(self._bring_up())
        told = asyncio.create_task(self.ending.wait())
        listening = asyncio.create_task(self._listen_to_broker())
        try:
            await asyncio.wait({coming, told}, return_when=asyncio.FIRST_COMPLETED)
            if coming.done():
                coming.result()
            await told
        finally:
            for task in (coming, told, listening):
                task.cancel()
            await asyncio.gather(coming, told, listening, return_exceptions=True)
            await self._take_down()

    async def _bring_up(self) -> None:
        start = self.supervisor.start
        start(parts.agent())  # it has imports to do and needs no database
        prepared, _ = await asyncio.gather(prepare(self.supervisor), self._servers())
        self._say_prepared(prepared)
        start(parts.master())
        start(parts.web(self.env))
        await self._ready(
            ("agent", ready.until(ready.agent_answers, self.env)),
            ("web", ready.until(ready.web_answers, self.env)),
            ("master", ready.until(ready.master_leads, self.env)),
        )
        await self.broker_known.wait()
        self._say_ready(prepared)
        start(parts.beat())
        start(parts.flower(self.env))

    async def _servers(self) -> None:
        """Bring up what of PostgreSQL and Valkey is ours to run, side by side."""
        waiting = []
        if self.env.embedded_postgres:
            waiting.append(self._server(parts.postgres(self.env), wait_postgres))
        if self.env.embedded_valkey:
            waiting.append(self._server(parts.valkey(self.env), wait_valkey))
        await asyncio.gather(*waiting)

    async def _server(self, part: parts.Part, wait_ready: Callable[..., None]) -> None:
        self.supervisor.start(part)
        await self.supervisor.started(part.name)
        given_up = threading.Event()
        try:
            waiting = partial(wait_ready, self.env.socket_dir, given_up=given_up)
            await asyncio.to_thread(waiting)
        finally:
            given_up.set()  # cancelling us does not end the thread
        self.say(f"{part.name} answers")

    async def _listen_to_broker(self) -> None:
        """Say whether a broker that is not ours answers, until it does. Muster runs without it."""
        if self.env.embedded_valkey:
            self.broker_known.set()
            return
        try:
            is_watched = await broker.listen(self.supervisor, self._say_broker)
        except Exception:  # the edge of this task's life: it only informs
            log.exception("the broker can't be watched")
            is_watched = False
        if not is_watched:
            self.say(f"the broker can't be watched: see {self.supervisor.log_file('broker')}")
        self.broker_known.set()

    def _say_broker(self, word: broker.Word) -> None:
        if word.trouble is None:
            self.say(f"the broker at {word.address} answers")
        else:
            self.say(
                f"WARNING: the broker at {word.address} does not answer: {word.trouble}; "
                "going on without it, no account is synchronised until it answers"
            )
        self.broker_known.set()

    async def _ready(self, *checks: tuple[str, Awaitable[None]]) -> None:
        """Wait for all, however long it takes; say what is awaited when it takes long."""
        tasks = {asyncio.create_task(self._one_ready(*check)): check[0] for check in checks}
        pending = set(tasks)
        try:
            while pending:
                _, pending = await asyncio.wait(pending, timeout=SLOW_START_S)
                for name in sorted(tasks[task] for task in pending):
                    self.say(f"still waiting for {name}: see {self.supervisor.log_file(name)}")
        finally:
            for task in pending:
                task.cancel()

    async def _one_ready(self, name: str, check: Awaitable[None]) -> None:
        await check
        self.say({"master": "a master leads"}.get(name, f"{name} answers"))

    def _say_prepared(self, prepared: Prepared) -> None:
        if prepared.migrated:
            self.say("database is migrated")
        if prepared.admin_password:  # said at once: an end before `ready` must not lose it
            password = prepared.admin_password
            self.say(f"made user {ADMIN} with password {password}", secret=password)
        elif prepared.admin_created:
            self.say(f"made user {ADMIN} with the password from MUSTER_ADMIN_PASSWORD")
        if prepared.first_worker:
            self.say(f"made {FIRST_WORKER}; it starts with the master")
        if prepared.elsewhere:
            self.say(
                f"WARNING: the workers of this database run in {prepared.elsewhere}; no master "
                "leads here before they have stopped there (docs/runbook.md: another home)"
            )

    def _say_ready(self, prepared: Prepared) -> None:
        how = f"log in as {ADMIN}"
        if prepared.admin_password:
            how += f", password {prepared.admin_password} (shown only now)"
        elif prepared.admin_created:
            how += " with the password from MUSTER_ADMIN_PASSWORD"
        else:
            how += f" (forgot the password? {self._manage(f'changepassword {ADMIN}')})"
        log.info("ready", extra={"seconds": round(time.monotonic() - self.begun, 2)})
        secret = prepared.admin_password or ""
        self._print(f"ready {self.url}  {how}; Ctrl-C ends everything", secret)

    def _manage(self, command: str) -> str:
        """A line for a shell in our directory that runs a command of this very Muster."""
        here, words = Path.cwd(), []
        for path in (Path(sys.executable), CHECKOUT / "manage.py"):
            shown = path.relative_to(here) if path.is_relative_to(here) else path
            words.append(shlex.quote(str(shown)))
        if self.env.home != DEFAULT_HOME.resolve():
            words.insert(0, f"MUSTER_HOME={shlex.quote(str(self.env.home))}")
        if not self.env.embedded_postgres:
            words.insert(0, "with the same DATABASE_URL:")
        return " ".join([*words, command])

    # --- down ---

    async def _take_down(self) -> None:
        """End everything in order: who uses a part goes before it."""
        begun = time.monotonic()
        self.say("stopping: the workers finish what they do (Ctrl-C again: at once)")
        end, term = self.supervisor.end, signal.SIGTERM
        await asyncio.gather(
            end("beat", (term, OTHERS_S)),
            end("flower", (term, OTHERS_S)),
            end("web", (term, OTHERS_S)),
            # SIGUSR2: end the fleet, then yourself.
            end("master", (signal.SIGUSR2, FLEET_S), (term, TERM_S)),
        )
        hasty = self.supervisor.hasten.is_set
        if told := await asyncio.to_thread(stop_workers, self.env, begun + FLEET_S, hasty):
            self.say(f"the agent stopped what no master did: {', '.join(told)}")
        await end("agent", (term, AGENT_S))
        if left := await asyncio.to_thread(end_workers, self.env.home):
            self.say(f"killed what did not stop in time: {', '.join(left)}")
        await asyncio.gather(
            end("valkey", (term, SERVER_S)),
            # Fast shutdown; then immediate: no backend outlives it, the next start recovers.
            end("postgres", (signal.SIGINT, SERVER_S - 1), (signal.SIGQUIT, 1.0)),
        )
        await self.supervisor.close()
        # A thread that was given up ends within seconds: what is said next is true.
        await asyncio.get_running_loop().shutdown_default_executor()
        self.say(f"stopped in {time.monotonic() - begun:.1f} s")

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        if self.ending.is_set():
            self.supervisor.hasten.set()
        self.ending.set()

    def _state(self) -> UpState:
        me = process.refer(os.getpid())
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return UpState(me.pid, me.started_ticks, me.boot_id, self.url, now)


def _shown_host(bind: str) -> str:
    if bind in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return f"[{bind}]" if ":" in bind else bind

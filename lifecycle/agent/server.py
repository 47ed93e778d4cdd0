"""The agent's event loop: verbs in, forks and events out. Deaths are events, timers deadlines."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lifecycle.agent import sampling
from lifecycle.agent.ahead import Ahead
from lifecycle.agent.layout import Home, alive_to, gone_from, record_from, spec_from
from lifecycle.agent.logremoval import log_verbs
from lifecycle.agent.logserver import send_log
from lifecycle.agent.protocol import LONGEST_LINE, Word, decode, encode
from lifecycle.agent.roster import NEXT_FIRST_S, Roster
from lifecycle.agent.zygotes import Zygotes
from lifecycle.errors import BackendUnavailable, LifecycleError, SpawnRefused
from lifecycle.types import Instance, WorkerSpec

log = logging.getLogger(__name__)

SPAWN_TIMEOUT_S = 10.0
SIGN_OF_LIFE_S = 5.0
SAMPLE_S = 10.0
# What makes the next start fast waits for so long, not to make this one slow.
IDLE_S = 0.1
WATCHER_BACKLOG_BYTES = 16 * 1024 * 1024


class Agent:
    """One host's agent."""

    def __init__(self, home: Path, socket_path: Path, zygote_command: Sequence[str]) -> None:
        """`zygote_command` runs `zygote.serve`; two descriptors are appended: its socket, and where
        its errors go once it is there."""
        self.home = Home(home)
        self.socket_path = socket_path
        self.zygotes = Zygotes(zygote_command, self._on_word, self._on_code, self._on_death)
        self.ahead = Ahead(self.home, self.zygotes)
        self.roster = Roster(self.home, self._publish, self._replace_keeper)
        self.watchers: set[asyncio.StreamWriter] = set()
        self.spawning: dict[Instance, asyncio.Future[dict[str, Any]]] = {}
        self.ending = asyncio.Event()
        self._reload_task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. SIGHUP loads the code anew."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.ending.set)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        self.zygotes.begin()
        self.roster.take_over()
        self.socket_path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve, self.socket_path, limit=LONGEST_LINE)
        self.socket_path.chmod(0o600)
        sampler = asyncio.create_task(self._sample())
        log.info(
            "agent is ready",
            extra={"socket": str(self.socket_path), "workers": len(self.roster.kept)},
        )
        await self.ending.wait()
        sampler.cancel()
        if self._reload_task:
            self._reload_task.cancel()
        await self.zygotes.stop_starting()
        server.close()
        self.socket_path.unlink(missing_ok=True)
        log.info("agent ends; its workers go on", extra={"workers": len(self.roster.kept)})

    # --- zygotes and keepers ---

    def _on_hangup(self) -> None:
        self._reload_task = asyncio.create_task(self._load_anew())

    async def _load_anew(self) -> None:
        with suppress(BackendUnavailable):  # said by the zygotes
            await self.zygotes.replace()

    def _on_code(self, code: str) -> None:
        self.ahead.drop()
        self._publish({"event": "code", "code": code})

    def _on_death(self, lost: Iterable[Instance]) -> None:
        for instance in lost:
            waiting = self.spawning.get(instance)
            if waiting and not waiting.done():
                waiting.set_exception(ConnectionError("it died"))

    def _on_word(self, word: dict[str, Any]) -> None:
        """A keeper's word, about a worker that was to start or has ended."""
        instance = Instance(word["worker_id"], word["generation"])
        waiting = self.spawning.get(instance)
        match word["word"]:
            case Word.ENDED:
                self.roster.told(gone_from(word["gone"]))
                return
            case Word.DONE:
                if self.roster.is_alone(instance):
                    self.ahead.prepare(instance)
                    asyncio.get_running_loop().call_later(IDLE_S, self._make_ahead)
                self.roster.done(instance)
                return
            case Word.STARTED:
                self.roster.take_in(*record_from(word))
        if waiting and not waiting.done():
            waiting.set_result(word)

    async def _spawn(self, spec: WorkerSpec) -> dict[str, Any]:
        """Fork a keeper and its worker. Raises `SpawnRefused`, `BackendUnavailable`."""
        instance = spec.instance
        await self.roster.concluded(instance.worker_id)
        if kept := self.roster.kept.get(instance):
            return alive_to(kept.alive)
        for other in self.roster.kept:
            if other.worker_id == instance.worker_id and other.generation != spec.replaces:
                # Who asks does not know it.
                self._publish({**self.roster.snapshot(), "code": self.zygotes.code})
                raise BackendUnavailable(f"{instance.worker_id} still runs as {other}")
        spawn = self.home.spawn_dir(instance)
        if spawn.gone() is not None:
            raise BackendUnavailable(f"{instance} has ended already")
        answer = await self._ask_for(spec)
        match answer["word"]:
            case Word.REFUSED:
                spawn.remove()
                raise SpawnRefused(answer["why"])
            case Word.BUSY:
                # Perhaps by an earlier request for this very spawn: its record must not be removed.
                self.roster.adopt(spawn)
                raise BackendUnavailable(f"a process of {instance.worker_id} still holds its lock")
        loop = asyncio.get_running_loop()
        loop.call_later(IDLE_S, self._make_ahead)
        pid = answer["worker"]["process"]["pid"]
        loop.call_later(NEXT_FIRST_S, log.info, "worker started: %s pid %s", instance, pid)
        worker: dict[str, Any] = answer["worker"]
        return worker

    def _make_ahead(self) -> None:
        self.home.make_ahead()
        self.zygotes.make_ahead()

    async def _ask_for(self, spec: WorkerSpec) -> dict[str, Any]:
        """The zygote's answer. Two who ask for the same instance share one request: a new master
        may repeat what a killed one asked for. Raises `BackendUnavailable`."""
        instance = spec.instance
        waiting = self.spawning.get(instance)
        try:
            async with asyncio.timeout(SPAWN_TIMEOUT_S):
                if waiting is None:
                    waiting = self.spawning[instance] = asyncio.get_running_loop().create_future()
                    if not self.ahead.start(spec):
                        self.home.spawn_dir(instance).create(spec)
                        await self.zygotes.ask(instance)
                return await asyncio.shield(waiting)
        except (OSError, TimeoutError) as error:
            why = self.zygotes.failure or repr(error)
            raise BackendUnavailable(f"the zygote did not start {instance}: {why}") from error
        finally:
            self.spawning.pop(instance, None)

    def _replace_keeper(self, instance: Instance) -> None:
        try:
            self.zygotes.ask_keeper(instance)
        except OSError as error:
            log.warning("%s has no keeper yet: %s", instance, error)

    # --- verbs ---

    async def _start(self, request: dict[str, Any]) -> dict[str, Any]:
        return await self._spawn(spec_from(request["spec"]))

    async def _stop(self, request: dict[str, Any]) -> dict[str, Any]:
        instance = Instance(**request["instance"])
        timeout_s = float(request["timeout_s"])
        return {
            "runs": self.roster.stop(instance, graceful=request["graceful"], timeout_s=timeout_s)
        }

    async def _acknowledge(self, request: dict[str, Any]) -> dict[str, Any]:
        self.roster.acknowledge(Instance(**request["instance"]))
        return {}

    async def _reload(self, _request: dict[str, Any]) -> dict[str, Any]:
        return {"code": await self.zygotes.replace()}

    async def _status(self, _request: dict[str, Any]) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "zygote_pid": self.zygotes.pid,
            "has_spare": self.zygotes.has_spare,
            "code": self.zygotes.code,
            "reload_failure": self.zygotes.failure,
            "workers": [
                {
                    "worker_id": instance.worker_id,
                    "generation": instance.generation,
                    "pid": kept.alive.process.pid,
                    "keeper_pid": kept.keeper.pid,
                    "started_at": kept.alive.started_at.isoformat(),
                }
                for instance, kept in sorted(self.roster.kept.items())
            ],
        }

    # --- connections ---

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                request = decode(line)
                match request.get("verb"):
                    case "watch":
                        await self._watch(writer)
                    case "read_log" | "follow":
                        await send_log(self.home, request, reader, writer)
                    case _:
                        writer.write(encode(await self._answer(request)))
                        await writer.drain()
        except (ConnectionError, ValueError) as error:
            log.info("a connection ended: %s", error)
        except asyncio.CancelledError:
            log.debug("a connection is closed, the agent ends")
        finally:
            writer.close()

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        verbs: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            "start": self._start,
            "stop": self._stop,
            "acknowledge": self._acknowledge,
            "reload": self._reload,
            "status": self._status,
            **log_verbs(self.home),
        }
        try:
            return {"ok": await verbs[request["verb"]](request)}
        except SpawnRefused as error:
            return {"error": "refused", "message": str(error)}
        except (LifecycleError, OSError) as error:
            return {"error": "busy", "message": str(error)}
        except (KeyError, TypeError, ValueError) as error:
            return {"error": "bad_request", "message": f"{type(error).__name__}: {error}"}

    async def _watch(self, writer: asyncio.StreamWriter) -> None:
        """Tell this connection all that happens, until it is closed."""
        self._tell(writer, {**self.roster.snapshot(), "code": self.zygotes.code})
        self.watchers.add(writer)
        try:
            while not writer.is_closing():
                await asyncio.sleep(SIGN_OF_LIFE_S)
                self._tell(writer, {"event": "alive"})
        finally:
            self.watchers.discard(writer)

    def _publish(self, event: dict[str, Any]) -> None:
        for writer in list(self.watchers):
            self._tell(writer, event)

    @staticmethod
    def _tell(writer: asyncio.StreamWriter, event: dict[str, Any]) -> None:
        """At once, not when its task is next. One that is hopelessly behind is let go, and will
        ask for a snapshot."""
        if writer.is_closing():
            return
        writer.write(encode(event))
        if writer.transport.get_write_buffer_size() > WATCHER_BACKLOG_BYTES:
            writer.transport.abort()

    async def _sample(self) -> None:
        usage = sampling.Usage()
        while True:
            await asyncio.sleep(sampling.until_next(time.time(), SAMPLE_S))
            try:
                await self._sample_once(usage)
            except Exception:  # memory limits must be watched on, whatever went wrong this time
                log.exception("could not sample the workers, trying again")

    async def _sample_once(self, usage: sampling.Usage) -> None:
        workers = [(k.alive.instance, k.alive.process) for k in self.roster.kept.values()]
        samples = await asyncio.to_thread(usage.sample, workers)
        if samples:
            self._publish({"event": "samples", "samples": samples})
        self.roster.confess_losses()


def take_agent_lock(socket_path: Path) -> int:
    """One agent per home: the operating system holds the lock. Raises `BackendUnavailable`."""
    path = socket_path.with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise BackendUnavailable(f"another agent holds {path}") from None
    return descriptor

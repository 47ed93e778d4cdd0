"""The agent's side of its zygotes: one forks, and another takes its place when code has changed.

A zygote is a program of its own, so that it imports what is on disk now. A new one is started
beside the present one and takes over once it says hello, having imported everything; one that can't
leaves everything as it is. Keepers go on: they speak through the socket of the zygote that forked
them for as long as they live.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from lifecycle.agent.protocol import MESSAGE_BYTES, decode, encode
from lifecycle.errors import BackendUnavailable
from lifecycle.types import Instance

log = logging.getLogger(__name__)

HELLO_S = 60.0
# After a zygote that failed to start the next is tried: from this on, doubled each time.
FIRST_RETRY_S = 0.5
LAST_RETRY_S = 30.0
FAILURE_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Zygote:
    process: subprocess.Popen[bytes]
    socket: socket.socket
    hello: asyncio.Future[str]  # the code that it has imported


class Zygotes:
    """Used from one event loop only.

    `on_word` gets what keepers say, `on_code` which code is loaded from now on; `on_death` says
    that what was asked and not answered may be lost.
    """

    def __init__(
        self,
        command: Sequence[str],
        on_word: Callable[[dict[str, Any]], None],
        on_code: Callable[[str], None],
        on_death: Callable[[], None],
    ) -> None:
        self.command = command
        self.on_word = on_word
        self.on_code = on_code
        self.on_death = on_death
        self.code = ""
        self.failure = ""  # why the newest code is not what workers are forked from
        self._current: Zygote | None = None
        self._is_there = asyncio.Event()
        self._replacing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def pid(self) -> int | None:
        return self._current.process.pid if self._current else None

    def begin(self) -> None:
        """Have one, now and whenever the present one dies."""
        task = asyncio.create_task(self._keep_trying())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop_starting(self) -> None:
        """Leave none behind that is not there yet; one that is ends when the agent is gone."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def replace(self) -> str:
        """Start one beside the present one, which retires when it is there; its code.

        Raises `BackendUnavailable` with what it printed, when it can't import the code.
        """
        async with self._replacing:
            try:
                fresh = await self._start()
            except BackendUnavailable as error:
                self.failure = str(error)
                log.error("new workers keep the code that is loaded: %s", error)  # noqa: TRY400
                raise
            former, self._current = self._current, fresh
            self.code, self.failure = fresh.hello.result(), ""
            self._is_there.set()
            if former:
                _retire(former)
        log.info("workers are forked from code %s by pid %s", self.code, fresh.process.pid)
        self.on_code(self.code)
        return self.code

    async def ask(self, instance: Instance) -> None:
        """For a new worker; waits for a zygote. Raises `OSError`."""
        await self._is_there.wait()
        self._send(instance, keep_on=False)

    def ask_keeper(self, instance: Instance) -> None:
        """For another keeper of a worker that lives. Raises `OSError`."""
        self._send(instance, keep_on=True)

    def _send(self, instance: Instance, *, keep_on: bool) -> None:
        if self._current is None:
            raise ConnectionError("there is no zygote yet")
        self._current.socket.send(encode({**asdict(instance), "keep_on": keep_on}))

    async def _keep_trying(self) -> None:
        retry_s = FIRST_RETRY_S
        while self._current is None:
            try:
                await self.replace()
            except BackendUnavailable:
                log.info("trying again in %.1f s", retry_s)
            except Exception:
                log.exception("the zygote could not be started, trying again in %.1f s", retry_s)
            else:
                return
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, LAST_RETRY_S)

    async def _start(self) -> Zygote:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        errors, printed = os.pipe()
        # Its errors come to us until it says hello; then they go where ours go.
        later = os.dup(2)
        command = [*self.command, str(theirs.fileno()), str(later)]
        try:
            process = subprocess.Popen(command, stderr=printed, pass_fds=(theirs.fileno(), later))
        except OSError as error:
            os.close(errors)
            ours.close()
            raise BackendUnavailable(f"can't start the zygote: {error}") from error
        finally:
            theirs.close()
            os.close(printed)
            os.close(later)
        started = Zygote(process, ours, asyncio.get_running_loop().create_future())
        self._watch(started)
        try:
            await asyncio.wait_for(asyncio.shield(started.hello), HELLO_S)
        except (TimeoutError, ConnectionError) as error:
            process.kill()
            raise BackendUnavailable(
                _said(errors) or f"the zygote said nothing: {error}"
            ) from error
        except asyncio.CancelledError:  # the agent ends: it could not hear of it while it imports
            process.kill()
            process.wait()
            raise
        finally:
            os.close(errors)
        return started

    def _watch(self, zygote: Zygote) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(zygote.socket.fileno(), self._on_packet, zygote)
        pidfd = os.pidfd_open(zygote.process.pid)
        loop.add_reader(pidfd, self._on_death, zygote, pidfd)

    def _on_packet(self, zygote: Zygote) -> None:
        try:
            packet = zygote.socket.recv(MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:  # it died before it read all that it was asked
            packet = b""
        if not packet:  # it is gone, and so are all of its keepers
            asyncio.get_running_loop().remove_reader(zygote.socket.fileno())
            zygote.socket.close()
            return
        word = decode(packet)
        if "hello" in word:
            if not zygote.hello.done():
                zygote.hello.set_result(word["hello"])
        else:
            self.on_word(word)

    def _on_death(self, zygote: Zygote, pidfd: int) -> None:
        """Seen by its pidfd: its keepers hold its end of the socket, too."""
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        zygote.process.wait()
        if not zygote.hello.done():
            zygote.hello.set_exception(ConnectionError("it ended before it was ready"))
        if zygote is self._current:
            log.error("the zygote died (%s); starting another", zygote.process.returncode)
            self._current = None
            self._is_there.clear()
            self.on_death()
            self.begin()


def _retire(zygote: Zygote) -> None:
    with suppress(OSError):  # it died by itself
        zygote.socket.send(encode({"retire": True}))


def _said(errors: int) -> str:
    """The last line that it printed, which of a traceback is the error."""
    os.set_blocking(errors, False)
    text = b""
    with suppress(BlockingIOError):
        while block := os.read(errors, FAILURE_BYTES):
            text = (text + block)[-FAILURE_BYTES:]
    lines = text.decode(errors="replace").strip().splitlines()
    return f"the code can't be loaded: {lines[-1].strip()}" if lines else ""

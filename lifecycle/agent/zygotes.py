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
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from socket import socket as Socket
from typing import Any

from lifecycle.agent.layout import instance_to
from lifecycle.agent.protocol import GO, MESSAGE_BYTES, decode, encode
from lifecycle.errors import BackendUnavailable
from lifecycle.types import Instance

log = logging.getLogger(__name__)

HELLO_S = 60.0
# After a zygote that failed to start the next is tried: from this on, doubled each time.
FIRST_RETRY_S = 0.5
LAST_RETRY_S = 30.0
FAILURE_BYTES = 16 * 1024


@dataclass(slots=True)
class Zygote:
    process: subprocess.Popen[bytes]
    socket: Socket
    hello: asyncio.Future[str]  # the code that it has imported
    spare: Socket | None = None  # takes orders for one start
    starts: deque[Instance] = field(default_factory=deque)  # that wait for a spare
    forking: int = 0  # spares on their way

    def send(self, request: dict[str, Any]) -> None:
        """Raises `OSError`."""
        self.socket.send(encode(request))

    def start(self, instance: Instance) -> None:
        """By the spare, or by the next one where there is none, or it was killed.

        Raises `OSError`.
        """
        taken, self.spare = self.spare, None
        if taken:
            with taken, suppress(OSError):
                taken.send(encode(instance_to(instance)))
                taken.send(GO)
                return
        self.starts.append(instance)
        self._fork(len(self.starts))

    def make_ahead(self) -> None:
        """Have a spare that stands by. Raises `OSError`."""
        if self.spare is None:
            self._fork(1)

    def _fork(self, wanted: int) -> None:
        if self.forking < wanted:
            self.send({"spare": True})
            self.forking += 1

    def take(self, spare: Socket) -> None:
        """A spare was forked. Raises `OSError`."""
        self.forking -= 1
        self.spare = spare
        if self.starts:
            self.start(self.starts.popleft())

    def dismiss(self) -> None:
        """Nobody is to be started by its spare any more."""
        if self.spare:
            self.spare.close()
            self.spare = None


class Zygotes:
    """Used from one event loop only.

    `on_word` gets what keepers say, `on_code` which code is loaded from now on; `on_death` says
    which starts are lost with one.
    """

    def __init__(
        self,
        command: Sequence[str],
        on_word: Callable[[dict[str, Any]], None],
        on_code: Callable[[str], None],
        on_death: Callable[[Iterable[Instance]], None],
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

    @property
    def has_spare(self) -> bool:
        return self._current is not None and self._current.spare is not None

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
            self.make_ahead()
            if former:
                _retire(former)
        log.info("workers are forked from code %s by pid %s", self.code, fresh.process.pid)
        self.on_code(self.code)
        return self.code

    async def ask(self, instance: Instance) -> None:
        """For a new worker; waits for a zygote. Raises `OSError`."""
        while self._current is None:
            await self._is_there.wait()
        self._current.start(instance)

    def make_ready(self, instance: Instance) -> Socket | None:
        """Have the spare, if there is one, read what is to start: it starts once told to go on this
        socket, and ends when that is closed before."""
        if self._current is None or self._current.spare is None:
            return None
        taken, self._current.spare = self._current.spare, None
        try:
            taken.send(encode(instance_to(instance)))
        except OSError:  # it was killed
            taken.close()
            return None
        return taken

    def ask_keeper(self, instance: Instance) -> None:
        """For another keeper of a worker that lives. Raises `OSError`."""
        if self._current is None:
            raise ConnectionError("there is no zygote yet")
        self._current.send({"keep_on": instance_to(instance)})

    def make_ahead(self) -> None:
        """Have a spare for the next start."""
        if self._current:
            with suppress(OSError):  # it died: the next one has one made
                self._current.make_ahead()

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
            packet, passed, _flags, _address = socket.recv_fds(zygote.socket, MESSAGE_BYTES, 1)
        except BlockingIOError:
            return
        except OSError:  # it died before it read all that it was asked
            packet, passed = b"", []
        if not packet:  # it is gone, and so are all of its keepers
            asyncio.get_running_loop().remove_reader(zygote.socket.fileno())
            zygote.socket.close()
            return
        word = decode(packet)
        if "hello" in word:
            if not zygote.hello.done():
                zygote.hello.set_result(word["hello"])
        elif "spare" in word:
            self._take_spare(zygote, socket.socket(fileno=passed[0]))
        else:
            self.on_word(word)

    def _take_spare(self, zygote: Zygote, spare: Socket) -> None:
        with suppress(OSError):  # it died: what was asked is lost with it
            zygote.take(spare)
        if zygote is not self._current:
            zygote.dismiss()

    def _on_death(self, zygote: Zygote, pidfd: int) -> None:
        """Seen by its pidfd: its keepers hold its end of the socket, too."""
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        zygote.process.wait()
        zygote.dismiss()
        if not zygote.hello.done():
            zygote.hello.set_exception(ConnectionError("it ended before it was ready"))
        if zygote is self._current:
            log.error("the zygote died (%s); starting another", zygote.process.returncode)
            self._current = None
            self._is_there.clear()
            self.on_death(zygote.starts)
            self.begin()


def _retire(zygote: Zygote) -> None:
    zygote.dismiss()
    with suppress(OSError):  # it died by itself
        zygote.send({"retire": True})


def _said(errors: int) -> str:
    """The last line that it printed, which of a traceback is the error."""
    os.set_blocking(errors, False)
    text = b""
    with suppress(BlockingIOError):
        while block := os.read(errors, FAILURE_BYTES):
            text = (text + block)[-FAILURE_BYTES:]
    lines = text.decode(errors="replace").strip().splitlines()
    return f"the code can't be loaded: {lines[-1].strip()}" if lines else ""

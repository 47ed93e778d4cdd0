"""Keeps processes alive: each death is an event, each wait a deadline, and nothing ticks."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from crm.env import CHECKOUT, Env
from crm.up import gate, output
from crm.up.parts import Part, environment
from crm.up.state import PartRecord, PartState, UpState, write
from lifecycle.agent import process
from lifecycle.policy import Restart, RestartPolicy, decide
from lifecycle.types import Exit, RestartMode

# Parts are never given up: after a stable run at once, then slower and slower, then every 30 s.
POLICY = RestartPolicy(
    mode=RestartMode.ALWAYS,
    delay=timedelta(seconds=0.5),
    cap=timedelta(seconds=30),
    max_attempts=None,
    stable=timedelta(seconds=10),
    window=None,
)
MANY_ATTEMPTS = 5
ROTATION_S = 60.0
HASTY_S = 0.5

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Kept:
    """One part under supervision."""

    part: Part
    record: PartRecord
    process: subprocess.Popen[bytes] | None = None
    stopping: bool = False
    started: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Supervisor:
    """Starts parts, starts them again when they die, and ends them. Lives in one event loop."""

    def __init__(self, env: Env, state: UpState, say: Callable[[str], None]) -> None:
        self.env, self.state, self.say = env, state, say
        self.hasten = asyncio.Event()  # set: what still waits for a graceful end is cut short
        self._kept: dict[str, Kept] = {}
        self._rotation = asyncio.create_task(self._rotate())

    def start(self, part: Part) -> None:
        kept = self._kept[part.name] = Kept(part, PartRecord(part.name))
        self.state.parts.append(kept.record)
        kept.task = asyncio.create_task(self._keep(kept), name=part.name)

    async def started(self, name: str) -> None:
        """Return once the part has a process, the first one or a later one."""
        await self._kept[name].started.wait()

    def log_file(self, name: str) -> Path:
        return self.env.home / "logs" / f"{name}.log"

    @asynccontextmanager
    async def oneshot(
        self, name: str, *command: str, **extra: str
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """A process that does one thing and tells it on its stdout, written down while it runs;
        `extra` is for its environment. One that still runs at the end of the block is killed."""
        record = PartRecord(name)
        descriptor = output.open_log(self.log_file(name))
        try:
            child = await asyncio.create_subprocess_exec(
                *gate.before((sys.executable, *command)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=descriptor,
                cwd=CHECKOUT,
                env=environment(self.env, name, extra),
                start_new_session=True,
            )
        finally:
            os.close(descriptor)
        try:
            self.state.parts.append(record)
            self._note(record, PartState.RUNNING, child.pid)
            child.stdin.write(gate.WORD)  # type: ignore[union-attr]
            child.stdin.close()  # type: ignore[union-attr]
            yield child
        finally:
            if child.returncode is None:
                child.kill()
            await child.wait()
            self.state.parts.remove(record)
            self._write()

    async def end(self, name: str, *ladder: tuple[signal.Signals, float]) -> None:
        """End a part: each signal with its patience in seconds, then SIGKILL to its group."""
        kept = self._kept.get(name)
        if kept is None or kept.task is None:
            return
        kept.stopping = True
        if kept.process is None:  # it waits for its next start
            kept.task.cancel()
            kept.gone.set()
        self._note(kept.record, PartState.STOPPING)
        for number, patience_s in ladder:
            if kept.gone.is_set():
                break
            self._signal(kept, number)
            await self._wait_gone(kept, patience_s)
        if not kept.gone.is_set():
            log.error("part did not stop in time: killed", extra={"unit": name})
            self.say(f"{name} did not stop in time: killed")
            self._signal(kept, signal.SIGKILL)
            await kept.gone.wait()
        self._note(kept.record, PartState.STOPPED, None)

    async def close(self) -> None:
        self._rotation.cancel()
        await asyncio.gather(self._rotation, return_exceptions=True)

    async def _keep(self, kept: Kept) -> None:
        """The life of one part: start, wait for the end, ask the policy, wait, start again."""
        attempts = 0
        while not kept.stopping:
            begun = asyncio.get_running_loop().time()
            exit_ = await self._run_once(kept)
            if kept.stopping:
                break
            uptime = timedelta(seconds=asyncio.get_running_loop().time() - begun)
            now = datetime.now(UTC)
            decision = decide(
                POLICY,
                attempts=attempts,
                since=now,
                uptime=uptime,
                exit=exit_,
                now=now,
                random=random.random,
            )
            if not isinstance(decision, Restart):  # the policy of parts has no other answer
                raise TypeError(decision)
            attempts = decision.attempts
            delay_s = max(0.0, (decision.at - now).total_seconds())
            self._report_death(kept, exit_, uptime, attempts, delay_s)
            await asyncio.sleep(delay_s)
        kept.gone.set()

    async def _run_once(self, kept: Kept) -> Exit:
        """One run of a part, from its preparation to its end."""
        try:
            await self._spawn(kept)
        except Exception as error:  # the edge of this part's life: whatever it was, try again
            log.exception("part can't be started", extra={"unit": kept.part.name})
            return Exit(note=f"can't be started: {error}")
        if kept.process is None:
            return Exit(note="stopped before it started")
        code = await _ended(kept.process)
        kept.process = None
        return Exit(code=code) if code >= 0 else Exit(signal=-code)

    async def _spawn(self, kept: Kept) -> None:
        launch = await asyncio.to_thread(kept.part.prepare)
        if kept.stopping:
            return
        descriptor = output.open_log(self.log_file(kept.part.name))
        try:
            kept.process = subprocess.Popen(
                gate.before(launch.command),
                stdin=subprocess.PIPE,
                stdout=descriptor,
                stderr=descriptor,
                cwd=CHECKOUT,
                env=environment(self.env, kept.part.name, launch.environment),
                start_new_session=True,
                **launch.identity,
            )
        finally:
            os.close(descriptor)
        log.info("part started", extra={"unit": kept.part.name, "pid": kept.process.pid})
        self._note(kept.record, PartState.RUNNING, kept.process.pid)
        with suppress(BrokenPipeError), kept.process.stdin as opened:  # type: ignore[union-attr]
            opened.write(gate.WORD)
        kept.started.set()

    def _report_death(
        self, kept: Kept, exit_: Exit, uptime: timedelta, attempts: int, delay_s: float
    ) -> None:
        name = kept.part.name
        kept.record.restarts += 1
        self._note(kept.record, PartState.WAITING, None)
        when = f"in {delay_s:.1f} s" if delay_s else "now"
        said = (
            f"{name} ended after {uptime.total_seconds():.1f} s: {exit_}; starting it again {when}"
        )
        if attempts >= MANY_ATTEMPTS:
            log.error(said, extra={"unit": name, "attempts": attempts})
            said += f" (attempt {attempts}, see {self.log_file(name)})"
        else:
            log.warning(said, extra={"unit": name, "attempts": attempts})
        self.say(said)

    def _note(self, record: PartRecord, now: PartState, pid: int | None = -1) -> None:
        """Write a change down. `pid` -1: the process is as before."""
        record.state = now
        if pid is None:
            record.pid = record.started_ticks = record.started_at = None
        elif pid != -1:
            record.pid, record.started_ticks = pid, process.started_ticks(pid)
            record.started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._write()

    def _write(self) -> None:
        try:
            write(self.env.home, self.state)
        except OSError:
            log.exception("up.json can't be written")

    def _signal(self, kept: Kept, number: signal.Signals) -> None:
        if kept.process is None:
            return
        try:
            if number is signal.SIGKILL:
                os.killpg(kept.process.pid, number)
            else:
                kept.process.send_signal(number)
        except ProcessLookupError:
            pass

    async def _wait_gone(self, kept: Kept, patience_s: float) -> None:
        """Wait for the end, at most `patience_s`; once hastened, at most `HASTY_S`."""
        gone = asyncio.create_task(kept.gone.wait())
        hastened = asyncio.create_task(self.hasten.wait())
        await asyncio.wait(
            {gone, hastened}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED
        )
        if not gone.done() and hastened.done():
            await asyncio.wait({gone}, timeout=min(patience_s, HASTY_S))
        for task in (gone, hastened):
            task.cancel()

    async def _rotate(self) -> None:
        while True:
            await asyncio.sleep(ROTATION_S)
            for name in list(self._kept):
                try:
                    await asyncio.to_thread(output.rotate, self.log_file(name))
                except OSError:
                    log.exception("a log can't be rotated", extra={"unit": name})


async def _ended(child: subprocess.Popen[bytes]) -> int:
    """The exit code of a child (negative: the signal), once its pidfd says that it ended."""
    loop = asyncio.get_running_loop()
    descriptor = os.pidfd_open(child.pid)
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return child.wait()

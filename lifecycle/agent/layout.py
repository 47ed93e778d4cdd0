"""Where the agent keeps things on its host's disk.

<home>/run/workers/<worker_id>/lock.{0,1}       held by keeper and worker while one lives
<home>/run/workers/.next/                       made ahead for the next spawn
<home>/run/workers/<worker_id>/<generation>/    one spawn:
    spec.json       what to start, written before the spawn
    instance.json   keeper and worker, written once both exist
    stdout, stderr  FIFOs, open in the worker
    keeper          lock of the keeper's place
    exit.json       how it ended, fsynced; kept until the master acknowledges it
<home>/logs/workers/<worker_id>/
    {stdout,stderr}.log           what it prints now
    {stdout,stderr}.log.000001 …  what it printed before, oldest first (see `logfiles`)
    {stdout,stderr}.turns         lock of who writes now: a worker and its successor take turns;
                                  in it, the bytes that were lost and not confessed yet
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from lifecycle.agent.limits import Room
from lifecycle.agent.output import LogPump
from lifecycle.types import Alive, Exit, Gone, Instance, Pool, ProcessRef, WorkerSpec

STREAMS = ("stdout", "stderr")
SPEC = tuple(field.name for field in fields(WorkerSpec))


@dataclass(frozen=True, slots=True)
class Home:
    path: Path
    room: Room | None = None  # where workers get cgroups, if this host permits it

    @property
    def workers(self) -> Path:
        return self.path / "run" / "workers"

    @property
    def furnished(self) -> Path:
        """A folder that was made ahead for the next spawn, which renames it."""
        return self.workers / ".next"

    def make_ahead(self) -> None:
        with suppress(OSError):  # then the next start makes it
            _furnish(self.furnished)

    def spawn_dir(self, instance: Instance) -> SpawnDir:
        return SpawnDir(
            self, instance, self.workers / instance.worker_id / str(instance.generation)
        )

    def lock_files(self, instance: Instance) -> list[Path]:
        """Two locks a worker: a successor may run beside the one that it replaces, and nothing
        beside both. In the order in which this instance tries them."""
        numbers = (instance.generation % 2, (instance.generation + 1) % 2)
        return [self.workers / instance.worker_id / f"lock.{number}" for number in numbers]

    def log_file(self, worker_id: str, stream: str) -> Path:
        return self.path / "logs" / "workers" / worker_id / f"{stream}.log"

    def logs(self) -> list[Path]:
        """The logs of all workers that ever were here."""
        return [turns.with_suffix(".log") for turns in self.path.glob("logs/workers/*/*.turns")]

    def spawns(self) -> Iterator[SpawnDir]:
        """Every spawn that is on disk, oldest generation first."""
        for folder in sorted(
            self.workers.glob("*/*/"), key=lambda f: (f.parent.name, len(f.name), f.name)
        ):
            if folder.name.isdigit():
                yield self.spawn_dir(Instance(folder.parent.name, int(folder.name)))


@dataclass(frozen=True, slots=True)
class SpawnDir:
    """The folder of one spawn."""

    home: Home
    instance: Instance
    path: Path

    def create(self, spec: WorkerSpec) -> None:
        """Everything a keeper needs, before it is forked."""
        folder, logs = self.path, self.home.log_file(self.instance.worker_id, STREAMS[0]).parent
        with suppress(OSError):  # there is none, or it is the worker's first
            self.home.furnished.rename(folder)
        _furnish(folder)
        if not logs.is_dir():
            logs.mkdir(parents=True, exist_ok=True)
        write_json(self.path / "spec.json", spec_to(spec))

    def fifo(self, stream: str) -> Path:
        return self.path / stream

    def hold_pipes(self) -> list[int]:
        """Descriptors to be closed by the caller: until then no pipe loses what is written to it,
        whoever else goes."""
        flags = os.O_RDWR | os.O_NONBLOCK
        return [os.open(self.fifo(stream), flags) for stream in STREAMS]

    def pump(self, stream: str, spec: WorkerSpec) -> LogPump:
        """What moves the output of this spawn; the caller holds the lock of the logs."""
        log = self.home.log_file(self.instance.worker_id, stream)
        return LogPump(self.fifo(stream), log, spec.log_max_bytes, spec.log_files)

    def spec(self) -> WorkerSpec:
        return spec_from(json.loads((self.path / "spec.json").read_text()))

    def record_instance(self, keeper: ProcessRef, worker: Alive) -> None:
        write_json(self.path / "instance.json", record_of(keeper, worker))

    def processes(self) -> tuple[ProcessRef, Alive] | None:
        """Keeper and worker as recorded, or None when the spawn did not get that far."""
        found = self._read("instance.json")
        return record_from(found) if found else None

    def record_exit(self, gone: Gone) -> None:
        """Survives the end of every process, but not yet that of the machine."""
        write_json(self.path / "exit.json", gone_to(gone))

    def make_exit_durable(self) -> None:
        """The exit record survives a power cut from here on; one that was acknowledged is gone."""
        with suppress(FileNotFoundError):
            descriptor = os.open(self.path / "exit.json", os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)

    def gone(self) -> Gone | None:
        found = self._read("exit.json")
        return gone_from(found) if found else None

    def _read(self, name: str) -> dict[str, Any] | None:
        """None: not written, or lost with the machine's power. What was not fsynced by then may
        come back empty, and nothing of its spawn lives."""
        try:
            content: dict[str, Any] = json.loads((self.path / name).read_text())
        except (FileNotFoundError, ValueError):
            return None
        return content

    def take_lock(self, *, beside_other: bool) -> int | None:
        """One of the worker's two locks, to be kept open by keeper, worker and all their children
        [L11].

        None when somebody holds both; or, unless `beside_other`, one of them.
        """
        locks = [_flock(path) for path in self.home.lock_files(self.instance)]
        free = [descriptor for descriptor in locks if descriptor is not None]
        is_mine = bool(free) and (beside_other or len(free) == len(locks))
        for descriptor in free[1:] if is_mine else free:
            os.close(descriptor)
        return free[0] if is_mine else None

    def take_keeper_lock(self) -> bool:
        """One keeper a spawn, for as long as this process lives. False when there is another.

        A lock of the process (not flock): the worker, forked later, does not share it.
        """
        descriptor = os.open(self.path / "keeper", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            os.close(descriptor)
            return False
        return True

    def has_keeper(self) -> bool:
        """Whether a keeper is at work in this folder: looks at its lock without taking it."""
        wanted = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        try:
            with (self.path / "keeper").open("r+b") as file:
                found = fcntl.fcntl(file, fcntl.F_GETLK, wanted)
        except FileNotFoundError:
            return False
        return bool(struct.unpack("hhqqi", found)[0] != fcntl.F_UNLCK)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def _furnish(folder: Path) -> None:
    """Also one that was half made. Raises `OSError`."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for stream in STREAMS:
        with suppress(FileExistsError):
            os.mkfifo(folder / stream, 0o600)


def _flock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file that is never seen half-written, but perhaps empty after a power cut."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(json.dumps(content))
    draft.rename(path)


# --- the same data as JSON, on disk and on the wire; by hand, as `asdict` copies deep ---------


def spec_to(spec: WorkerSpec) -> dict[str, Any]:
    """Shares its lists and its environment with the spec."""
    return {name: getattr(spec, name) for name in SPEC} | {"instance": instance_to(spec.instance)}


def spec_from(data: dict[str, Any]) -> WorkerSpec:
    return WorkerSpec(
        **{
            **data,
            "instance": Instance(**data["instance"]),
            "queues": tuple(data["queues"]),
            "args": tuple(data["args"]),
            "pool": Pool(data["pool"]),
        }
    )


def instance_to(instance: Instance) -> dict[str, Any]:
    return {"worker_id": instance.worker_id, "generation": instance.generation}


def process_to(process: ProcessRef) -> dict[str, Any]:
    return {
        "pid": process.pid,
        "started_ticks": process.started_ticks,
        "boot_id": process.boot_id,
    }


def alive_to(alive: Alive) -> dict[str, Any]:
    return {
        "instance": instance_to(alive.instance),
        "process": process_to(alive.process),
        "started_at": alive.started_at.isoformat(),
        "code": alive.code,
    }


def alive_from(data: dict[str, Any]) -> Alive:
    return Alive(
        instance=Instance(**data["instance"]),
        process=ProcessRef(**data["process"]),
        started_at=datetime.fromisoformat(data["started_at"]),
        code=data.get("code", ""),  # a record of an older agent has none
    )


def record_of(keeper: ProcessRef, worker: Alive) -> dict[str, Any]:
    return {"keeper": process_to(keeper), "worker": alive_to(worker)}


def record_from(data: dict[str, Any]) -> tuple[ProcessRef, Alive]:
    return ProcessRef(**data["keeper"]), alive_from(data["worker"])


def gone_to(gone: Gone) -> dict[str, Any]:
    return {
        "instance": instance_to(gone.instance),
        "exit": {"code": gone.exit.code, "signal": gone.exit.signal, "note": gone.exit.note},
        "started_at": gone.started_at.isoformat(),
        "ended_at": gone.ended_at.isoformat(),
    }


def gone_from(data: dict[str, Any]) -> Gone:
    return Gone(
        instance=Instance(**data["instance"]),
        exit=Exit(**data["exit"]),
        started_at=datetime.fromisoformat(data["started_at"]),
        ended_at=datetime.fromisoformat(data["ended_at"]),
    )

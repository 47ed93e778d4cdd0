"""Workers on this host, through its agent's Unix socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from lifecycle.agent.client import AgentClient
from lifecycle.agent.layout import alive_from, gone_from, instance_to, spec_to
from lifecycle.agent.logclient import LogFeed
from lifecycle.backends.base import (
    BackendEvent,
    Ending,
    Loaded,
    LogStart,
    Meanwhile,
    Sampled,
    Snapshot,
)
from lifecycle.types import Alive, DeploymentType, Instance, WorkerSpec


class LocalBackend:
    deployment_type: ClassVar[DeploymentType] = DeploymentType.LOCAL

    def __init__(self, socket_path: Path) -> None:
        self.agent = AgentClient(socket_path)

    def start(self, spec: WorkerSpec, meanwhile: Meanwhile | None = None) -> Alive:
        return alive_from(self.agent.call("start", meanwhile=meanwhile, spec=spec_to(spec)))

    def stop(self, instance: Instance, *, graceful: bool, timeout_s: float) -> bool:
        answer = self.agent.call(
            "stop", instance=instance_to(instance), graceful=graceful, timeout_s=timeout_s
        )
        return bool(answer["runs"])

    def watch(self) -> Iterator[BackendEvent]:
        for message in self.agent.watch():
            event = _event(message)
            if event is not None:
                yield event

    def acknowledge(self, instance: Instance) -> None:
        self.agent.call("acknowledge", instance=instance_to(instance))

    def read_log(self, worker_id: str, stream: str, start: LogStart) -> LogFeed:
        return self.agent.open_log("read_log", worker_id=worker_id, stream=stream, **_wire(start))

    def follow_log(self, worker_id: str, stream: str, start: LogStart) -> LogFeed:
        return self.agent.open_log("follow", worker_id=worker_id, stream=stream, **_wire(start))

    def logged_workers(self) -> dict[str, float]:
        found: dict[str, float] = self.agent.call("logged_workers")["workers"]
        return found

    def remove_logs(self, worker_id: str) -> bool:
        return bool(self.agent.call("remove_logs", worker_id=worker_id)["removed"])


def _wire(start: LogStart) -> dict[str, Any]:
    return {
        "after": str(start.after) if start.after else None,
        "tail": start.tail,
        "since": start.since.timestamp() if start.since else 0,
    }


def _event(message: dict[str, Any]) -> BackendEvent | None:
    match message["event"]:
        case "snapshot":
            return Snapshot(
                tuple(alive_from(row) for row in message["alive"]),
                tuple(gone_from(row) for row in message["gone"]),
                message.get("code", ""),
            )
        case "started":
            return alive_from(message)
        case "ending":
            return Ending(Instance(message["worker_id"], message["generation"]))
        case "gone":
            return gone_from(message)
        case "code":
            return Loaded(message["code"])
        case "samples":
            return Sampled(
                tuple(
                    (Instance(worker_id, generation), cpu, memory)
                    for worker_id, generation, cpu, memory in message["samples"]
                )
            )
        case _:
            return None

"""The figures of a whole system: `python -m tests.benchmarks.first_light`.

Start to `ready`, config to `running`, kill -9 to `running`, a message from the chat server to its
row, memory of each part. Absolute times depend on the machine; each is a median with its worst.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from tests.benchmarks.own_home import set_up

set_up()

from crm.demo import synapse
from crm.demo.install import install
from tests.contract.matrix_stage import MatrixStage, matrix_stage
from tests.e2e.driving import add_account, add_worker, api_of
from tests.e2e.system import System

KILLS = 20
MESSAGES = 50
POLL_S = 0.005


def until(check: Callable[[], Any], timeout_s: float = 60.0) -> float:
    """Seconds until `check` is true."""
    begun = time.monotonic()
    while not check():
        if time.monotonic() - begun > timeout_s:
            raise TimeoutError(f"not within {timeout_s} s")
        time.sleep(POLL_S)
    return time.monotonic() - begun


def status(client: httpx.Client, worker_id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/workers/{worker_id}/status").raise_for_status().json()
    return found


def runs(client: httpx.Client, worker_id: str, after_generation: int = 0) -> bool:
    now = status(client, worker_id)
    return bool(now["status"] == "running" and now["generation"] > after_generation)


def show(what: str, seconds: list[float]) -> None:
    median, worst = statistics.median(seconds) * 1000, max(seconds) * 1000
    print(f"{what:<58} median {median:7.0f} ms   worst {worst:7.0f} ms   n {len(seconds)}")


def config_to_running(client: httpx.Client) -> list[float]:
    taken = []
    for number in range(10):
        worker_id = f"bench-{number}"
        begun = time.monotonic()
        add_worker(client, worker_id, auto_start=True)
        until(partial(runs, client, worker_id))
        taken.append(time.monotonic() - begun)
        client.post(f"/workers/{worker_id}/stop", json={"graceful": False})
    return taken


def kill_to_running(client: httpx.Client, worker_id: str, kills: int) -> list[float]:
    taken = []
    for _ in range(kills):
        before = status(client, worker_id)
        os.kill(before["process_id"], signal.SIGKILL)
        taken.append(until(partial(runs, client, worker_id, before["generation"])))
    return taken


async def message_to_row(client: httpx.Client, server: synapse.Synapse) -> list[float]:
    async with matrix_stage(server) as stage:
        room = await stage.thread()
        add_account(client, stage.account)
        await asyncio.to_thread(until, lambda: client.get("/inbox/summary").json()["conversations"])
        return [await one_message(client, stage, room, n) for n in range(MESSAGES)]


async def one_message(client: httpx.Client, stage: MatrixStage, room: str, number: int) -> float:
    begun = time.monotonic()
    await stage.say(room, f"message {number}")
    total = number + 1
    await asyncio.to_thread(until, lambda: client.get("/inbox/summary").json()["messages"] >= total)
    return time.monotonic() - begun


def main() -> None:
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="muster-bench-")))
        system = System(home / "home")
        stack.callback(system.kill_everything)
        print(f"up, first time, to ready {system.up():.1f} s")
        print(f"stop {system.stop():.1f} s")
        print(f"up, second time, to ready {system.up():.1f} s")
        memory = system.manage("ps").stdout
        client = stack.enter_context(api_of(system))
        show("config created → worker running", config_to_running(client))
        add_worker(client, "fast", auto_start=True, max_restart_attempts=1000)
        until(partial(runs, client, "fast"))
        show("kill -9 → running, delay 0", kill_to_running(client, "fast", KILLS))
        client.post("/worker-configs", json={"worker_id": "usual", "auto_start": True})
        until(partial(runs, client, "usual"))
        show("kill -9 → running, default settings", kill_to_running(client, "usual", 1))
        cache = Path(os.environ.get("MUSTER_TEST_CACHE") or "~/.cache/muster").expanduser()
        python = install(cache / "synapse", print)
        with synapse.Synapse(home / "synapse", python) as server:
            taken = asyncio.run(message_to_row(client, server))
        show("message sent on Matrix → its row in the API", taken)
        print(memory)


if __name__ == "__main__":
    main()

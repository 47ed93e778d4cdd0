"""Logs, measured: what a keeper moves and costs, and what a follower receives.

`python -m tests.benchmarks.logs` starts an agent with tiny workers in a temporary home.
"""

from __future__ import annotations

import asyncio
import threading
import time

import psutil

from tests.benchmarks.own_home import set_up

set_up()

from lifecycle.backends.base import LogSource, LogStart
from lifecycle.logs.lines import Place
from lifecycle.logs.reading import server_sent
from lifecycle.logs.redaction import Redactor
from lifecycle.types import Instance
from tests.host import Host, running_host, spec

LINES = 500_000
PACED = 10_000  # lines a second
PACED_S = 10


def keeper_moves(host: Host) -> None:
    """As fast as a process can print: lines a second until the last one is in the file."""
    begun = time.monotonic()
    host.backend.start(spec(f"burst={LINES}", "exit=0", log_max_bytes=10**9))
    host.gone(Instance("worker-1", 1))
    took = time.monotonic() - begun
    print(f"keeper moves          {LINES / took:>10,.0f} lines/s (100 bytes each, {took:.1f} s)")


def follower_receives(host: Host) -> None:
    """The backlog as server-sent events: read, cut, parsed, redacted, rendered."""
    source = host.backend.follow_log("worker-1", "stdout", LogStart(after=Place(1, 0)))
    begun, used = time.monotonic(), time.process_time()
    received = asyncio.run(_until_live(source))
    took, used = time.monotonic() - begun, time.process_time() - used
    assert received == LINES
    print(f"a follower receives   {received / took:>10,.0f} lines/s as server-sent events")
    print(f"the web could send    {received / used:>10,.0f} lines for a second of CPU")


async def _until_live(source: LogSource) -> int:
    received = 0
    async for chunk in server_sent(source, Redactor(["a secret of the worker"])):
        if chunk.startswith(b"event: live"):
            break
        received += chunk.count(b'\ndata: {"line"')
    return received


def keeper_costs(host: Host) -> None:
    """CPU of the keeper while its worker prints at a given rate, and while it prints nothing."""
    for rate in (PACED, 100, 0):
        name = f"paced-{rate}"
        words = [f"paced={rate}"] if rate else []
        host.backend.start(spec(*words, worker_id=name))
        keeper = psutil.Process(host.keeper_pid(name))
        before, begun = sum(keeper.cpu_times()[:2]), time.monotonic()
        threading.Event().wait(PACED_S)
        used = sum(keeper.cpu_times()[:2]) - before
        share = 100 * used / (time.monotonic() - begun)
        print(f"keeper at {rate:>6,} lines/s   {share:>6.1f} % of one core")
        alive = next(a for a in host.snapshot().alive if a.instance.worker_id == name)
        host.backend.stop(alive.instance, graceful=False, timeout_s=0)


def main() -> None:
    with running_host() as host:
        keeper_moves(host)
        follower_receives(host)
        keeper_costs(host)


if __name__ == "__main__":
    main()

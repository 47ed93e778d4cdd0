"""Many open consoles on one web process [S10]: `python -m tests.benchmarks.consoles [consoles]`.

Messages are stored at a given rate as a check does; the clients, in a process of their own, note
when each one's event arrives. Delay: from before the transaction to the bytes in the client.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from tests.e2e.system import System

CONSOLES = 500
RATE = 50  # messages a second
WRITERS = 5  # accounts that are written at once, each at its part of the rate
SECONDS = 20
ROOMS = 40
STAMP = re.compile(rb'"last_message_text":"t=(\d+)\.')


# --- the clients, in a process of their own -------------------------------------------------


Arrival = tuple[int, int]  # the message's stamp, when it was there; nanoseconds


async def console(
    host: str, port: int, token: str, arrivals: list[Arrival], ready: list[int]
) -> None:
    """One console, as cheap as can be: the raw stream, and a look for stamps in each chunk."""
    reader, writer = await asyncio.open_connection(host, port)
    head = f"GET /api/v1/events HTTP/1.1\r\nHost: {host}\r\nAuthorization: Token {token}\r\n\r\n"
    writer.write(head.encode())
    rest, told = b"", False
    while chunk := await reader.read(1 << 16):
        now = time.monotonic_ns()
        rest += chunk
        if not told and b"event: live" in rest:
            told = True
            ready.append(1)
        whole, _, rest = rest.rpartition(b"\n\n")
        for stamp in STAMP.findall(whole):
            arrivals.append((int(stamp), now))


async def consoles(host: str, port: int, token: str, count: int) -> None:
    """Says `ready` when all are live; all arrivals as JSON when its input ends."""
    arrivals: list[Arrival] = []
    ready: list[int] = []
    tasks = [asyncio.create_task(console(host, port, token, arrivals, ready)) for _ in range(count)]
    while len(ready) < count:
        await asyncio.sleep(0.05)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    print(json.dumps(arrivals), flush=True)


# --- the writer -----------------------------------------------------------------------------


def write(account_id: int, seconds: float) -> dict[int, int]:
    """Store an account's part of the messages, each in a batch of its own: stamp → committed."""
    from django.db import connection

    try:
        return _write(account_id, seconds)
    finally:
        connection.close()


def _write(account_id: int, seconds: float) -> dict[int, int]:
    from datetime import UTC, datetime

    from sync import store
    from sync.models import Account
    from sync.types import Batch, Direction, Lease, MessageRecord

    account = Account.objects.get(pk=account_id)
    committed: dict[int, int] = {}
    sequence, begun = account.sequence, time.monotonic()
    while time.monotonic() < begun + seconds:
        stamp = time.monotonic_ns()
        record = MessageRecord(
            external_id=f"m{stamp}",
            conversation_id=f"!{len(committed) % ROOMS}",
            sender_id="@ann",
            sender_name="Ann",
            text=f"t={stamp}. {'x' * 150}",
            sent_at=datetime.now(UTC),
            direction=Direction.INBOUND,
        )
        batch = Batch(None, (record,))
        lease = Lease(account_id, account.epoch)
        sequence = store.ingest_batch(lease, sequence, batch).sequence
        committed[stamp] = time.monotonic_ns()
        time.sleep(max(0.0, begun + len(committed) * WRITERS / RATE - time.monotonic()))
    return committed


def write_all(account_ids: list[int]) -> dict[int, int]:
    committed: dict[int, int] = {}
    with ThreadPoolExecutor(WRITERS) as threads:
        for part in threads.map(lambda one: write(one, SECONDS), account_ids):
            committed |= part
    return committed


def figures(delays: list[float]) -> str:
    """Median, p99 and worst, in ms."""
    ordered = sorted(delays)
    p99 = ordered[int(len(ordered) * 0.99)]
    return f"{statistics.median(ordered):.0f} / {p99:.0f} / {ordered[-1]:.0f}"


def measure(system: System, token: str, account_ids: list[int], count: int) -> None:
    web = psutil.Process(system.part("web")["pid"])
    before = web.memory_info().rss
    clients = subprocess.Popen(
        [
            *(sys.executable, "-m", __spec__.name, "--clients"),
            *("127.0.0.1", str(system.port), token, str(count)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert clients.stdout
    assert clients.stdout.readline() == "ready\n"
    opened = web.memory_info().rss
    used, begun = sum(web.cpu_times()[:2]), time.monotonic()
    sent = write_all(account_ids)
    cpu = (sum(web.cpu_times()[:2]) - used) / (time.monotonic() - begun)
    time.sleep(2)
    out, _ = clients.communicate()
    arrivals: list[Arrival] = json.loads(out)
    show = {
        "consoles": count,
        "messages/s": round(len(sent) / SECONDS, 1),
        "delivered": f"{len(arrivals)} of {len(sent) * count}",
        "commit → client ms": figures([(at - sent[stamp]) / 1e6 for stamp, at in arrivals]),
        "from before the write": figures([(at - stamp) / 1e6 for stamp, at in arrivals]),
        "web, % of a core": round(100 * cpu, 1),
        "web MB": f"{before / 1e6:.0f} → {opened / 1e6:.0f} → {web.memory_info().rss / 1e6:.0f}",
        "load": round(os.getloadavg()[0], 1),
    }
    print("  ".join(f"{name}: {value}" for name, value in show.items()), flush=True)


def prepare() -> list[int]:
    """Accounts to write for."""
    import django

    django.setup()
    from sync.services import create_account

    def account(number: int) -> int:
        fields = {
            "platform": "matrix",
            "identifier": f"@bench-{number}:example.org",
            "endpoint": "https://matrix.example.org",
            "credentials": {"username": "bench", "password": "bench"},
            "enabled": False,
        }
        made: int = create_account(fields).pk
        return made

    return [account(number) for number in range(WRITERS)]


def main() -> None:
    if sys.argv[1:2] == ["--clients"]:
        host, port, token, most = sys.argv[2:]
        asyncio.run(consoles(host, int(port), token, int(most)))
        return
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as folder:
        home = Path(folder) / "home"  # known before the settings are read, by the next import
        os.environ |= {"DJANGO_SETTINGS_MODULE": "crm.settings", "MUSTER_HOME": str(home)}
        from tests.e2e.driving import api_of
        from tests.e2e.system import System

        system = System(home)
        try:
            system.up()
            account_ids = prepare()
            with api_of(system) as client:
                token = client.headers["Authorization"].removeprefix("Token ")
            for count in [int(one) for one in sys.argv[1:]] or [1, 100, CONSOLES]:
                measure(system, token, account_ids, count)
        finally:
            system.kill_everything()


if __name__ == "__main__":
    main()

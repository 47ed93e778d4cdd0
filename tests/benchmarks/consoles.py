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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from tests.e2e.system import System

CONSOLES = 500
RATE = 50  # messages a second
SECONDS = 20
ROOMS = 40
STAMP = re.compile(rb'"last_message_text":"t=(\d+)\.')


# --- the clients, in a process of their own -------------------------------------------------


async def console(host: str, port: int, token: str, delays: list[float], ready: list[int]) -> None:
    """One console, as cheap as can be: the raw stream, and a look for stamps in each chunk."""
    reader, writer = await asyncio.open_connection(host, port)
    head = f"GET /api/v1/events HTTP/1.1\r\nHost: {host}\r\nAuthorization: Token {token}\r\n\r\n"
    writer.write(head.encode())
    seen, rest, told = 0, b"", False
    while chunk := await reader.read(1 << 16):
        now = time.monotonic_ns()
        rest += chunk
        if not told and b"event: live" in rest:
            told = True
            ready.append(1)
        whole, _, rest = rest.rpartition(b"\n\n")
        for stamp in STAMP.findall(whole):
            seen += 1
            delays.append((now - int(stamp)) / 1e6)


async def consoles(host: str, port: int, token: str, count: int) -> None:
    """Says `ready` when all are live; the delays as JSON when its input ends."""
    delays: list[float] = []
    ready: list[int] = []
    tasks = [asyncio.create_task(console(host, port, token, delays, ready)) for _ in range(count)]
    while len(ready) < count:
        await asyncio.sleep(0.05)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    print(json.dumps({"delays": delays, "cpu_s": time.process_time()}), flush=True)


# --- the writer -----------------------------------------------------------------------------


def write(account_id: int, seconds: float) -> int:
    """Store messages at the rate; how many."""
    from datetime import UTC, datetime

    from sync import store
    from sync.models import Account
    from sync.types import Batch, Direction, Lease, MessageRecord

    account = Account.objects.get(pk=account_id)
    sequence, sent, begun = account.sequence, 0, time.monotonic()
    while time.monotonic() < begun + seconds:
        stamp = time.monotonic_ns()
        record = MessageRecord(
            external_id=f"m{stamp}",
            conversation_id=f"!{sent % ROOMS}",
            sender_id="@ann",
            sender_name="Ann",
            text=f"t={stamp}. {'x' * 150}",
            sent_at=datetime.now(UTC),
            direction=Direction.INBOUND,
        )
        batch = Batch(None, (record,))
        lease = Lease(account_id, account.epoch)
        sequence = store.ingest_batch(lease, sequence, batch).sequence
        sent += 1
        time.sleep(max(0.0, begun + sent / RATE - time.monotonic()))
    return sent


def measure(system: System, token: str, account_id: int, count: int) -> None:
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
    sent = write(account_id, SECONDS)
    cpu = (sum(web.cpu_times()[:2]) - used) / (time.monotonic() - begun)
    time.sleep(2)
    out, _ = clients.communicate()
    found: dict[str, Any] = json.loads(out)
    delays = sorted(found["delays"])
    show = {
        "consoles": count,
        "messages/s": round(sent / SECONDS, 1),
        "delivered": f"{len(delays)} of {sent * count}",
        "median ms": round(statistics.median(delays), 1),
        "p99 ms": round(delays[int(len(delays) * 0.99)], 1),
        "worst ms": round(delays[-1], 1),
        "web, % of a core": round(100 * cpu, 1),
        "web MB": f"{before / 1e6:.0f} → {opened / 1e6:.0f} → {web.memory_info().rss / 1e6:.0f}",
        "load": round(os.getloadavg()[0], 1),
    }
    print("  ".join(f"{name}: {value}" for name, value in show.items()), flush=True)


def prepare() -> int:
    """An account to write for."""
    import django

    django.setup()
    from sync.services import create_account

    account = create_account(
        {
            "platform": "matrix",
            "identifier": "@bench:example.org",
            "endpoint": "https://matrix.example.org",
            "credentials": {"username": "bench", "password": "bench"},
            "enabled": False,
        }
    )
    found: int = account.pk
    return found


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
            account_id = prepare()
            with api_of(system) as client:
                token = client.headers["Authorization"].removeprefix("Token ")
            for count in [int(one) for one in sys.argv[1:]] or [1, 100, CONSOLES]:
                measure(system, token, account_id, count)
        finally:
            system.kill_everything()


if __name__ == "__main__":
    main()

"""How many webhook deliveries a second one web process takes: `python -m tests.benchmarks.hooks`.

Starts an embedded, durable PostgreSQL in a temporary home and one uvicorn with `crm.asgi`, as `up`
runs it; sends it signed Telegram updates from several connections and prints how many a second were
answered with 200 (each one committed before) and how long an answer took. The measure beside it is
a bare insert: the same bytes into a table without index, one commit each, from as many connections
of this process, without HTTP, signature or Django.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable

DELIVERIES = 4000
CONNECTIONS = 4  # as many as the receiver's threads
ACCOUNTS = 20
SECRET = "benchmark_secret_0123"
TEXT = "Grüße, 你好, hello " + "x" * 180


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as home:
        os.environ |= {"MUSTER_HOME": home, "DJANGO_SETTINGS_MODULE": "crm.settings"}
        os.environ.pop("DATABASE_URL", None)
        from crm import embedded
        from crm.env import env

        server = embedded.postgres(env.home, env.socket_dir)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        running = subprocess.Popen(server.command, **quiet, **server.identity())  # type: ignore[call-overload]
        try:
            embedded.wait_postgres(env.socket_dir)
            measure()
        finally:
            running.send_signal(signal.SIGINT)
            running.wait(30)


def measure() -> None:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    bodies = [body(number) for number in range(DELIVERIES)]
    ids = accounts()
    port = free_port()
    web = subprocess.Popen(
        [
            *(sys.executable, "-m", "uvicorn", "crm.asgi:application", "--loop", "uvloop"),
            *("--port", str(port), "--log-level", "error", "--lifespan", "off"),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        asyncio.run(answering(port))
        print(f"{DELIVERIES:,} deliveries of {len(bodies[0])} bytes, {CONNECTIONS} connections")
        print(f"{'':36} {'a second':>9} {'of bare':>8} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}")
        bare = show("bare insert, one commit each", 0.0, bare_inserts(bodies))
        show("one web process, 20 accounts", bare, asyncio.run(pushed(port, ids, bodies)))
        again = asyncio.run(pushed(port, ids, bodies))
        show("the same again: repeats", bare, again)
        more = [body(number) for number in range(DELIVERIES, 2 * DELIVERIES)]
        show("forged: nothing is stored", bare, asyncio.run(pushed(port, ids, more, "forged", 401)))
    finally:
        web.terminate()
        web.wait(20)
    stored()


def stored() -> None:
    from sync.models import HookDelivery

    found = HookDelivery.objects.count()
    assert found == DELIVERIES, f"{found} rows of {DELIVERIES} deliveries"


def body(number: int) -> bytes:
    message = {
        "message_id": number,
        "date": int(time.time()),
        "chat": {"id": number % 50, "type": "private", "first_name": "Bob"},
        "from": {"id": number % 50, "is_bot": False, "first_name": "Bob"},
        "text": TEXT,
    }
    return json.dumps({"update_id": number, "message": message}).encode()


def accounts() -> list[int]:
    from sync.models import Account

    credentials = {"bot_token": "1:" + "x" * 35, "webhook_secret": SECRET}
    return [
        Account.objects.create(
            platform="telegram", identifier=f"@bot{number}", credentials=credentials
        ).pk
        for number in range(ACCOUNTS)
    ]


def bare_inserts(bodies: list[bytes]) -> tuple[float, list[float]]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE bare (id bigserial, body bytea)")

    def insert(part: list[bytes], took: list[float]) -> None:
        with connection.cursor() as cursor:
            for one in part:
                began = time.perf_counter()
                cursor.execute("INSERT INTO bare (body) VALUES (%s)", [one])
                took.append((time.perf_counter() - began) * 1000)
        connection.close()

    return in_threads(insert, bodies)


def in_threads(
    work: Callable[[list[bytes], list[float]], None], bodies: list[bytes]
) -> tuple[float, list[float]]:
    took: list[float] = []
    threads = [
        threading.Thread(target=work, args=(bodies[start::CONNECTIONS], took))
        for start in range(CONNECTIONS)
    ]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(bodies) / (time.perf_counter() - began), took


async def pushed(
    port: int, ids: list[int], bodies: list[bytes], secret: str = SECRET, status: int = 200
) -> tuple[float, list[float]]:
    """Over plain sockets, so that the client costs little."""
    took: list[float] = []

    async def push(start: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in range(start, len(bodies), CONNECTIONS):
            began = time.perf_counter()
            writer.write(request(ids[number % len(ids)], bodies[number], secret))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d" % status), head
            await reader.readexactly(length_of(head))
            took.append((time.perf_counter() - began) * 1000)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(push(start) for start in range(CONNECTIONS)))
    return len(bodies) / (time.perf_counter() - began), took


def request(account: int, content: bytes, secret: str) -> bytes:
    head = (
        f"POST /api/v1/hooks/telegram/{account} HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        f"X-Telegram-Bot-Api-Secret-Token: {secret}\r\n\r\n"
    )
    return head.encode() + content


def length_of(head: bytes) -> int:
    lines = head.lower().split(b"\r\n")
    return next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))


async def answering(port: int) -> None:
    while True:
        try:
            _reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


def show(name: str, bare: float, measured: tuple[float, list[float]]) -> float:
    rate, took = measured
    cuts = statistics.quantiles(took, n=100)
    print(
        f"{name:36} {rate:9,.0f} {rate / (bare or rate):8.2f} {cuts[49]:8.1f} {cuts[98]:8.1f} "
        f"{max(took):8.1f}",
        flush=True,
    )
    return rate


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()

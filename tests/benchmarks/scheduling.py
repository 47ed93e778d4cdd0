"""How much of a core scheduling takes, and how late checks are sent.

    python -m tests.benchmarks.scheduling [--accounts 10000] [--interval 30] [--seconds 60]

One master's duties (assignment, checks, freshness) run as they do in the leading master, each on
its thread in a process of their own, over an embedded PostgreSQL and a real broker. The platform is
simulated: a second process takes the checks from the broker's queues and ends each at once, with
the statements of a real check that found nothing. Its CPU is not counted; the master's is.

Prints one JSON object. `lateness_*`: from the time that a check was due to the time that it was
taken from the queue, as the account's row says. `master_core`: CPU seconds of the master's process
for each second of time. `server_core`: the same of PostgreSQL, both processes' statements.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

WORKERS = 10
WARM_UP_S = 45.0
BATCH = 100


def main() -> None:
    given = arguments()
    if given.role:
        set_up()
        {"master": master, "platform": platform}[given.role](given)
        return
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as folder, servers(Path(folder)):
        set_up()
        print(json.dumps(measure(given), indent=2))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--interval", type=float, default=30.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--role", choices=["master", "platform"], help=argparse.SUPPRESS)
    return parser.parse_args()


def set_up() -> None:
    import django

    django.setup()


@contextmanager
def servers(home: Path) -> Iterator[None]:
    """PostgreSQL and Valkey in `home`, and the environment that leads to them."""
    from crm import embedded

    sockets = home / "run"
    postgres, valkey = embedded.postgres(home, sockets), embedded.valkey(home, sockets)
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "crm.settings",
        "MUSTER_HOME": str(home),
        "MUSTER_LOG_LEVEL": "WARNING",
        "DATABASE_URL": f"postgresql://muster@/muster?host={sockets / 'pg'}&port=5432",
        "BROKER_URL": f"redis+socket://{sockets / 'valkey.sock'}?virtual_host=0",
    }
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = [
        subprocess.Popen(one.command, **quiet, **one.identity())  # type: ignore[call-overload]
        for one in (postgres, valkey)
    ]
    try:
        embedded.wait_postgres(sockets)
        embedded.wait_valkey(sockets)
        yield
    finally:
        for process in running:
            process.send_signal(signal.SIGINT)
        for process in running:
            process.wait(30)


def measure(given: argparse.Namespace) -> dict[str, Any]:
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    fill(given)
    roles = [start(given, role) for role in ("platform", "master")]
    try:
        threading.Event().wait(WARM_UP_S)
        before = Sample(roles[1].pid)
        threading.Event().wait(given.seconds)
        after = Sample(roles[1].pid)
    finally:
        for process in roles:
            process.terminate()
        said = [process.communicate(timeout=30)[0] for process in roles]
    late = json.loads(said[0])
    elapsed = after.at - before.at
    return {
        "accounts": given.accounts,
        "interval_s": given.interval,
        "checks_per_s": round(late.pop("checks") / late.pop("seconds"), 1),
        "master_core": round((after.master - before.master) / elapsed, 3),
        "server_core": round((after.server - before.server) / elapsed, 3),
        **late,
    }


class Sample:
    """CPU seconds so far, of the master and of PostgreSQL with all of its backends."""

    def __init__(self, master: int) -> None:
        self.at = time.monotonic()
        self.master = cpu_s(psutil.Process(master))
        self.server = sum(
            cpu_s(process)
            for process in psutil.process_iter(["cwd", "name"])
            if str(process.info["cwd"]).startswith(os.environ["MUSTER_HOME"])
            and process.info["name"] == "postgres"
        )


def cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def fill(given: argparse.Namespace) -> None:
    """Workers that run, and accounts that are due evenly over one interval."""
    from datetime import timedelta

    from django.utils import timezone

    from lifecycle.models import WorkerRuntime
    from lifecycle.services import create_config
    from sync.models import Account

    room = given.accounts // WORKERS + 1
    for number in range(WORKERS):
        create_config({"worker_id": f"bench-{number}", "max_accounts": room}, actor="benchmark")
    WorkerRuntime.objects.update(
        state="running", desired_state="running", generation=1, last_generation=1
    )
    now = timezone.now() + timedelta(seconds=5)
    step = timedelta(seconds=given.interval / given.accounts)
    Account.objects.bulk_create(
        (
            Account(
                platform="simulated",
                endpoint=f"https://{number % 50}.test",
                identifier=f"account-{number}",
                interval_s=int(given.interval),
                next_due_at=now + number * step,
            )
            for number in range(given.accounts)
        ),
        batch_size=1000,
    )


def start(given: argparse.Namespace, role: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.benchmarks.scheduling", "--role", role),
            *("--accounts", str(given.accounts), "--interval", str(given.interval)),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )


def master(_given: argparse.Namespace) -> None:
    """The duties of the leading master for accounts, woken as it wakes them."""
    import psycopg
    from django.db import connection

    from lifecycle import duties
    from lifecycle.duty_runner import DutyRunner

    runners = [DutyRunner(duty) for duty in duties.registered()]
    for runner in runners:
        runner.start()
    with psycopg.connect(**connection.get_connection_params(), autocommit=True) as link:
        for channel in sorted({name for one in runners for name in one.duty.channels}):
            link.execute(f"LISTEN {channel}")
        for notification in link.notifies():
            for runner in runners:
                runner.notified(notification.channel)


def platform(given: argparse.Namespace) -> None:
    """End every check at once; at the end print how late they were."""
    from redis import Redis

    lateness: list[float] = []
    begun = time.monotonic() + WARM_UP_S
    queues = [f"worker.bench-{number}" for number in range(WORKERS)]
    client = Redis(unix_socket_path=os.environ["BROKER_URL"].split("://")[1].split("?")[0])
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    while not ended.is_set():
        claims = taken(client, queues)
        if not claims:
            ended.wait(0.005)
            continue
        late = finished(claims, given.interval)
        if time.monotonic() > begun:
            lateness += late
    lateness.sort()
    print(
        json.dumps(
            {
                "checks": len(lateness),
                "seconds": time.monotonic() - begun,
                "lateness_p50_s": round(lateness[len(lateness) // 2], 3),
                "lateness_p99_s": round(lateness[int(len(lateness) * 0.99)], 3),
                "lateness_max_s": round(lateness[-1], 3),
            }
        )
    )


def taken(client: Any, queues: list[str]) -> list[tuple[int, int]]:
    """Account and epoch of the messages that wait."""
    import base64

    pipeline = client.pipeline()
    for queue in queues:
        pipeline.lpop(queue, BATCH)
    claims = []
    for messages in pipeline.execute():
        for message in messages or ():
            body = json.loads(base64.b64decode(json.loads(message)["body"]))
            account_id, epoch = body[0]
            claims.append((int(account_id), int(epoch)))
    return claims


# When each was due: the platform notes it on the row when it ends a check (in `backlog`, in ms).
FINISH = """
WITH held AS (SELECT * FROM unnest(%(ids)s::bigint[], %(epochs)s::bigint[]) AS h(id, epoch)),
was AS (
    SELECT a.id, extract(epoch FROM clock_timestamp()) * 1000 - a.backlog AS late
    FROM sync_account a JOIN held h ON a.id = h.id AND a.epoch = h.epoch
)
UPDATE sync_account a
SET next_due_at = due.at, claimed_generation = NULL, last_sync_at = now(), watched_at = now(),
    error_count = 0, backlog = extract(epoch FROM due.at) * 1000
FROM was, LATERAL (
    SELECT now() + make_interval(secs => %(interval)s * (0.9 + 0.2 * random()) + 0 * was.id) AS at
) due
WHERE a.id = was.id
RETURNING was.late
"""


def finished(claims: list[tuple[int, int]], interval: float) -> list[float]:
    """How late each was (s); those that were never noted are left out."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            FINISH,
            {
                "ids": [account_id for account_id, _ in claims],
                "epochs": [epoch for _, epoch in claims],
                "interval": interval,
            },
        )
        return [float(late) / 1000 for (late,) in cursor.fetchall() if late is not None]


if __name__ == "__main__":
    main()

"""How many messages a second the write path takes: `python -m tests.benchmarks.sync`.

Starts an embedded, durable PostgreSQL in a temporary home and writes batches of 500 messages of
about 200 bytes, one commit each: COPY into a bare table (the ceiling), Django's
`bulk_create(update_conflicts=True)`, and the whole transaction of `sync.store.ingest`, with its
fence, roll-ups, receipt and notification. A replay writes the same messages again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sync.models import Account
    from sync.types import MessageRecord

    Batches = list[list[MessageRecord]]

BATCH = 500
BATCHES = 80
CONVERSATIONS = 200
START = datetime(2026, 1, 1, tzinfo=UTC)
TEXT = "Grüße, 你好, hello " + "x" * 180


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as home:
        os.environ |= {"MUSTER_HOME": home, "DJANGO_SETTINGS_MODULE": "crm.settings"}
        os.environ.pop("DATABASE_URL", None)
        from crm import embedded
        from crm.env import env

        server = embedded.postgres(env.home, env.socket_dir)
        running = subprocess.Popen(
            server.command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **server.identity(),
        )
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
    data = batches()
    ceiling = bare_copy(data)
    print(
        f"{'batches of ' + str(BATCH):34} {'rows/s':>9} {'of COPY':>8} {'p50 ms':>8} {'p99 ms':>8}"
    )
    print(f"{'COPY into a bare table':34} {ceiling:9,.0f} {1:8.2f}")
    bulk = account()
    for name in ("bulk_create, fresh", "bulk_create, replay"):
        show(name, ceiling, timed(data, lambda batch: bulk_create(bulk, batch)))
    stored = account()
    for name in ("ingest, fresh", "ingest, replay"):
        show(name, ceiling, timed(data, lambda batch: ingest(stored, batch)))
    show("ingest, fresh, two writers at once", ceiling, two_writers(data), writers=2)


def batches() -> Batches:
    from sync.types import Direction, MessageRecord

    return [
        [
            MessageRecord(
                external_id=f"$event-{start + n}:example.org",
                conversation_id=f"!room-{(start + n) % CONVERSATIONS}:example.org",
                sender_id="@ann:example.org",
                sender_name="Ann",
                text=TEXT,
                sent_at=START + timedelta(seconds=start + n),
                direction=Direction.INBOUND,
            )
            for n in range(BATCH)
        ]
        for start in range(0, BATCH * BATCHES, BATCH)
    ]


def account() -> Account:
    from sync.models import Account

    return Account.objects.create(platform="none", identifier=str(time.monotonic_ns()))


def timed(data: Batches, write: Callable[[list[MessageRecord]], object]) -> list[float]:
    """Seconds that each batch took."""
    took = []
    for batch in data:
        begun = time.perf_counter()
        write(batch)
        took.append(time.perf_counter() - begun)
    return took


def show(name: str, ceiling: float, took: list[float], writers: int = 1) -> None:
    rate = BATCH * len(took) * writers / sum(took)
    ordered = sorted(took)
    p50, p99 = (1000 * ordered[int(len(ordered) * part)] for part in (0.5, 0.99))
    print(f"{name:34} {rate:9,.0f} {rate / ceiling:8.2f} {p50:8.1f} {p99:8.1f}")


def bare_copy(data: Batches) -> float:
    from django.db import connection

    columns = (
        "external_id text, conversation text, sender text, name text, text text, at timestamptz"
    )
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE bare ({columns})")

        def write(batch: list[MessageRecord]) -> None:
            with cursor.copy("COPY bare FROM STDIN") as copy:
                for m in batch:
                    row = (m.external_id, m.conversation_id, m.sender_id, m.sender_name, m.text)
                    copy.write_row((*row, m.sent_at))

        return BATCH * len(data) / sum(timed(data, write))


def bulk_create(account: Account, batch: list[MessageRecord]) -> None:
    """The usual way: messages only, without fence, roll-ups or receipt."""
    from sync.models import Conversation, Message

    names = {m.conversation_id for m in batch}
    Conversation.objects.bulk_create(
        [Conversation(account=account, external_id=name) for name in names], ignore_conflicts=True
    )
    ids = dict(Conversation.objects.filter(account=account).values_list("external_id", "pk"))
    Message.objects.bulk_create(
        [
            Message(
                account=account,
                conversation_id=ids[m.conversation_id],
                external_id=m.external_id,
                sender_id=m.sender_id,
                sender_name=m.sender_name,
                text=m.text,
                direction=m.direction,
                sent_at=m.sent_at,
            )
            for m in batch
        ],
        update_conflicts=True,
        unique_fields=["account", "external_id"],
        update_fields=["text", "edited_at", "is_deleted"],
    )


def ingest(account: Account, batch: list[MessageRecord]) -> None:
    from sync import store
    from sync.merge import merge
    from sync.types import Batch, Lease

    merged = merge(Batch(f"cursor-{account.sequence}", tuple(batch)))
    receipt = store.ingest(Lease(account.pk, 0), account.sequence, merged)
    account.sequence = receipt.sequence


def two_writers(data: Batches) -> list[float]:
    """Seconds per batch: the mean of two threads, each writing all batches for its own account."""
    results: list[list[float]] = []

    def run() -> None:
        own = account()
        results.append(timed(data, lambda batch: ingest(own, batch)))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [sum(pair) / 2 for pair in zip(*results, strict=True)]


if __name__ == "__main__":
    main()

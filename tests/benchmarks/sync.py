"""How many messages a second the write path takes: `python -m tests.benchmarks.sync`.

Starts an embedded, durable PostgreSQL in a temporary home and writes batches of 500 messages of
about 200 bytes, one commit each, in turn: COPY into a bare table (the ceiling), Django's
`bulk_create(update_conflicts=True)` and `update_or_create`, and the whole transaction of
`sync.store`, with merge, fence, roll-ups, receipt and feed. A replay writes the same again, by
turns with first writes for another account.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sync.models import Account
    from sync.types import MessageRecord

    Batches = list[list[MessageRecord]]

COPY = "COPY into a bare table"
BATCH = 500
BATCHES = 80
CURVE_BATCHES = 40
TURNS = 9  # of one writer and two
FEW = 20  # rows of a batch that update_or_create writes
CONVERSATIONS = 20
START = datetime(2026, 1, 1, tzinfo=UTC)
TEXT = "Grüße, 你好, hello " + "x" * 180


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--curve", type=int, metavar="MESSAGES", help="how speed goes as it grows")
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write()
        return
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
            if options.curve:
                curve(options.curve)
            else:
                measure()
        finally:
            running.send_signal(signal.SIGINT)
            running.wait(30)


def measure() -> None:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    data = batches(BATCHES)
    gc.freeze()  # the data is the benchmark's, no part of what is measured
    bulk, stored, single = account(), account(), account()
    copy = bare_copy()
    fresh = in_turn(
        data,
        {
            COPY: copy,
            "ingest, fresh": partial(ingest, stored),
            "bulk_create, fresh": partial(bulk_create, bulk),
            "update_or_create, fresh": lambda batch: update_or_create(single, batch[:FEW]),
        },
    )
    again = in_turn(
        data,
        {
            "ingest, fresh, by turns": partial(ingest, account()),
            "ingest, replay, with it": partial(ingest, stored),
        },
    )
    usual = in_turn(data, {"bulk_create, replay": partial(bulk_create, bulk)})
    show(fresh | again | usual)
    first, replay = (statistics.median(took) for took in again.values())
    print(f"a replay is {first / replay:.2f} times as fast as the first write beside it")
    print(f"WAL of a replayed row: {wal(data, partial(ingest, stored)):.1f} bytes")
    print(f"two writers write {two_writers():.2f} times what one writes")


def curve(most: int) -> None:
    """Rows/s of one account's ingest while the store grows to `most` messages."""
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    copy, stored = bare_copy(), account()
    print(f"{'stored':>10} {'rows/s':>9} {'of COPY':>8}")
    done = 0
    while done < most:
        # A stretch is measured, then the store grows by nine more of them.
        data = batches(CURVE_BATCHES, start=done)
        took = in_turn(data, {COPY: copy, "ingest": partial(ingest, stored)})
        rates = {name: rate(times) for name, times in took.items()}
        print(
            f"{done:10,} {rates['ingest']:9,.0f} {rates['ingest'] / rates[COPY]:8.3f}", flush=True
        )
        done += CURVE_BATCHES * BATCH
        for _ in range(9 if most > 1_000_000 else 1):
            for batch in batches(CURVE_BATCHES, start=done):
                ingest(stored, batch)
            done += CURVE_BATCHES * BATCH


def in_turn(
    data: Batches, writers: dict[str, Callable[[list[MessageRecord]], object]]
) -> dict[str, list[float]]:
    """Seconds that each batch took, by writer; they take turns, so that each meets the same load
    of the machine."""
    took: dict[str, list[float]] = {name: [] for name in writers}
    for batch in data:
        for name, write in writers.items():
            begun = time.perf_counter()
            write(batch)
            took[name].append(time.perf_counter() - begun)
    return took


def rate(took: list[float], rows: int = BATCH) -> float:
    """Rows a second, by the median batch."""
    return rows / statistics.median(took)


def show(took: dict[str, list[float]]) -> None:
    ceiling = rate(took[COPY])
    print(
        f"{'batches of ' + str(BATCH):26} {'rows/s':>9} {'of COPY':>8} {'p50 ms':>8} {'p99 ms':>8}"
    )
    for name, times in took.items():
        rows = FEW if name.startswith("update_or_create") else BATCH
        ordered = sorted(times)
        p50, p99 = (1000 * ordered[int(len(ordered) * part)] for part in (0.5, 0.99))
        speed = rate(times, rows)
        print(f"{name:26} {speed:9,.0f} {speed / ceiling:8.3f} {p50:8.1f} {p99:8.1f}")


def batches(count: int, start: int = 0) -> Batches:
    """`count` batches of messages, numbered from `start`."""
    from sync.types import Direction, MessageRecord

    return [
        [
            MessageRecord(
                external_id=f"$event-{number}:example.org",
                conversation_id=f"!room-{number % CONVERSATIONS}:example.org",
                sender_id="@ann:example.org",
                sender_name="Ann",
                text=TEXT,
                sent_at=START + timedelta(seconds=number),
                direction=Direction.INBOUND,
            )
            for number in range(first, first + BATCH)
        ]
        for first in range(start, start + BATCH * count, BATCH)
    ]


def account() -> Account:
    from sync.models import Account

    return Account.objects.create(platform="none", identifier=str(time.monotonic_ns()))


def bare_copy() -> Callable[[list[MessageRecord]], None]:
    """The ceiling: the same rows into a table without index or constraint."""
    from django.db import connection

    columns = (
        "external_id text, conversation text, sender text, name text, text text, at timestamptz"
    )
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE bare ({columns})")

    def write(batch: list[MessageRecord]) -> None:
        with connection.cursor() as cursor, cursor.copy("COPY bare FROM STDIN") as copy:
            for m in batch:
                row = (m.external_id, m.conversation_id, m.sender_id, m.sender_name, m.text)
                copy.write_row((*row, m.sent_at))

    return write


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


def update_or_create(account: Account, batch: list[MessageRecord]) -> None:
    """Row by row, as it is often written; all in one transaction."""
    from django.db import transaction

    from sync.models import Conversation, Message

    with transaction.atomic():
        for m in batch:
            talk, _ = Conversation.objects.get_or_create(
                account=account, external_id=m.conversation_id
            )
            Message.objects.update_or_create(
                account=account,
                external_id=m.external_id,
                defaults={
                    "conversation": talk,
                    "sender_id": m.sender_id,
                    "sender_name": m.sender_name,
                    "text": m.text,
                    "direction": m.direction,
                    "sent_at": m.sent_at,
                },
            )


def ingest(account: Account, batch: list[MessageRecord]) -> None:
    from sync import store
    from sync.types import Batch, Lease

    read = Batch(f"cursor-{account.sequence}", tuple(batch))
    receipt = store.ingest_batch(Lease(account.pk, 0), account.sequence, read)
    account.sequence = receipt.sequence


def wal(data: Batches, write: Callable[[list[MessageRecord]], object]) -> float:
    """Bytes of WAL for each row."""
    from django.db import connection

    def position() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_current_wal_insert_lsn() - '0/0'")
            return int(cursor.fetchone()[0])

    for batch in data:  # the first touch of a page after a checkpoint writes it whole
        write(batch)
    begun = position()
    for batch in data:
        write(batch)
    return (position() - begun) / (BATCH * len(data))


def two_writers() -> float:
    """Rows/s of two processes at once by those of one, each for its own account. Single turns
    differ by a tenth either way: the scheduler of the machine decides who meets whom."""
    ratios = []
    for _ in range(TURNS):
        (one,) = writers(1)
        ratios.append(sum(writers(2)) / one)
    return statistics.median(ratios)


def writers(count: int) -> list[float]:
    """Rows/s of each of so many processes that write at the same time."""
    command = [sys.executable, "-m", "tests.benchmarks.sync", "--write"]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    for each in running:
        assert each.stdout is not None
        each.stdout.readline()  # it is ready
    for each in running:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    return [float(each.communicate()[0]) for each in running]


def write() -> None:
    """One of the writers: says when it is ready, waits to be told, says how fast it wrote."""
    import django

    django.setup()
    data, own = batches(BATCHES), account()
    gc.freeze()
    ingest(own, data[0])
    print("ready", flush=True)
    sys.stdin.readline()
    begun = time.perf_counter()
    for batch in data[1:]:
        ingest(own, batch)
    print(BATCH * (len(data) - 1) / (time.perf_counter() - begun))


if __name__ == "__main__":
    main()

"""How fast the Matrix adapter reads from a real Synapse: `python -m tests.benchmarks.matrix`."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from tests.benchmarks.own_home import set_up

set_up()

from crm.demo.install import install
from crm.demo.synapse import Synapse
from sync.types import MessageRecord
from tests.contract.conftest import CACHE
from tests.contract.matrix_stage import MatrixStage, matrix_stage
from tests.contract.suite.reading import last_cursor, logged_in, messages, read

HISTORY = 2000
NEWS = 50


async def first_read(stage: MatrixStage) -> None:
    room = await stage.thread()
    began = time.perf_counter()
    await stage.say_many(room, [f"message {n} " + "x" * 180 for n in range(HISTORY)])
    print(f"sent {HISTORY} messages in {time.perf_counter() - began:.1f} s")
    async with logged_in(stage) as connection:
        for _ in range(3):
            began = time.perf_counter()
            batches = await read(connection)
            took = time.perf_counter() - began
            count = len(messages(batches))
            print(f"first read: {count} messages, {len(batches)} batches in {took:.2f} s", end="")
            print(f" = {count / took:.0f} messages/s")


async def latency(stage: MatrixStage) -> None:
    """From before the send to the batch in our hands, while the read waits."""
    room = await stage.thread()
    sent: dict[str, float] = {}
    seen: dict[str, float] = {}
    async with logged_in(stage) as connection:
        cursor = last_cursor(await read(connection))

        async def watch() -> None:
            nonlocal cursor
            while len(seen) < NEWS:
                async for batch in connection.read(cursor, 30):
                    cursor = batch.cursor or cursor
                    for record in batch.records:
                        if isinstance(record, MessageRecord):
                            seen[record.text] = time.perf_counter()

        watching = asyncio.create_task(watch())
        for number in range(NEWS):
            text = f"news {number}"
            sent[text] = time.perf_counter()
            await stage.say(room, text)
            await asyncio.sleep(0.2)
        await watching
    took = sorted((seen[text] - sent[text]) * 1000 for text in sent)
    print(
        f"send → read of {NEWS}: median {statistics.median(took):.0f} ms, worst {took[-1]:.0f} ms"
    )


async def measure(server: Synapse) -> None:
    async with matrix_stage(server) as stage:
        await first_read(stage)
    async with matrix_stage(server) as stage:
        await latency(stage)


def main() -> None:
    python = install(CACHE / "synapse", print)
    with (
        tempfile.TemporaryDirectory() as directory,
        Synapse(Path(directory), python) as server,
    ):
        asyncio.run(measure(server))


if __name__ == "__main__":
    main()

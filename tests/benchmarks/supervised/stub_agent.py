"""An agent of workers that aren't there: `python -m … stub_agent SOCKET N`.

It speaks the real agent's protocol: a snapshot of N living workers (`sim-0` …, generation 1), then
samples of all of them every 10 s. It is for measuring the master alone.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import UTC, datetime

from lifecycle.agent.layout import alive_to
from lifecycle.agent.protocol import encode
from lifecycle.types import Alive, Instance, ProcessRef

SAMPLE_S = 10.0


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    count, began = int(sys.argv[2]), datetime.now(UTC)
    workers = [
        Alive(Instance(f"sim-{n}", 1), ProcessRef(100_000 + n, n, "boot"), began)
        for n in range(count)
    ]
    while line := await reader.readline():
        if b'"watch"' not in line:
            writer.write(encode({"ok": {"runs": True}}))
            continue
        snapshot = {"event": "snapshot", "alive": [alive_to(one) for one in workers], "gone": []}
        writer.write(encode(snapshot))
        while True:
            await asyncio.sleep(SAMPLE_S)
            samples = [(one.instance.worker_id, 1, 0.1, 12.5) for one in workers]
            writer.write(encode({"event": "samples", "samples": samples}))


async def main() -> None:
    done = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, done.set)
    async with await asyncio.start_unix_server(serve, sys.argv[1]):
        await done.wait()


asyncio.run(main())

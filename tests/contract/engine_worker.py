"""A real Celery worker with a platform that waits.

`python -m tests.contract.engine_worker POOL CONCURRENCY [PORT]`; database and broker by the
environment.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator

WORKER = "engine-worker"


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crm.settings")
    import django

    django.setup()
    from crm.celery import app
    from lifecycle.agent import worker_main
    from lifecycle.types import Instance, Pool, WorkerSpec
    from sync import platforms
    from sync.types import Batch
    from tests.db.sync_stage import TinyPlatform, message

    class Patient(TinyPlatform):
        """Each account has one message, and then waits for news that never come."""

        can_wait = True

        def __init__(self) -> None:
            super().__init__()
            self.on_read = self._read

        async def _read(self, cursor: str, wait_s: float) -> AsyncGenerator[Batch, None]:
            if not cursor:
                yield Batch("read", (message(1),))
            await asyncio.sleep(wait_s)

    @app.task(name="tests.fail")
    def fail() -> None:
        raise ValueError("as told")

    platform = Patient()
    platforms.registry = lambda: {"tiny": platform}  # type: ignore[assignment]
    spec = WorkerSpec(
        instance=Instance(WORKER, 1),
        queues=(),
        pool=Pool(sys.argv[1]),
        concurrency=int(sys.argv[2]),
        env={},
        args=(),
        working_directory="",
        log_max_bytes=10_000_000,
        log_files=2,
        port=int(sys.argv[3]) if len(sys.argv) > 3 else None,
    )
    worker_main.preload(app)
    return worker_main.run(app, spec)


if __name__ == "__main__":
    sys.exit(main())

"""The workers under test: real Celery workers of every pool, with different restart policies."""

from __future__ import annotations

from typing import Any

CONFIGS: dict[str, dict[str, Any]] = {
    "threads-1": {"pool": "threads", "concurrency": 2, "restart_delay_ms": 0},
    "threads-2": {"pool": "threads", "concurrency": 2, "restart_delay_ms": 200},
    "prefork-1": {"pool": "prefork", "concurrency": 2, "restart_delay_ms": 0},
    "prefork-2": {"pool": "prefork", "concurrency": 2, "restart_delay_ms": 200},
    "solo-1": {"pool": "solo", "concurrency": 1, "restart_delay_ms": 0},
}
WORKERS = tuple(CONFIGS)


def config(worker_id: str, tallies: str) -> dict[str, Any]:
    """The body of POST /worker-configs."""
    return {
        "worker_id": worker_id,
        "auto_start": True,
        "max_restart_attempts": 1_000_000,
        "max_restart_delay_ms": 1000,
        "stable_after_s": 1,
        "queues": ["chaos"],
        "command_args": ["--include=tests.chaos.numbered"],
        "env_variables": {"CHAOS_TALLIES": tallies, "CHAOS_WORKER": worker_id},
        **CONFIGS[worker_id],
    }

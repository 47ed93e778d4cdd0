"""Examples in the OpenAPI schema: the bodies that existing scripts send and read."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiExample

CONFIG = OpenApiExample(
    "A local worker",
    request_only=True,
    value={
        "worker_id": "worker-1",
        "name": "主 Worker",
        "deployment_type": "local",
        "host": "localhost",
        "port": 4001,
        "max_accounts": 10,
        "auto_start": True,
        "auto_restart": True,
    },
)
STARTED = OpenApiExample(
    "Started",
    response_only=True,
    status_codes=["202"],
    value={
        "success": True,
        "worker_id": "worker-1",
        "status": "starting",
        "process_id": 12345,
        "reason": "",
    },
)
STOP = OpenApiExample("Within 30 s", request_only=True, value={"graceful": True, "timeout": 30000})
RESTART = OpenApiExample("Gracefully", request_only=True, value={"graceful": True})
BATCH = OpenApiExample(
    "Restart two workers",
    request_only=True,
    value={
        "action": "restart",
        "worker_ids": ["worker-1", "worker-2"],
        "options": {"graceful": True},
    },
)
ROLL_OUTDATED = OpenApiExample(
    "All workers with an older config, two at a time",
    request_only=True,
    value={"outdated": True, "max_surge": 2},
)
ROLL_SOME = OpenApiExample(
    "Two workers, one after the other",
    request_only=True,
    value={"worker_ids": ["worker-1", "worker-2"], "timeout": 60000},
)
HEALTHY = OpenApiExample(
    "Healthy",
    response_only=True,
    status_codes=["200"],
    value={
        "healthy": True,
        "status": "running",
        "reason": "",
        "checks": dict.fromkeys(["heartbeat", "consuming", "memory", "cpu", "tasks"], "ok"),
    },
)
OVERVIEW = OpenApiExample(
    "Five workers",
    response_only=True,
    status_codes=["200"],
    value={
        "total": 5,
        "stopped": 1,
        "starting": 0,
        "running": 3,
        "stopping": 0,
        "error": 1,
        "crashed": 0,
        "total_accounts": 25,
        "total_capacity": 50,
        "cpu_usage_avg": 25.5,
        "memory_usage_total_mb": 2560,
        "active_tasks": 3,
    },
)
METRICS = OpenApiExample(
    "An hour",
    response_only=True,
    status_codes=["200"],
    value={
        "worker_id": "worker-1",
        "period": "1h",
        "resolution": 10,
        "since": "2026-01-01T11:00:00Z",
        "until": "2026-01-01T12:00:00Z",
        "cpu_usage": [{"time": "2026-01-01T11:59:40Z", "value": 15.5}],
        "memory_usage": [{"time": "2026-01-01T11:59:40Z", "value": 512.0}],
        "task_count": [{"time": "2026-01-01T11:59:40Z", "value": 4.0}],
        "error_rate": [{"time": "2026-01-01T11:59:40Z", "value": 0.0}],
        "active_tasks": [{"time": "2026-01-01T11:59:40Z", "value": 3.0}],
    },
)

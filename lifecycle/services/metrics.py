"""Samples of workers: what is now, and the history that charts show [L17].

Each pass of samples is one statement, whatever the number of workers. The leading master rolls up
and prunes (`lifecycle.metrics_duty`): also set-based, and safe to repeat.
"""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise

from django.db import connection
from django.utils import timezone

from lifecycle.series import FINEST, RESOLUTIONS
from lifecycle.types import Instance

PRUNED_AT_ONCE = 50_000

# worker_id (unique), primary keys. Rows are locked in one order, as `set_assigned_accounts` does.
# A second pass in the same step takes the place of the first.
SAMPLED = """
WITH current AS MATERIALIZED (
    SELECT r.config_id, s.cpu, s.memory
    FROM unnest(%(ids)s::text[], %(generations)s::bigint[], %(cpus)s::float8[],
                %(memories)s::float8[]) AS s(worker_id, generation, cpu, memory)
    JOIN lifecycle_workerconfig c ON c.worker_id = s.worker_id
    JOIN lifecycle_workerruntime r ON r.config_id = c.id AND r.generation = s.generation
    WHERE r.process_id IS NOT NULL
    ORDER BY r.config_id
    FOR NO KEY UPDATE OF r
), shown AS (
    UPDATE lifecycle_workerruntime r SET cpu_usage = current.cpu, memory_usage_mb = current.memory
    FROM current WHERE r.config_id = current.config_id
    RETURNING r.config_id, r.cpu_usage, r.memory_usage_mb, r.active_tasks, r.tasks_total,
              r.error_count
)
INSERT INTO lifecycle_workermetric (
    config_id, step_s, time, cpu_usage, memory_mb, active_tasks, tasks_total, errors_total
)
SELECT config_id, %(step)s, date_bin(make_interval(secs => %(step)s), %(now)s, 'epoch'),
       cpu_usage, memory_usage_mb, active_tasks, tasks_total, error_count
FROM shown
ON CONFLICT (config_id, step_s, time) DO UPDATE
SET cpu_usage = EXCLUDED.cpu_usage, memory_mb = EXCLUDED.memory_mb,
    active_tasks = EXCLUDED.active_tasks, tasks_total = EXCLUDED.tasks_total,
    errors_total = EXCLUDED.errors_total
"""

# metric_by_time. From the newest coarse step on, which may not have been whole; so what a master
# that was away did not roll up is made up for, as long as the finer rows are kept.
ROLL_UP = """
INSERT INTO lifecycle_workermetric AS m (
    config_id, step_s, time, cpu_usage, memory_mb, active_tasks, tasks_total, errors_total
)
SELECT config_id, %(coarse)s, date_bin(make_interval(secs => %(coarse)s), time, 'epoch') AS start,
       avg(cpu_usage), avg(memory_mb), avg(active_tasks), max(tasks_total), max(errors_total)
FROM lifecycle_workermetric
WHERE step_s = %(fine)s AND time >= coalesce(
    (SELECT max(time) FROM lifecycle_workermetric WHERE step_s = %(coarse)s), '-infinity'
)
GROUP BY config_id, start
ON CONFLICT (config_id, step_s, time) DO UPDATE
SET cpu_usage = EXCLUDED.cpu_usage, memory_mb = EXCLUDED.memory_mb,
    active_tasks = EXCLUDED.active_tasks, tasks_total = EXCLUDED.tasks_total,
    errors_total = EXCLUDED.errors_total
"""

# metric_by_time; in parts, so that no statement runs long after a long absence.
PRUNE = """
DELETE FROM lifecycle_workermetric WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM lifecycle_workermetric
    WHERE step_s = %(step)s AND time < %(before)s LIMIT %(most)s
))
"""


def sampled(samples: list[tuple[Instance, float, float]], now: datetime | None = None) -> None:
    """CPU % and memory (MB) of many workers in one statement: (instance, cpu, memory).

    Older instances and workers that have ended are left out.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            SAMPLED,
            {
                "ids": [instance.worker_id for instance, _cpu, _memory in samples],
                "generations": [instance.generation for instance, _cpu, _memory in samples],
                "cpus": [cpu for _instance, cpu, _memory in samples],
                "memories": [memory for _instance, _cpu, memory in samples],
                "step": FINEST.step_s,
                "now": now or timezone.now(),
            },
        )


def roll_up() -> int:
    """Make coarser points of finer ones; how many were written. One statement a resolution."""
    written = 0
    with connection.cursor() as cursor:
        for fine, coarse in pairwise(RESOLUTIONS):
            cursor.execute(ROLL_UP, {"fine": fine.step_s, "coarse": coarse.step_s})
            written += cursor.rowcount
    return written


def prune(now: datetime) -> int:
    """Delete points that are older than their resolution is kept; how many went.

    The step before the oldest that is shown stays: counts are differences.
    """
    return sum(
        delete_in_parts(
            PRUNE,
            step=resolution.step_s,
            before=now - resolution.kept - 2 * resolution.step,
        )
        for resolution in RESOLUTIONS
    )


def delete_in_parts(statement: str, **values: int | datetime) -> int:
    """Repeat a DELETE of `most` rows until it finds fewer; how many went."""
    pruned, deleted = 0, PRUNED_AT_ONCE
    with connection.cursor() as cursor:
        while deleted == PRUNED_AT_ONCE:
            cursor.execute(statement, {**values, "most": PRUNED_AT_ONCE})
            deleted = cursor.rowcount
            pruned += deleted
    return pruned

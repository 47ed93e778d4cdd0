"""The change feed, and waking who waits."""

from __future__ import annotations

NOTIFY = "SELECT pg_notify(%s, %s)"

# sync_feedentry's index on position, from its end. One row: the floor, and the newest position.
FEED_ENDS = """
SELECT coalesce(f.position, 0),
       greatest((SELECT max(position) FROM sync_feedentry), f.position, 0)
FROM (SELECT (SELECT position FROM sync_feedfloor WHERE id = 1) AS position) f
"""

# feed_by_time finds the oldest, the index on position deletes them and all below them. The floor
# rises in the same statement. Returns how many were deleted.
PRUNE_FEED = """
WITH old AS (
    SELECT max(position) AS position FROM (
        SELECT position FROM sync_feedentry
        WHERE created_at < %(before)s ORDER BY created_at LIMIT %(most)s
    ) oldest
), gone AS (
    DELETE FROM sync_feedentry e USING old WHERE e.position <= old.position RETURNING 1
), floor AS (
    INSERT INTO sync_feedfloor AS f (id, position)
    SELECT 1, position FROM old WHERE position IS NOT NULL
    ON CONFLICT (id) DO UPDATE SET position = greatest(f.position, EXCLUDED.position)
)
SELECT count(*) FROM gone
"""

"""Batches: what holds for all of their statements, and what is noted of them."""

from __future__ import annotations

# Primary key. The lock that serializes everything that writes for one account; weaker than FOR
# UPDATE so that foreign keys to the account can still be checked meanwhile.
LOCK_ACCOUNT = """
SELECT epoch, sequence, cursor, error_count > 0 FROM sync_account WHERE id = %s FOR NO KEY UPDATE
"""

# Primary key. The same, and how the statements that follow are planned, in one go.
# Left to itself the planner hash-joins the whole table against 500 staged rows. With old statistics
# it takes a new account for empty and compares each staged row with all of it; LATERAL … LIMIT 1
# leaves it one lookup each, in the unique index as long as no other index begins with the account
# (350 ms became 11). Without `plan_cache_mode = force_custom_plan`: our statements aren't prepared,
# but the check of a foreign key is, and was planned anew for each message (12.8 ms became 7.7).
FENCE = """
SELECT epoch, sequence, cursor, error_count > 0,
       set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
       set_config('enable_seqscan', 'off', true), set_config('client_min_messages', 'warning', true)
FROM sync_account WHERE id = %s FOR NO KEY UPDATE
"""

# Primary key. The account, the receipt, and the feed entry (as `sync.feed.append`, if there is
# something to tell), in one go: three statements of their own take 2 ms more for each batch. What
# did not come by reading says nothing of whether the platform can be read.
COMMIT_BATCH = """
WITH receipt AS (
    INSERT INTO sync_syncrun (
        account_id, sequence, epoch, worker_id, outcome, read, new, changed, same, refused, size,
        duration_ms, error
    ) VALUES (
        %(account)s, %(sequence)s, %(epoch)s, %(worker_id)s, 'committed', %(read)s, %(new)s,
        %(changed)s, %(same)s, %(refused)s, %(size)s, %(duration_ms)s, ''
    )
), told AS (
    INSERT INTO sync_feedentry (account_id, changes)
    SELECT %(account)s, %(changes)s::jsonb WHERE %(changes)s IS NOT NULL
)
UPDATE sync_account
SET cursor = %(cursor)s, sequence = %(sequence)s,
    last_sync_at = CASE WHEN %(was_read)s THEN clock_timestamp() ELSE last_sync_at END,
    error_count = CASE WHEN %(was_read)s THEN 0 ELSE error_count END,
    last_news_at = CASE WHEN %(news)s THEN clock_timestamp() ELSE last_news_at END,
    backlog = %(remaining)s,
    conversations_total = conversations_total + %(conversations)s,
    messages_total = messages_total + %(messages)s,
    posts_total = posts_total + %(posts)s,
    comments_total = comments_total + %(comments)s,
    unread_total = unread_total + %(unread)s
WHERE id = %(account)s
"""

# Primary key of the account, gap_is_open_once. The open gaps of reading are those that the adapter
# names; what was not pushed (`hooks:`) is not its to close.
CLOSE_GAPS = """
UPDATE sync_gap SET closed_at = now()
WHERE account_id = %(account)s AND closed_at IS NULL AND NOT key = ANY(%(keys)s)
  AND NOT starts_with(key, 'hooks:')
"""

OPEN_GAPS = """
INSERT INTO sync_gap AS g (account_id, key, scope, newer_end, older_end, reason)
SELECT %(account)s, * FROM unnest(
    %(keys)s::text[], %(scopes)s::text[], %(newer)s::text[], %(older)s::text[], %(reasons)s::text[]
)
ON CONFLICT (account_id, key) WHERE closed_at IS NULL DO UPDATE
SET newer_end = EXCLUDED.newer_end, older_end = EXCLUDED.older_end
WHERE (g.newer_end, g.older_end) IS DISTINCT FROM (EXCLUDED.newer_end, EXCLUDED.older_end)
"""

# Primary key. Of the oldest `most` rows those that are too old: the last look, which finds none,
# reads no more of them either.
PRUNE_RUNS = """
DELETE FROM sync_syncrun WHERE id = ANY(ARRAY(
    SELECT id FROM (
        SELECT id, finished_at FROM sync_syncrun ORDER BY id LIMIT %(most)s
    ) oldest
    WHERE finished_at < %(before)s
))
"""

# audit_finished, audit_of_account. Of each account the last audit stays, and the last that was
# complete; one that runs is not finished.
PRUNE_AUDITS = """
DELETE FROM sync_audit WHERE id = ANY(ARRAY(
    SELECT a.id FROM sync_audit a
    WHERE a.finished_at < %(before)s AND a.id < (
        SELECT max(later.id) FROM sync_audit later
        WHERE later.account_id = a.account_id
          AND (later.outcome = 'complete' OR a.outcome <> 'complete')
    )
    ORDER BY a.finished_at LIMIT %(most)s
))
"""

# login_finished. One that is open is not finished.
PRUNE_LOGINS = """
DELETE FROM sync_loginsession WHERE id = ANY(ARRAY(
    SELECT id FROM sync_loginsession
    WHERE finished_at < %(before)s ORDER BY finished_at LIMIT %(most)s
))
"""

# gap_closed. An open one stays, however old.
PRUNE_GAPS = """
DELETE FROM sync_gap WHERE id = ANY(ARRAY(
    SELECT id FROM sync_gap WHERE closed_at < %(before)s ORDER BY closed_at LIMIT %(most)s
))
"""

# total_is_there_once.
ADD_TOTALS = """
INSERT INTO sync_synctotal AS t (
    platform, worker_id, last_success_at,
    syncs, batches, new, changed, same, refused, size, errors, stale
)
SELECT * FROM unnest(
    %(platforms)s::text[], %(workers)s::text[], %(last)s::timestamptz[],
    %(syncs)s::bigint[], %(batches)s::bigint[], %(new)s::bigint[], %(changed)s::bigint[],
    %(same)s::bigint[], %(refused)s::bigint[], %(size)s::bigint[], %(errors)s::bigint[],
    %(stale)s::bigint[]
)
ON CONFLICT (platform, worker_id) DO UPDATE
SET syncs = t.syncs + EXCLUDED.syncs, batches = t.batches + EXCLUDED.batches,
    new = t.new + EXCLUDED.new, changed = t.changed + EXCLUDED.changed,
    same = t.same + EXCLUDED.same, refused = t.refused + EXCLUDED.refused,
    size = t.size + EXCLUDED.size, errors = t.errors + EXCLUDED.errors,
    stale = t.stale + EXCLUDED.stale,
    last_success_at = greatest(t.last_success_at, EXCLUDED.last_success_at)
"""

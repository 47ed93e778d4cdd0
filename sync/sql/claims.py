"""Who checks an account, and when: workers, claims, leases, freshness."""

from __future__ import annotations

# One row for each worker: database id, worker id, whether it may be given accounts, whether it is
# about to be back, how many accounts it may hold, and holds, also by platform; and the strategy.
# A condemned worker still runs and consumes no more. sync_account's index on worker.
WORKERS = """
SELECT c.id, c.worker_id, r.state = 'running' AND r.condemned = '',
       r.desired_state = 'running' AND (
           r.state IN ('starting', 'stopping', 'stopped') OR r.condemned <> ''
           OR r.state = 'crashed' AND r.restart_at <= %(soon)s
       ),
       c.max_accounts, coalesce(held.load, 0), coalesce(held.platforms, '{}'),
       (SELECT strategy FROM sync_assignment)
FROM lifecycle_workerconfig c JOIN lifecycle_workerruntime r ON r.config_id = c.id
LEFT JOIN LATERAL (
    SELECT sum(n)::bigint AS load, jsonb_object_agg(platform, n) AS platforms FROM (
        SELECT a.platform, count(*) AS n FROM sync_account a
        WHERE a.worker_id = c.id AND a.enabled GROUP BY a.platform
    ) by_platform
) held ON true
ORDER BY c.id
"""

# Accounts that need a home: without a worker, with one that is gone, or more than theirs may hold
# (the longest-held stay). sync_account's index on worker.
HOMELESS = """
SELECT id, epoch, worker_id, platform FROM (
    SELECT a.id, a.epoch, a.worker_id, a.platform,
           row_number() OVER (PARTITION BY a.worker_id ORDER BY a.id) AS place
    FROM sync_account a WHERE a.enabled AND (a.worker_id IS NULL OR a.worker_id = ANY(%(gone)s))
) lost
WHERE place <= %(room)s
UNION ALL
SELECT extra.id, extra.epoch, extra.worker_id, extra.platform
FROM unnest(%(crowded)s::bigint[], %(limits)s::int[]) AS w(id, most)
CROSS JOIN LATERAL (
    SELECT a.id, a.epoch, a.worker_id, a.platform FROM sync_account a
    WHERE a.worker_id = w.id AND a.enabled ORDER BY a.id OFFSET w.most
) extra
"""

# Primary key. What was being checked is due at once; what waits after an error goes on waiting.
ASSIGN = """
UPDATE sync_account a
SET worker_id = m.worker_id, epoch = a.epoch + 1, claimed_generation = NULL,
    next_due_at = CASE WHEN a.claimed_generation IS NULL THEN a.next_due_at ELSE %(now)s END
FROM unnest(%(ids)s::bigint[], %(epochs)s::bigint[], %(workers)s::bigint[])
     AS m(id, epoch, worker_id)
WHERE a.id = m.id AND a.epoch = m.epoch
"""

# account_due for those whose time has come; a claim that an earlier process of the worker took is
# worth nothing. The epoch rises with each claim: one live check for each account, whatever the
# broker does with the messages. An account whose login failed waits for a person; one whose server
# has failed too often waits for the one that tries it (`TRY_SERVERS`). What was pushed to either
# waits for nobody (`CLAIM_PUSHED`).
CLAIM = """
UPDATE sync_account a
SET next_due_at = %(lease_until)s, epoch = a.epoch + 1, claimed_generation = due.generation
FROM (
    SELECT a.id, r.generation, c.worker_id
    FROM sync_account a
    JOIN lifecycle_workerruntime r
      ON r.config_id = a.worker_id AND r.state = 'running' AND r.condemned = ''
    JOIN lifecycle_workerconfig c ON c.id = a.worker_id
    WHERE a.enabled AND a.login_state <> 'failed'
      AND (a.next_due_at <= %(now)s OR a.claimed_generation <> r.generation)
      AND NOT EXISTS (
          SELECT FROM sync_platformserver p
          WHERE p.state <> 'closed' AND p.platform = a.platform AND p.endpoint = a.endpoint
      )
    ORDER BY a.next_due_at
    LIMIT %(most)s
    FOR NO KEY UPDATE OF a SKIP LOCKED
) due
WHERE a.id = due.id
RETURNING a.id, a.epoch, due.worker_id
"""

# account_is_there_once. Claims one due account of each server whose breaker has been open for long
# enough: half open, that one tries.
TRY_SERVERS = """
WITH ripe AS (
    SELECT p.id, p.platform, p.endpoint FROM sync_platformserver p
    WHERE p.state <> 'closed' AND p.retry_at <= %(now)s
    FOR UPDATE OF p SKIP LOCKED
), due AS (
    SELECT ripe.id AS server, one.* FROM ripe CROSS JOIN LATERAL (
        SELECT a.id, r.generation, c.worker_id
        FROM sync_account a
        JOIN lifecycle_workerruntime r
          ON r.config_id = a.worker_id AND r.state = 'running' AND r.condemned = ''
        JOIN lifecycle_workerconfig c ON c.id = a.worker_id
        WHERE a.platform = ripe.platform AND a.endpoint = ripe.endpoint
          AND a.enabled AND a.login_state <> 'failed'
          AND (a.next_due_at <= %(now)s OR a.claimed_generation <> r.generation)
          AND coalesce(a.not_before, '-infinity') <= %(now)s
        ORDER BY a.next_due_at LIMIT 1
        FOR NO KEY UPDATE OF a SKIP LOCKED
    ) one
), tried AS (
    UPDATE sync_platformserver p
    SET state = 'half_open', retry_at = %(trial_until)s, tried_by_id = due.id,
        updated_at = %(now)s
    FROM due WHERE p.id = due.server
)
UPDATE sync_account a
SET next_due_at = %(lease_until)s, epoch = a.epoch + 1, claimed_generation = due.generation
FROM due WHERE a.id = due.id
RETURNING a.id, a.epoch, due.worker_id
"""

# Whether the platform is not to be asked for `{account}`: its login waits for a person, or its
# server for the account that tries it. server_is_there_once.
MUST_NOT_ASK = """
({account}.login_state = 'failed' OR EXISTS (
    SELECT FROM sync_platformserver p
    WHERE p.platform = {account}.platform AND p.endpoint = {account}.endpoint
      AND p.state <> 'closed' AND p.tried_by_id IS DISTINCT FROM {account}.id
))
"""

# Whether `sync_account` is the one that tries its server. server_is_there_once.
TRIES_SERVER = """
EXISTS (
    SELECT FROM sync_platformserver p
    WHERE p.platform = sync_account.platform AND p.endpoint = sync_account.endpoint
      AND p.state <> 'closed' AND p.tried_by_id = sync_account.id
)
"""

# The accounts that have deliveries waiting: from one to the next in delivery_pending, however many
# wait for each. Held up are those of them that `CLAIM` leaves out; a platform that no longer pushes
# has nobody who could read them.
PUSHED = """
pushed AS (
    (SELECT account_id FROM sync_hookdelivery WHERE state = 'pending'
     ORDER BY account_id LIMIT 1)
    UNION ALL
    SELECT (SELECT d.account_id FROM sync_hookdelivery d
            WHERE d.state = 'pending' AND d.account_id > pushed.account_id
            ORDER BY d.account_id LIMIT 1)
    FROM pushed WHERE pushed.account_id IS NOT NULL
)
"""
HELD_UP = """
FROM pushed JOIN sync_account a ON a.id = pushed.account_id
JOIN lifecycle_workerruntime r
  ON r.config_id = a.worker_id AND r.state = 'running' AND r.condemned = ''
JOIN lifecycle_workerconfig c ON c.id = a.worker_id
WHERE a.enabled AND a.platform = ANY(%(pushing)s) AND {held_up}
""".replace("{held_up}", MUST_NOT_ASK.format(account="a").strip())

# delivery_pending and primary key, for each account that has deliveries waiting: none, as a rule.
# What was pushed is here already, and needs neither a login nor the server.
CLAIM_PUSHED = """
WITH RECURSIVE {pushed}
UPDATE sync_account a
SET next_due_at = %(lease_until)s, epoch = a.epoch + 1, claimed_generation = due.generation
FROM (
    SELECT a.id, r.generation, c.worker_id
    {held_up} AND (a.next_due_at <= %(now)s OR a.claimed_generation <> r.generation)
    ORDER BY a.next_due_at
    LIMIT %(most)s
    FOR NO KEY UPDATE OF a SKIP LOCKED
) due
WHERE a.id = due.id
RETURNING a.id, a.epoch, due.worker_id
""".replace("{pushed}", PUSHED.strip()).replace("{held_up}", HELD_UP.strip())

# account_due, from its beginning: few accounts wait for a worker or for a server. When the next is
# due; when a server may be tried and an account of it is due (account_is_there_once, for those few
# servers that are not asked); and when one is due for which nothing but deliveries wait.
NEXT_DUE = """
WITH RECURSIVE {pushed}
SELECT
    (SELECT a.next_due_at FROM sync_account a
     JOIN lifecycle_workerruntime r
       ON r.config_id = a.worker_id AND r.state = 'running' AND r.condemned = ''
     WHERE a.enabled AND a.login_state <> 'failed' AND NOT EXISTS (
         SELECT FROM sync_platformserver p
         WHERE p.state <> 'closed' AND p.platform = a.platform AND p.endpoint = a.endpoint
     )
     ORDER BY a.next_due_at LIMIT 1),
    (SELECT min(greatest(p.retry_at, one.due_at))
     FROM sync_platformserver p CROSS JOIN LATERAL (
         SELECT min(greatest(a.next_due_at, a.not_before)) AS due_at FROM sync_account a
         JOIN lifecycle_workerruntime r
           ON r.config_id = a.worker_id AND r.state = 'running' AND r.condemned = ''
         WHERE a.platform = p.platform AND a.endpoint = p.endpoint
           AND a.enabled AND a.login_state <> 'failed'
     ) one
     WHERE p.state <> 'closed' AND one.due_at IS NOT NULL),
    (SELECT min(a.next_due_at) {held_up})
""".replace("{pushed}", PUSHED.strip()).replace("{held_up}", HELD_UP.strip())

# Primary key, in its order, so that two who write for many accounts never wait for each other. What
# was made due meanwhile stays due.
RELEASE = """
UPDATE sync_account a
SET next_due_at = CASE
        WHEN held.next_due_at <= statement_timestamp() THEN held.next_due_at ELSE %(at)s
    END,
    claimed_generation = NULL
FROM (
    SELECT a.id, a.next_due_at FROM sync_account a
    JOIN unnest(%(ids)s::bigint[], %(epochs)s::bigint[]) AS h(id, epoch)
      ON a.id = h.id AND a.epoch = h.epoch
    ORDER BY a.id FOR NO KEY UPDATE OF a
) held
WHERE a.id = held.id
"""

# What waits for the check of `sync_account` beside reading, as an array of `types.Work`.
# one_login_at_a_time, delivery_pending, reply_pending, conversation_read_untold: each holds only
# what waits.
WORK = """
array_remove(ARRAY[
    CASE WHEN EXISTS (
        SELECT FROM sync_loginsession l
        WHERE l.account_id = sync_account.id AND l.state IN ('pending', 'scanned')
    ) THEN 'logins' END,
    CASE WHEN EXISTS (
        SELECT FROM sync_hookdelivery d
        WHERE d.account_id = sync_account.id AND d.state = 'pending'
    ) THEN 'deliveries' END,
    CASE WHEN EXISTS (
        SELECT FROM sync_reply r
        WHERE r.account_id = sync_account.id AND (r.state = 'pending' OR r.is_asked_for)
          AND r.next_attempt_at <= statement_timestamp()
    ) THEN 'replies' END,
    CASE WHEN EXISTS (
        SELECT FROM sync_conversation c
        WHERE c.account_id = sync_account.id AND c.untold_read_id IS NOT NULL
    ) THEN 'marks' END,
    CASE WHEN coalesce(sync_account.audit_due_at, '-infinity') <= statement_timestamp()
    THEN 'audits' END
], NULL)
"""

# server_is_there_once.
IS_SERVER_TROUBLED = """
EXISTS (
    SELECT FROM sync_platformserver p
    WHERE p.platform = sync_account.platform AND p.endpoint = sync_account.endpoint
      AND p.failures > 0
)
"""

# Primary key. One row for each account that is still held under its lease's epoch: whether
# something else had it locked just then, and what work waits for it. An account that is due was
# asked for: it stays due, for the master to claim anew. One whose check has just reported its end
# is claimed by nobody.
RENEW = """
WITH held AS (
    SELECT * FROM unnest(%(ids)s::bigint[], %(epochs)s::bigint[], %(synced)s::timestamptz[])
        AS h(id, epoch, synced_at)
), free AS (
    SELECT a.id FROM sync_account a JOIN held h ON a.id = h.id AND a.epoch = h.epoch
    WHERE a.next_due_at > %(now)s AND a.claimed_generation IS NOT NULL
    FOR NO KEY UPDATE OF a SKIP LOCKED
), renewed AS (
    UPDATE sync_account a
    SET next_due_at = %(until)s, watched_at = %(now)s,
        last_sync_at = greatest(a.last_sync_at, h.synced_at)
    FROM held h WHERE a.id = h.id AND a.id IN (SELECT id FROM free)
    RETURNING a.id
)
SELECT sync_account.id, renewed.id IS NULL AND sync_account.next_due_at > %(now)s, {work},
       {troubled}
FROM held
JOIN sync_account ON sync_account.id = held.id AND sync_account.epoch = held.epoch
LEFT JOIN renewed ON renewed.id = held.id
""".replace("{work}", WORK).replace("{troubled}", IS_SERVER_TROUBLED)

# The servers that failed and that nobody would ask any more: their accounts are gone, disabled, at
# another address, or wait for a person. account_is_there_once.
FORGET_SERVERS = """
DELETE FROM sync_platformserver p WHERE p.failures > 0 AND NOT EXISTS (
    SELECT FROM sync_account a
    WHERE a.platform = p.platform AND a.endpoint = p.endpoint
      AND a.enabled AND a.login_state <> 'failed'
)
"""

# All accounts, a few times a minute: who has not synced for `stalled_after_s`, or for two of its
# intervals where they are longer. A change by people gives it that time anew. Only rows that change
# are locked; one that is being written just then is looked at again next time.
JUDGE_FRESHNESS = """
WITH changed AS (
    SELECT a.id, j.is_stalled FROM sync_account a CROSS JOIN LATERAL (
        SELECT a.enabled AND a.login_state <> 'failed'
           AND greatest(coalesce(a.last_sync_at, a.created_at), a.updated_at) < %(now)s
               - make_interval(secs => greatest(
                     a.stalled_after_s, 2 * coalesce(a.current_interval_s, a.interval_s)
                 )) AS is_stalled
    ) j
    WHERE j.is_stalled <> (a.stalled_since IS NOT NULL)
    ORDER BY a.id FOR NO KEY UPDATE OF a SKIP LOCKED
)
UPDATE sync_account a SET stalled_since = CASE WHEN c.is_stalled THEN %(now)s END
FROM changed c WHERE a.id = c.id
RETURNING a.id, coalesce(nullif(a.name, ''), a.identifier), c.is_stalled, a.last_sync_at
"""

"""The raw SQL of sync, with the index that each statement relies on.

Set-based writing: the rows of a batch are copied into session-local staging tables, compared with
what is stored, and only new and changed ones are written. A replayed batch thus writes no WAL.
"""

from __future__ import annotations

# Left to itself the planner hash-joins the whole message table against 500 staged rows, and a
# generic plan frozen early is 5 times slower. With old statistics it takes a new account for empty
# and compares each staged row with all of it; LATERAL … LIMIT 1 below leaves it one lookup each, in
# the unique index as long as no other index begins with the account (350 ms became 11).
PLANNING = """
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
SET LOCAL enable_seqscan = off;
SET LOCAL plan_cache_mode = force_custom_plan;
SET LOCAL client_min_messages = warning
"""

# Only those that a batch needs: each one that a connection has is truncated at each of its commits.
# Emptied for a second batch in one transaction; otherwise empty already, and the delete is free.
STAGE_MESSAGES = """
CREATE TEMP TABLE IF NOT EXISTS staged_message (
    external_id text, conversation_id bigint, sender_id text, sender_name text, text text,
    content_type text, attachments jsonb, direction text, sent_at timestamptz,
    edited_at timestamptz, is_deleted boolean
) ON COMMIT DELETE ROWS;
DELETE FROM staged_message
"""
STAGE_POSTS = """
CREATE TEMP TABLE IF NOT EXISTS staged_post (
    external_id text, author_id text, author_name text, title text, text text, url text,
    published_at timestamptz, edited_at timestamptz, is_deleted boolean, stated boolean
) ON COMMIT DELETE ROWS;
DELETE FROM staged_post
"""
STAGE_COMMENTS = """
CREATE TEMP TABLE IF NOT EXISTS staged_comment (
    external_id text, post text, parent_external_id text, author_id text, author_name text,
    text text, direction text, published_at timestamptz, edited_at timestamptz,
    is_deleted boolean
) ON COMMIT DELETE ROWS;
DELETE FROM staged_comment
"""

# Primary key. The lock that serializes everything that writes for one account; weaker than FOR
# UPDATE so that foreign keys to the account can still be checked meanwhile.
LOCK_ACCOUNT = """
SELECT epoch, sequence, cursor FROM sync_account WHERE id = %s FOR NO KEY UPDATE
"""

# conversation_is_there_once. `stated` is false for a conversation that only a message spoke of: it
# is made when missing, never changed. Returns one row: ids inserted, ids changed, same, made (=
# inserted without being stated), and all ids by external id.
UPSERT_CONVERSATIONS = """
WITH resolved AS MATERIALIZED (
    SELECT s.*, c.id, c.id IS NULL AS missing,
           s.stated AND (s.title, s.is_group) IS DISTINCT FROM (c.title, c.is_group) AS differs
    FROM unnest(
        %(ids)s::text[], %(titles)s::text[], %(groups)s::boolean[], %(stated)s::boolean[]
    ) AS s(external_id, title, is_group, stated)
    LEFT JOIN LATERAL (
        SELECT * FROM sync_conversation t
        WHERE t.account_id = %(account)s AND t.external_id = s.external_id LIMIT 1
    ) c ON true
), written AS (
    INSERT INTO sync_conversation AS c (
        account_id, external_id, title, is_group, last_message_text, last_sender_name,
        messages_total, unread_count
    )
    SELECT %(account)s, external_id, title, is_group, '', '', 0, 0
    FROM resolved WHERE missing OR differs
    ON CONFLICT (account_id, external_id) DO UPDATE
    SET title = EXCLUDED.title, is_group = EXCLUDED.is_group, updated_at = now()
    WHERE (c.title, c.is_group) IS DISTINCT FROM (EXCLUDED.title, EXCLUDED.is_group)
    RETURNING id, external_id, xmax = 0 AS inserted
)
SELECT (SELECT array_agg(id) FILTER (WHERE inserted) FROM written),
       (SELECT array_agg(id) FILTER (WHERE NOT inserted) FROM written),
       count(*) FILTER (WHERE stated AND NOT missing AND NOT differs),
       count(*) FILTER (WHERE NOT stated AND missing),
       coalesce(jsonb_object_agg(external_id, id) FILTER (WHERE NOT missing), '{}')
         || (SELECT coalesce(jsonb_object_agg(external_id, id), '{}') FROM written)
FROM resolved
"""

COPY_MESSAGES = """
COPY staged_message (external_id, conversation_id, sender_id, sender_name, text, content_type,
                     attachments, direction, sent_at, edited_at, is_deleted) FROM STDIN
"""

# message_is_there_once. The rules of `merge.combine` against the stored
# row; a message stays in its conversation and keeps its direction. A deleted message needs no
# reading. What a stored message said before is kept. Returns for each conversation: id, ids
# inserted, ids changed, same, unread (difference).
UPSERT_MESSAGES = """
WITH seen AS (
    SELECT s.*, m.id AS m_id, m.id IS NULL AS missing,
           m.conversation_id AS m_conversation_id, m.sender_id AS m_sender_id,
           m.sender_name AS m_sender_name,
           m.text AS m_text, m.content_type AS m_content_type, m.attachments AS m_attachments,
           m.direction AS m_direction, m.sent_at AS m_sent_at, m.edited_at AS m_edited_at,
           m.is_deleted AS m_is_deleted, m.is_read AS m_is_read,
           m.id IS NULL OR s.sent_at <= m.sent_at AS origin,
           m.id IS NULL OR %(fetched)s OR
             (s.is_deleted, coalesce(s.edited_at, '-infinity'))
             >= (m.is_deleted, coalesce(m.edited_at, '-infinity')) AS newest
    FROM staged_message s
    LEFT JOIN LATERAL (
        SELECT * FROM sync_message t
        WHERE t.account_id = %(account)s AND t.external_id = s.external_id LIMIT 1
    ) m ON true
), resolved AS MATERIALIZED (
    SELECT external_id, missing, m_id, m_is_read,
           coalesce(m_conversation_id, conversation_id) AS conversation_id,
           coalesce(m_direction, direction) AS direction,
           CASE WHEN origin THEN sender_id ELSE m_sender_id END AS sender_id,
           CASE WHEN origin THEN coalesce(nullif(sender_name, ''), m_sender_name, '')
                ELSE coalesce(nullif(m_sender_name, ''), sender_name) END AS sender_name,
           CASE WHEN origin THEN sent_at ELSE m_sent_at END AS sent_at,
           CASE WHEN newest THEN text ELSE m_text END AS text,
           CASE WHEN newest THEN content_type ELSE m_content_type END AS content_type,
           CASE WHEN newest THEN attachments ELSE m_attachments END AS attachments,
           CASE WHEN newest THEN edited_at ELSE m_edited_at END AS edited_at,
           CASE WHEN newest THEN is_deleted ELSE m_is_deleted END AS is_deleted,
           coalesce(m_is_read, direction = 'outbound')
             OR CASE WHEN newest THEN is_deleted ELSE m_is_deleted END AS is_read,
           missing
             OR origin AND sent_at <> m_sent_at
             OR origin AND sender_id <> m_sender_id
             OR origin AND sender_name NOT IN ('', m_sender_name)
             OR m_sender_name = '' AND sender_name <> ''
             OR newest AND (text, content_type, attachments, edited_at, is_deleted)
                 IS DISTINCT FROM
                 (m_text, m_content_type, m_attachments, m_edited_at, m_is_deleted) AS differs,
           CASE WHEN NOT missing AND newest
                 AND (text, content_type, attachments, is_deleted)
                     IS DISTINCT FROM (m_text, m_content_type, m_attachments, m_is_deleted)
           THEN jsonb_build_object(
               'text', m_text, 'content_type', m_content_type, 'attachments', m_attachments,
               'edited_at', m_edited_at, 'is_deleted', m_is_deleted
           ) END AS former
    FROM seen
), kept AS (
    INSERT INTO sync_recordversion (account_id, kind, record_id, content, sequence)
    SELECT %(account)s, 'message', m_id, former, %(sequence)s
    FROM resolved WHERE former IS NOT NULL
), inserted AS (
    INSERT INTO sync_message (
        account_id, conversation_id, external_id, sender_id, sender_name, text, content_type,
        attachments, direction, sent_at, edited_at, is_deleted, is_read
    )
    SELECT %(account)s, conversation_id, external_id, sender_id, sender_name, text, content_type,
           attachments, direction, sent_at, edited_at, is_deleted, is_read
    FROM resolved WHERE missing
    RETURNING id, conversation_id, is_read
), updated AS (
    UPDATE sync_message m
    SET sender_id = r.sender_id, sender_name = r.sender_name, text = r.text,
        content_type = r.content_type, attachments = r.attachments, sent_at = r.sent_at,
        edited_at = r.edited_at, is_deleted = r.is_deleted, is_read = r.is_read
    FROM resolved r WHERE m.id = r.m_id AND r.differs
    RETURNING m.id, m.conversation_id
)
SELECT conversation_id, array_agg(new_id) FILTER (WHERE new_id IS NOT NULL),
       array_agg(changed_id) FILTER (WHERE changed_id IS NOT NULL), sum(same)::int, sum(unread)::int
FROM (
    SELECT conversation_id, id AS new_id, NULL::bigint AS changed_id, 0 AS same,
           (NOT is_read)::int AS unread
    FROM inserted
    UNION ALL
    SELECT conversation_id, NULL, id, 0, 0 FROM updated
    UNION ALL
    SELECT conversation_id, NULL, NULL, (NOT differs)::int,
           CASE WHEN NOT missing AND NOT m_is_read AND is_read THEN -1 ELSE 0 END
    FROM resolved
) counted
GROUP BY conversation_id
"""

# Primary key of the conversation; the index (conversation, -sent_at, -id) gives the last message
# without looking at the others.
ROLL_UP_CONVERSATIONS = """
UPDATE sync_conversation c
SET messages_total = c.messages_total + d.inserted,
    unread_count = c.unread_count + d.unread,
    last_message_at = last.sent_at,
    last_message_text = left(last.text, 300),
    last_sender_name = last.sender_name,
    updated_at = now()
FROM unnest(%(ids)s::bigint[], %(inserted)s::int[], %(unread)s::int[]) AS d(id, inserted, unread)
CROSS JOIN LATERAL (
    SELECT m.sent_at, m.text, m.sender_name FROM sync_message m
    WHERE m.conversation_id = d.id ORDER BY m.sent_at DESC, m.id DESC LIMIT 1
) last
WHERE c.id = d.id
"""

COPY_POSTS = """
COPY staged_post (external_id, author_id, author_name, title, text, url, published_at, edited_at,
                  is_deleted, stated) FROM STDIN
"""

# post_is_there_once. As with conversations, a post that only a comment spoke of is never changed.
# The newer version counts, and what a post said before is kept.
UPSERT_POSTS = """
WITH resolved AS MATERIALIZED (
    SELECT s.*, p.id AS p_id, p.id IS NULL AS missing,
           s.stated AND (
               %(fetched)s OR (s.is_deleted, coalesce(s.edited_at, '-infinity'))
                           >= (p.is_deleted, coalesce(p.edited_at, '-infinity'))
           ) AND (s.author_id, s.author_name, s.title, s.text, s.url, s.published_at, s.edited_at,
                  s.is_deleted)
               IS DISTINCT FROM
               (p.author_id, p.author_name, p.title, p.text, p.url, p.published_at, p.edited_at,
                p.is_deleted) AS differs,
           (s.title, s.text, s.url, s.is_deleted)
           IS DISTINCT FROM (p.title, p.text, p.url, p.is_deleted) AS reads_otherwise,
           jsonb_build_object(
               'title', p.title, 'text', p.text, 'url', p.url, 'edited_at', p.edited_at,
               'is_deleted', p.is_deleted
           ) AS former
    FROM staged_post s
    LEFT JOIN LATERAL (
        SELECT * FROM sync_post t
        WHERE t.account_id = %(account)s AND t.external_id = s.external_id LIMIT 1
    ) p ON true
), kept AS (
    INSERT INTO sync_recordversion (account_id, kind, record_id, content, sequence)
    SELECT %(account)s, 'post', p_id, former, %(sequence)s
    FROM resolved WHERE NOT missing AND differs AND reads_otherwise
), written AS (
    INSERT INTO sync_post AS p (
        account_id, external_id, author_id, author_name, title, text, url, published_at, edited_at,
        is_deleted
    )
    SELECT %(account)s, external_id, author_id, author_name, title, text, url, published_at,
           edited_at, is_deleted
    FROM resolved WHERE missing OR differs
    ON CONFLICT (account_id, external_id) DO UPDATE
    SET author_id = EXCLUDED.author_id, author_name = EXCLUDED.author_name,
        title = EXCLUDED.title, text = EXCLUDED.text, url = EXCLUDED.url,
        published_at = EXCLUDED.published_at, edited_at = EXCLUDED.edited_at,
        is_deleted = EXCLUDED.is_deleted
    RETURNING id, xmax = 0 AS inserted
)
SELECT (SELECT array_agg(id) FILTER (WHERE inserted) FROM written),
       (SELECT array_agg(id) FILTER (WHERE NOT inserted) FROM written),
       count(*) FILTER (WHERE stated AND NOT missing AND NOT differs),
       count(*) FILTER (WHERE NOT stated AND missing)
FROM resolved
"""

COPY_COMMENTS = """
COPY staged_comment (external_id, post, parent_external_id, author_id, author_name, text,
                     direction, published_at, edited_at, is_deleted) FROM STDIN
"""

# comment_is_there_once, post_is_there_once. A comment stays below its post and keeps its direction.
# The newer version counts, and what a comment said before is kept.
UPSERT_COMMENTS = """
WITH resolved AS MATERIALIZED (
    SELECT s.*, p.id AS post_id, c.id AS c_id, c.id IS NULL AS missing,
           (%(fetched)s OR (s.is_deleted, coalesce(s.edited_at, '-infinity'))
                        >= (c.is_deleted, coalesce(c.edited_at, '-infinity')))
           AND (s.parent_external_id, s.author_id, s.author_name, s.text, s.published_at,
                s.edited_at, s.is_deleted)
               IS DISTINCT FROM
               (c.parent_external_id, c.author_id, c.author_name, c.text, c.published_at,
                c.edited_at, c.is_deleted) AS differs,
           (s.text, s.is_deleted) IS DISTINCT FROM (c.text, c.is_deleted) AS reads_otherwise,
           jsonb_build_object(
               'text', c.text, 'edited_at', c.edited_at, 'is_deleted', c.is_deleted
           ) AS former
    FROM staged_comment s
    JOIN LATERAL (
        SELECT * FROM sync_post t
        WHERE t.account_id = %(account)s AND t.external_id = s.post LIMIT 1
    ) p ON true
    LEFT JOIN LATERAL (
        SELECT * FROM sync_comment t
        WHERE t.account_id = %(account)s AND t.external_id = s.external_id LIMIT 1
    ) c ON true
), kept AS (
    INSERT INTO sync_recordversion (account_id, kind, record_id, content, sequence)
    SELECT %(account)s, 'comment', c_id, former, %(sequence)s
    FROM resolved WHERE NOT missing AND differs AND reads_otherwise
), written AS (
    INSERT INTO sync_comment AS c (
        account_id, post_id, external_id, parent_external_id, author_id, author_name, text,
        direction, published_at, edited_at, is_deleted
    )
    SELECT %(account)s, post_id, external_id, parent_external_id, author_id, author_name, text,
           direction, published_at, edited_at, is_deleted
    FROM resolved WHERE missing OR differs
    ON CONFLICT (account_id, external_id) DO UPDATE
    SET parent_external_id = EXCLUDED.parent_external_id, author_id = EXCLUDED.author_id,
        author_name = EXCLUDED.author_name, text = EXCLUDED.text,
        published_at = EXCLUDED.published_at, edited_at = EXCLUDED.edited_at,
        is_deleted = EXCLUDED.is_deleted
    RETURNING id, xmax = 0 AS inserted
)
SELECT (SELECT array_agg(id) FILTER (WHERE inserted) FROM written),
       (SELECT array_agg(id) FILTER (WHERE NOT inserted) FROM written),
       count(*) FILTER (WHERE NOT missing AND NOT differs),
       0
FROM resolved
"""

# Primary key. The account, the receipt, and the feed entry (as `sync.feed.append`, if there is
# something to tell), in one go: three statements of their own take 2 ms more for each batch.
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
SET cursor = %(cursor)s, sequence = %(sequence)s, last_sync_at = clock_timestamp(), error_count = 0,
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

NOTIFY = "SELECT pg_notify(%s, %s)"

# message_unread. With the account's row locked. `upto` null: all of the conversation.
MARK_READ = """
UPDATE sync_message m SET is_read = true
WHERE m.conversation_id = %(conversation)s AND m.direction = 'inbound' AND NOT m.is_read
  AND (%(upto)s::bigint IS NULL OR (m.sent_at, m.id) <= (
      SELECT u.sent_at, u.id FROM sync_message u
      WHERE u.id = %(upto)s AND u.conversation_id = %(conversation)s
  ))
"""

# message_unread, by way of the account's conversations that have something unread.
MARK_ALL_READ = """
UPDATE sync_message m SET is_read = true
WHERE m.direction = 'inbound' AND NOT m.is_read AND m.conversation_id IN (
    SELECT id FROM sync_conversation WHERE account_id = %s AND unread_count > 0
)
"""

# Primary key of the conversations; the index (conversation, -sent_at, -id) gives the last message.
# `upto` null: to its end.
QUEUE_MARKS = """
UPDATE sync_conversation c SET untold_read_id = coalesce(%(upto)s::bigint, (
    SELECT m.id FROM sync_message m WHERE m.conversation_id = c.id
    ORDER BY m.sent_at DESC, m.id DESC LIMIT 1
))
WHERE c.id = ANY(%(ids)s)
"""

# conversation_read_untold.
UNTOLD_READ = """
SELECT c.id, c.external_id, m.id, m.external_id
FROM sync_conversation c JOIN sync_message m ON m.id = c.untold_read_id
WHERE c.account_id = %s AND c.untold_read_id IS NOT NULL
ORDER BY c.id LIMIT %s
"""

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
# has failed too often waits for the one that tries it (`TRY_SERVERS`).
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
        ORDER BY a.next_due_at LIMIT 1
        FOR NO KEY UPDATE OF a SKIP LOCKED
    ) one
), tried AS (
    UPDATE sync_platformserver p
    SET state = 'half_open', retry_at = %(trial_until)s, updated_at = %(now)s
    FROM due WHERE p.id = due.server
)
UPDATE sync_account a
SET next_due_at = %(lease_until)s, epoch = a.epoch + 1, claimed_generation = due.generation
FROM due WHERE a.id = due.id
RETURNING a.id, a.epoch, due.worker_id
"""

# Primary key, in its order, so that two who write for many accounts never wait for each other.
RELEASE = """
UPDATE sync_account a SET next_due_at = %(at)s, claimed_generation = NULL
FROM (
    SELECT a.id FROM sync_account a
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
        WHERE r.account_id = sync_account.id AND r.state = 'pending'
          AND r.next_attempt_at <= statement_timestamp()
    ) THEN 'replies' END,
    CASE WHEN EXISTS (
        SELECT FROM sync_conversation c
        WHERE c.account_id = sync_account.id AND c.untold_read_id IS NOT NULL
    ) THEN 'marks' END,
    CASE WHEN sync_account.audit_due_at <= statement_timestamp() THEN 'audits' END
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

# account_due, from its beginning: few accounts wait for a worker or for a server. When the next is
# due, and when a server may be tried: then, if an account of it is due.
NEXT_DUE = """
SELECT
    (SELECT a.next_due_at FROM sync_account a
     JOIN lifecycle_workerruntime r
       ON r.config_id = a.worker_id AND r.state = 'running' AND r.condemned = ''
     WHERE a.enabled AND a.login_state <> 'failed' AND NOT EXISTS (
         SELECT FROM sync_platformserver p
         WHERE p.state <> 'closed' AND p.platform = a.platform AND p.endpoint = a.endpoint
     )
     ORDER BY a.next_due_at LIMIT 1),
    (SELECT min(p.retry_at) FROM sync_platformserver p WHERE p.state <> 'closed')
"""

# The oldest first; by account and id, so a batch is a short index range and never a table scan.
PRUNE_RUNS = """
DELETE FROM sync_syncrun WHERE id IN (
    SELECT id FROM sync_syncrun WHERE finished_at < %(before)s ORDER BY id LIMIT %(most)s
)
"""

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

# What a conversation should say. Message's index (conversation, -sent_at, -id), message_unread.
_COUNTED = """
CROSS JOIN LATERAL (
    SELECT (SELECT count(*) FROM sync_message m WHERE m.conversation_id = c.id) AS messages,
           (SELECT count(*) FROM sync_message m
            WHERE m.conversation_id = c.id AND m.direction = 'inbound' AND NOT m.is_read) AS unread
) n
"""

# Primary key. Each counter beside its count: unread, messages.
COUNT_CONVERSATIONS = """
SELECT c.id, c.account_id, c.unread_count, n.unread, c.messages_total, n.messages
FROM (
    SELECT * FROM sync_conversation WHERE id > %(after)s ORDER BY id LIMIT %(most)s
) c {counted}
ORDER BY c.id
""".replace("{counted}", _COUNTED)

# What an account should say. The unique indexes that begin with the account.
_OF_ACCOUNT = """
CROSS JOIN LATERAL (
    SELECT coalesce(sum(c.unread_count), 0)::bigint AS unread,
           coalesce(sum(c.messages_total), 0)::bigint AS messages, count(*) AS conversations,
           (SELECT count(*) FROM sync_post p WHERE p.account_id = a.id) AS posts,
           (SELECT count(*) FROM sync_comment k WHERE k.account_id = a.id) AS comments
    FROM sync_conversation c WHERE c.account_id = a.id
) n
"""

# As above: unread, messages, conversations, posts, comments.
COUNT_ACCOUNTS = """
SELECT a.id, a.unread_total, n.unread, a.messages_total, n.messages,
       a.conversations_total, n.conversations, a.posts_total, n.posts,
       a.comments_total, n.comments
FROM sync_account a {counted}
WHERE (a.unread_total, a.messages_total, a.conversations_total, a.posts_total, a.comments_total)
   <> (n.unread, n.messages, n.conversations, n.posts, n.comments)
""".replace("{counted}", _OF_ACCOUNT)

# With the account's row locked: counted once more, as nobody writes now.
REPAIR_CONVERSATIONS = """
UPDATE sync_conversation r
SET unread_count = n.unread, messages_total = n.messages, updated_at = now()
FROM sync_conversation c {counted}
WHERE r.id = c.id AND c.id = ANY(%(ids)s)
""".replace("{counted}", _COUNTED)
REPAIR_ACCOUNT = """
UPDATE sync_account r
SET unread_total = n.unread, messages_total = n.messages, conversations_total = n.conversations,
    posts_total = n.posts, comments_total = n.comments
FROM sync_account a {counted}
WHERE r.id = a.id AND a.id = %(account)s
""".replace("{counted}", _OF_ACCOUNT)

# --- webhooks ---------------------------------------------------------------------------------

# Primary key. Deliveries are inserted under this lock, so that whoever takes FOR UPDATE sees all
# that were begun before; the locks of batches and claims don't meet it.
SHARE_ACCOUNT = """
SELECT 1 FROM sync_account WHERE id = %s FOR KEY SHARE
"""

# Primary key. Waits for deliveries that are being inserted, and for nothing else that lasts.
LOCK_OUT_DELIVERIES = """
SELECT 1 FROM sync_account WHERE id = %s FOR UPDATE
"""

# delivery_is_there_once, delivery_pending. Returns whether it is new, and whether others waited
# before it: then the account has been woken already.
TAKE_DELIVERY = """
INSERT INTO sync_hookdelivery AS d
    (account_id, delivery_id, order_key, number, headers, body, state, error, repeats, received_at,
     processed_at)
VALUES
    (%(account)s, %(delivery_id)s, %(order_key)s, %(number)s, %(headers)s, %(body)s, %(state)s,
     %(error)s, 0, now(), CASE WHEN %(state)s = 'pending' THEN NULL ELSE now() END)
ON CONFLICT (account_id, delivery_id) DO UPDATE SET repeats = d.repeats + 1
RETURNING d.xmax = 0, EXISTS (
    SELECT 1 FROM sync_hookdelivery e WHERE e.account_id = %(account)s AND e.state = 'pending'
)
"""

# Primary key.
WAKE = """
UPDATE sync_account SET next_due_at = LEAST(next_due_at, %(now)s) WHERE id = %(account)s
"""

# A scan: once an hour, and it stops at `most` rows.
PRUNE_DELIVERIES = """
DELETE FROM sync_hookdelivery WHERE id IN (
    SELECT id FROM sync_hookdelivery
    WHERE state <> 'pending' AND received_at < %(before)s ORDER BY id LIMIT %(most)s
)
"""

# All accounts, a few times a minute: who has not synced for `stalled_after_s`, or for two of its
# intervals where they are longer, or for the time in which a wait without news is told. A change by
# people gives it that time anew. Only rows that change are locked; one that is being written just
# then is looked at again next time.
JUDGE_FRESHNESS = """
WITH changed AS (
    SELECT a.id, j.is_stalled FROM sync_account a CROSS JOIN LATERAL (
        SELECT a.enabled AND a.login_state <> 'failed'
           AND greatest(coalesce(a.last_sync_at, a.created_at), a.updated_at) < %(now)s
               - make_interval(secs => greatest(
                     a.stalled_after_s, 2 * coalesce(a.current_interval_s, a.interval_s),
                     %(told_within_s)s
                 )) AS is_stalled
    ) j
    WHERE j.is_stalled <> (a.stalled_since IS NOT NULL)
    ORDER BY a.id FOR NO KEY UPDATE OF a SKIP LOCKED
)
UPDATE sync_account a SET stalled_since = CASE WHEN c.is_stalled THEN %(now)s END
FROM changed c WHERE a.id = c.id
RETURNING a.id, coalesce(nullif(a.name, ''), a.identifier), c.is_stalled, a.last_sync_at
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

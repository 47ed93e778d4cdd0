"""The raw SQL of sync, with the index that each statement relies on.

Set-based writing: the rows of a batch are copied into session-local staging tables, compared with
what is stored, and only new and changed ones are written. A replayed batch thus writes no WAL.
"""

from __future__ import annotations

# Left to itself the planner hash-joins the whole message table against 500 staged rows, and a
# generic plan frozen early is 5 times slower. With old statistics it takes a new account for empty
# and compares each staged row with all of it; LATERAL … LIMIT 1 below leaves it one lookup each, in
# the unique index as long as no other index begins with the account (350 ms became 11).
# Empties the staging tables for a second batch in one transaction; otherwise they are empty already
# and the deletes cost nothing.
PREPARE = """
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
SET LOCAL enable_seqscan = off;
SET LOCAL plan_cache_mode = force_custom_plan;
SET LOCAL client_min_messages = warning;
CREATE TEMP TABLE IF NOT EXISTS staged_conversation (
    external_id text, title text, is_group boolean, stated boolean
) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS staged_message (
    external_id text, conversation text, sender_id text, sender_name text, text text,
    content_type text, attachments jsonb, direction text, sent_at timestamptz,
    edited_at timestamptz, is_deleted boolean
) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS staged_post (
    external_id text, author_id text, author_name text, title text, text text, url text,
    published_at timestamptz, edited_at timestamptz, is_deleted boolean, stated boolean
) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS staged_comment (
    external_id text, post text, parent_external_id text, author_id text, author_name text,
    text text, direction text, published_at timestamptz, edited_at timestamptz,
    is_deleted boolean
) ON COMMIT DELETE ROWS;
DELETE FROM staged_conversation;
DELETE FROM staged_message;
DELETE FROM staged_post;
DELETE FROM staged_comment
"""

# Primary key. The lock that serializes everything that writes for one account; weaker than FOR
# UPDATE so that foreign keys to the account can still be checked meanwhile.
LOCK_ACCOUNT = """
SELECT epoch, sequence, cursor FROM sync_account WHERE id = %s FOR NO KEY UPDATE
"""

COPY_CONVERSATIONS = """
COPY staged_conversation (external_id, title, is_group, stated) FROM STDIN
"""

# conversation_is_there_once. `stated` is false for a conversation that only a message spoke of: it
# is made when missing, never changed. Returns one row: inserted, changed, same, made (= inserted
# without being stated).
UPSERT_CONVERSATIONS = """
WITH resolved AS MATERIALIZED (
    SELECT s.*, c.id IS NULL AS missing,
           s.stated AND (s.title, s.is_group) IS DISTINCT FROM (c.title, c.is_group) AS differs
    FROM staged_conversation s
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
    RETURNING id, xmax = 0 AS inserted
)
SELECT (SELECT array_agg(id) FILTER (WHERE inserted) FROM written),
       (SELECT array_agg(id) FILTER (WHERE NOT inserted) FROM written),
       count(*) FILTER (WHERE stated AND NOT missing AND NOT differs),
       count(*) FILTER (WHERE NOT stated AND missing)
FROM resolved
"""

COPY_MESSAGES = """
COPY staged_message (external_id, conversation, sender_id, sender_name, text, content_type,
                     attachments, direction, sent_at, edited_at, is_deleted) FROM STDIN
"""

# message_is_there_once, conversation_is_there_once. The rules of `merge.combine` against the stored
# row; a message stays in its conversation and keeps its direction. A deleted message needs no
# reading. What a stored message said before is kept. Returns for each conversation: id, ids
# inserted, ids changed, same, unread (difference).
UPSERT_MESSAGES = """
WITH seen AS (
    SELECT s.*, c.id AS found_conversation_id, m.id AS m_id, m.id IS NULL AS missing,
           m.conversation_id, m.sender_id AS m_sender_id, m.sender_name AS m_sender_name,
           m.text AS m_text, m.content_type AS m_content_type, m.attachments AS m_attachments,
           m.direction AS m_direction, m.sent_at AS m_sent_at, m.edited_at AS m_edited_at,
           m.is_deleted AS m_is_deleted, m.is_read AS m_is_read,
           m.id IS NULL OR s.sent_at <= m.sent_at AS origin,
           m.id IS NULL OR %(fetched)s OR
             (s.is_deleted, coalesce(s.edited_at, '-infinity'))
             >= (m.is_deleted, coalesce(m.edited_at, '-infinity')) AS newest
    FROM staged_message s
    JOIN LATERAL (
        SELECT * FROM sync_conversation t
        WHERE t.account_id = %(account)s AND t.external_id = s.conversation LIMIT 1
    ) c ON true
    LEFT JOIN LATERAL (
        SELECT * FROM sync_message t
        WHERE t.account_id = %(account)s AND t.external_id = s.external_id LIMIT 1
    ) m ON true
), resolved AS MATERIALIZED (
    SELECT external_id, missing, m_id, m_is_read,
           coalesce(conversation_id, found_conversation_id) AS conversation_id,
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
), written AS (
    INSERT INTO sync_message AS m (
        account_id, conversation_id, external_id, sender_id, sender_name, text, content_type,
        attachments, direction, sent_at, edited_at, is_deleted, is_read
    )
    SELECT %(account)s, conversation_id, external_id, sender_id, sender_name, text, content_type,
           attachments, direction, sent_at, edited_at, is_deleted, is_read
    FROM resolved WHERE differs
    ON CONFLICT (account_id, external_id) DO UPDATE
    SET sender_id = EXCLUDED.sender_id, sender_name = EXCLUDED.sender_name, text = EXCLUDED.text,
        content_type = EXCLUDED.content_type, attachments = EXCLUDED.attachments,
        sent_at = EXCLUDED.sent_at, edited_at = EXCLUDED.edited_at,
        is_deleted = EXCLUDED.is_deleted, is_read = EXCLUDED.is_read
    WHERE (m.sender_id, m.sender_name, m.text, m.content_type, m.attachments, m.sent_at,
           m.edited_at, m.is_deleted)
       IS DISTINCT FROM
          (EXCLUDED.sender_id, EXCLUDED.sender_name, EXCLUDED.text, EXCLUDED.content_type,
           EXCLUDED.attachments, EXCLUDED.sent_at, EXCLUDED.edited_at, EXCLUDED.is_deleted)
    RETURNING m.id, m.conversation_id, xmax = 0 AS inserted, m.is_read
)
SELECT conversation_id, array_agg(new_id) FILTER (WHERE new_id IS NOT NULL),
       array_agg(changed_id) FILTER (WHERE changed_id IS NOT NULL), sum(same)::int, sum(unread)::int
FROM (
    SELECT conversation_id, CASE WHEN inserted THEN id END AS new_id,
           CASE WHEN NOT inserted THEN id END AS changed_id, 0 AS same,
           (inserted AND NOT is_read)::int AS unread
    FROM written
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

# Primary key.
COMMIT_ACCOUNT = """
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

# Primary key of the account, gap_is_open_once. The open gaps are those that the adapter names.
CLOSE_GAPS = """
UPDATE sync_gap SET closed_at = now()
WHERE account_id = %(account)s AND closed_at IS NULL AND NOT key = ANY(%(keys)s)
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
# broker does with the messages. An account whose login failed waits for a person.
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
    ORDER BY a.next_due_at
    LIMIT %(most)s
    FOR NO KEY UPDATE OF a SKIP LOCKED
) due
WHERE a.id = due.id
RETURNING a.id, a.epoch, due.worker_id
"""

# Primary key. Claims that could not be sent.
RELEASE = """
UPDATE sync_account a SET next_due_at = %(at)s, claimed_generation = NULL
FROM unnest(%(ids)s::bigint[], %(epochs)s::bigint[]) AS m(id, epoch)
WHERE a.id = m.id AND a.epoch = m.epoch
"""

# account_due.
NEXT_DUE = """
SELECT min(a.next_due_at) FROM sync_account a
JOIN lifecycle_workerruntime r
  ON r.config_id = a.worker_id AND r.state = 'running' AND r.condemned = ''
WHERE a.enabled AND a.login_state <> 'failed'
"""

# The oldest first; by account and id, so a batch is a short index range and never a table scan.
PRUNE_RUNS = """
DELETE FROM sync_syncrun WHERE id IN (
    SELECT id FROM sync_syncrun WHERE finished_at < %(before)s ORDER BY id LIMIT %(most)s
)
"""

"""Writing conversations and messages in sets.

What the store holds to the letter is found first and goes no further. The others are copied into a
session-local staging table, compared by the rules, and only new and changed ones are written. A
replayed batch thus writes no WAL.
"""

from __future__ import annotations

# Only those that a batch needs: each one that a connection has is truncated at each of its commits.
# Emptied for a second batch in one transaction; otherwise empty already, and the delete is free.
STAGE_MESSAGES = """
CREATE TEMP TABLE IF NOT EXISTS staged_message (
    stored_id bigint, external_id text, conversation_id bigint, sender_id text, sender_name text,
    text text, content_type text, attachments jsonb, direction text, sent_at timestamptz,
    edited_at timestamptz, is_deleted boolean
) ON COMMIT DELETE ROWS;
DELETE FROM staged_message
"""

# message_is_there_once, one pass over the sorted ids: a quarter of a lookup for each. Bound by the
# server, and read in binary. `ids` is a JSON array: five times cheaper to make than a text[].
STORED_MESSAGES = """
SELECT m.id, m.external_id, m.conversation_id, m.sender_id, m.sender_name, m.text, m.content_type,
       m.direction, m.sent_at, m.edited_at, m.is_deleted, nullif(m.attachments, '[]')
FROM sync_message m
WHERE m.account_id = %(account)s
  AND m.external_id = ANY(ARRAY(SELECT json_array_elements_text(%(ids)s)))
"""

# Primary key, for the few conversations of a batch: cheaper than a lookup for each message.
NAMED_CONVERSATIONS = "SELECT id, external_id FROM sync_conversation WHERE id = ANY(%s::bigint[])"

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
COPY staged_message (stored_id, external_id, conversation_id, sender_id, sender_name, text,
                     content_type, attachments, direction, sent_at, edited_at, is_deleted)
FROM STDIN
"""

# Primary key, for those that `STORED_MESSAGES` found. The rules of `merge.combine` against the
# stored row; a message stays in its conversation and keeps its direction. A deleted message needs
# no reading. What a stored message said before is kept. Returns for each conversation: id, ids
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
    LEFT JOIN LATERAL (SELECT * FROM sync_message t WHERE t.id = s.stored_id LIMIT 1) m ON true
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

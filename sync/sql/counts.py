"""Counters, counted anew [S10]."""

from __future__ import annotations

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

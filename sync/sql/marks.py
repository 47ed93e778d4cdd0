"""Marking messages read, here and on the platform."""

from __future__ import annotations

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

# Primary key of the conversations; the index (conversation, -sent_at, -id), from its newest end, to
# the last message that we received: some platforms take a mark at no other, and none can find one
# that is gone. `upto` null: to its end.
QUEUE_MARKS = """
UPDATE sync_conversation c SET untold_attempts = 0, untold_read_id = coalesce((
    SELECT m.id FROM sync_message m
    WHERE m.conversation_id = c.id AND m.direction = 'inbound' AND NOT m.is_deleted
      AND (%(upto)s::bigint IS NULL OR (m.sent_at, m.id) <= (
          SELECT u.sent_at, u.id FROM sync_message u WHERE u.id = %(upto)s
      ))
    ORDER BY m.sent_at DESC, m.id DESC LIMIT 1
), c.untold_read_id)
WHERE c.id = ANY(%(ids)s)
"""

# conversation_read_untold. Those that failed come last, so that they hold back no other.
UNTOLD_READ = """
SELECT c.id, c.external_id, m.id, m.external_id, m.sent_at
FROM sync_conversation c JOIN sync_message m ON m.id = c.untold_read_id
WHERE c.account_id = %s AND c.untold_read_id IS NOT NULL
ORDER BY c.untold_attempts, c.id LIMIT %s
"""

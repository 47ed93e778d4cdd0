"""What platforms push to us [S13]."""

from __future__ import annotations

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

# Primary key. Of the oldest `most` rows that are processed those that are too old: as PRUNE_RUNS.
PRUNE_DELIVERIES = """
DELETE FROM sync_hookdelivery WHERE id = ANY(ARRAY(
    SELECT id FROM (
        SELECT id, received_at FROM sync_hookdelivery
        WHERE state <> 'pending' ORDER BY id LIMIT %(most)s
    ) oldest
    WHERE received_at < %(before)s
))
"""

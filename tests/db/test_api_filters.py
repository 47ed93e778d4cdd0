"""Filters of lists: none of them reads a whole table that grows for ever."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from tests.db.api_helpers import V1, errors_of, fill, make_account, make_conversation

pytestmark = pytest.mark.django_db

WIDE = [
    ("messages?since=2026-01-01T00:00:00Z", "since"),
    ("messages?until=2026-01-01T00:00:00Z", "until"),
    ("messages?direction=outbound", "direction"),
    ("messages?is_read=false", "is_read"),
    ("comments?since=2026-01-01T00:00:00Z", "since"),
    ("comments?direction=outbound", "direction"),
    ("comments?ordering=published_at", "ordering"),
    ("comments?ordering=-published_at", "ordering"),
    ("sync-runs?since=2026-01-01T00:00:00Z", "since"),
    ("sync-runs?outcome=failed", "outcome"),
    ("sync-runs?worker_id=w1", "worker_id"),
    ("hook-deliveries?since=2026-01-01T00:00:00Z", "since"),
    ("hook-deliveries?state=refused", "state"),
    ("hook-deliveries?platform=telegram", "platform"),
    ("dead-letters?error=sender", "error"),
    ("dead-letters?error=sender&state=open&state=replayed", "error"),
]


@pytest.mark.parametrize(("path", "name"), WIDE)
def test_no_list_reads_a_whole_table(api_client: APIClient, path: str, name: str) -> None:
    account = fill(accounts=1, each=1)
    assert errors_of(api_client.get(f"{V1}/{path}"), 400) == {name: "too_wide"}
    assert api_client.get(f"{V1}/{path}&account={account.pk}").status_code == 200


MANY = """
INSERT INTO sync_message (account_id, conversation_id, external_id, sender_id, sender_name, text,
                          content_type, attachments, direction, sent_at, is_read, is_deleted)
SELECT c.account_id, c.id, 'many-' || n, 'bob', 'Bob', 'text', 'text', '[]', 'inbound',
       now() - n * interval '1 second', TRUE, FALSE
  FROM sync_conversation AS c CROSS JOIN generate_series(1, 200) AS n;
INSERT INTO sync_post (account_id, external_id, author_id, author_name, title, text, url,
                       published_at, is_deleted)
SELECT a.id, 'many-' || n, 'bob', 'Bob', '', 'text', '', now() - n * interval '1 second', FALSE
  FROM sync_account AS a CROSS JOIN generate_series(1, 200) AS n;
INSERT INTO sync_hookdelivery (account_id, delivery_id, order_key, headers, body, state, error,
                               repeats, received_at)
SELECT a.id, 'many-' || n, '', '{}', '', 'done', '', 0, now() - n * interval '1 second'
  FROM sync_account AS a CROSS JOIN generate_series(1, 200) AS n
 WHERE n <= 10 OR a.id < (SELECT max(id) FROM sync_account);
INSERT INTO sync_conversation (account_id, external_id, title, is_group, last_message_text,
                               last_sender_name, messages_total, unread_count)
SELECT a.id, 'many-' || n, 'Room', FALSE, 'text', 'Bob', 0, 0
  FROM sync_account AS a CROSS JOIN generate_series(1, 200) AS n;
INSERT INTO sync_deadletter (account_id, kind, external_id, identity, shape, raw, size, error,
                             state, replays, resolved_by, created_at)
SELECT a.id, 'message', '', 'many-' || n, 'platform', '', 0, 'no sender',
       CASE n WHEN 1 THEN 'open' ELSE 'replayed' END, 0, '', now() - n * interval '1 hour'
  FROM sync_account AS a CROSS JOIN generate_series(1, 200) AS n;
ANALYZE sync_message, sync_post, sync_hookdelivery, sync_conversation, sync_deadletter;
"""


@pytest.mark.parametrize(
    ("path", "condition"),
    [
        ("messages?account={account}&since={lately}", "(account_id = "),
        ("messages?account={account}&is_read=false", "(account_id = "),
        ("messages?conversation={conversation}&since={lately}", "(conversation_id = "),
        ("posts?since={lately}", "(published_at >= "),
        ("posts?", "post_by_time"),
        ("posts?account={account}&search=ann", "(account_id = "),
        ("conversations?account={account}&search=ann", "(account_id = "),
        ("hook-deliveries?account={account}", "delivery_of_account"),
        ("hook-deliveries?account={account}&since={lately}", "(account_id = "),
        ("hook-deliveries?account={account}&state=refused", "(account_id = "),
        ("hook-deliveries?state=pending", "delivery_pending"),
        ("dead-letters?account={account}&error=nobody", "(account_id = "),
        ("dead-letters?state=open&error=nobody", "dead_letter_open"),
        ("dead-letters?since={lately}", "dead_letter_created"),
        ("dead-letters?since={lately}&error=nobody", "dead_letter_created"),
    ],
)
def test_what_lists_read_comes_from_an_index(
    api_client: APIClient, path: str, condition: str
) -> None:
    """As PostgreSQL plans it for 10,000 rows; a walk along the primary key is a whole read too."""
    for number in range(50):
        conversation = make_conversation(make_account(number))
    with connection.cursor() as cursor:
        cursor.execute(MANY)
    lately = (timezone.now() - timedelta(seconds=10)).strftime("%Y-%m-%dT%H:%M:%SZ")
    named = {"account": conversation.account_id, "conversation": conversation.pk, "lately": lately}
    with CaptureQueriesContext(connection) as captured:
        assert api_client.get(f"{V1}/{path.format(**named)}").status_code == 200
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {captured[-1]['sql']}")
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert condition in plan, plan
    grown = plan.replace("Seq Scan on sync_account", "").replace("sync_account_pkey", "")
    assert "Seq Scan" not in grown, plan  # accounts are few: how they are joined is of no matter
    assert "_pkey" not in grown, plan


MANY_REPLIES = """
INSERT INTO sync_reply (account_id, conversation_id, text, key, state, external_id, error, attempts,
                        created_by, created_at)
SELECT account_id, id, 'Thanks', gen_random_uuid(), CASE n WHEN 1 THEN 'failed' ELSE 'sent' END,
       '', '', 1, 'ann', now() - n * interval '1 hour'
  FROM sync_conversation CROSS JOIN generate_series(1, 5000) AS n;
ANALYZE sync_reply;
"""


@pytest.mark.parametrize(
    ("query", "index"), [("state=failed", "reply_failed"), ("since={lately}", "reply_created")]
)
def test_replies_that_failed_and_new_ones_are_found_by_an_index(
    api_client: APIClient, query: str, index: str
) -> None:
    make_conversation(make_account())
    with connection.cursor() as cursor:
        cursor.execute(MANY_REPLIES)
    lately = (timezone.now() - timedelta(hours=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    with CaptureQueriesContext(connection) as captured:
        assert api_client.get(f"{V1}/replies?{query.format(lately=lately)}").json()["results"]
    listing = next(one["sql"] for one in captured if 'FROM "sync_reply"' in one["sql"])
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {listing}")
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert index in plan, plan
